"""Measures how much memory a process holds after many questions.

`python tests/measure/memory_growth.py --questions 400` asks one session, `--questions 1000 --sessions 10` ten in turn,
as the page does. One JSON line every twentieth question; the last line compares the end with the twentieth, as it is
and without the state in memory, which grows with the conversation. With
`--plain` what keeps memory small is switched off: oneDNN's and torch's lists of compiled matrix products have their
default length, and freed memory stays with the C library.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import psutil

_EVERY = 20
_QUESTIONS = (
    "Who reads the file?",
    "What does the module about locks do, and who calls it in the program?",
    "Where is the token stream written?",
    "Which file knows about pages and lines, and how?",
    "How is a question answered?",
)


def main() -> None:
    """Read a document into every session, then ask."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--questions", type=int, default=100)
    parser.add_argument("--sessions", type=int, default=1)
    parser.add_argument("--document", type=Path, default=Path(__file__).parents[2] / "sala_core" / "README.md")
    parser.add_argument("--max-tokens", type=int, default=24)
    parser.add_argument("--plain", action="store_true")
    arguments = parser.parse_args()
    if arguments.plain:
        os.environ |= {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "1024", "LRU_CACHE_CAPACITY": "1024"}
    from sala_core.engine import release_memory
    from sala_core.session.workspace import Workspace

    if arguments.plain:
        sys.modules["sala_core.session.session"].release_memory = lambda: False  # type: ignore[attr-defined]
    assert release_memory.release_memory() or sys.platform != "linux", "this C library returns no memory"
    with tempfile.TemporaryDirectory() as folder:
        workspace = Workspace(Path(folder), "embedded", "cpu")
        sessions = [workspace.new_session(f"session {n}").id for n in range(arguments.sessions)]
        for session in sessions:
            _wait(workspace, workspace.submit_read(session, [arguments.document]))
        _ask(workspace, sessions, arguments)
        workspace.close()


def _ask(workspace, sessions: list[str], arguments: argparse.Namespace) -> None:  # type: ignore[no-untyped-def]
    """Ask the sessions in turn, and print the memory."""
    sampling = workspace.model_info().sampling
    assert sampling is not None
    sampling = replace(sampling, max_tokens=arguments.max_tokens)
    process, started, levels = psutil.Process(), time.monotonic(), []
    for number in range(1, arguments.questions + 1):
        text = _QUESTIONS[number % len(_QUESTIONS)] + " really" * (7 * number % 23)
        _wait(workspace, workspace.submit_ask(sessions[number % len(sessions)], text, sampling))
        if number % _EVERY == 0:
            resident = process.memory_info().rss / 2**20
            state = workspace._state_of(sessions[number % len(sessions)]).reserved_bytes / 2**20
            levels.append((resident, resident - state))
            seconds = round(time.monotonic() - started)
            values = {"questions": number, "resident_mib": round(resident), "state_mib": round(state)}
            print(json.dumps(values | {"seconds": seconds}), flush=True)
    first, last = levels[0], levels[-1]
    values = {"after_twenty_mib": round(first[0]), "end_mib": round(last[0]), "ratio": round(last[0] / first[0], 3)}
    print(json.dumps(values | {"ratio_without_state": round(last[1] / first[1], 3)}))


def _wait(workspace, job: str) -> None:  # type: ignore[no-untyped-def]
    """Until a job has ended."""
    while (view := workspace.job(job)).status in ("queued", "running"):
        time.sleep(0.02)
    assert view.status == "done", view.error


if __name__ == "__main__":
    main()
