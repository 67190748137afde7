"""Processes that run the command `read` until they are killed; run by test_kill_read.py.

Arguments: MODEL PATH, and the tokens of a segment and of a kept snapshot. Reads lines with a library's folder and
forks a reader for each, so that the imports are paid once. A reader prints `ready PID` before it begins, and how far
it has read after every chunk; `gone STATUS` follows its end.
"""

import os
import sys
from pathlib import Path

import torch

import sala_core.session.session
from app import cli
from app.commands import read
from app.grammar.parser import parse
from sala_core.events import ReadProgress
from sala_core.session import stream

SESSION = "victim"
_progress_text = read.progress_text


def report(event: ReadProgress) -> str:
    """Tell the parent, in one write, what the reader is told."""
    if event.phase == "reading":
        os.write(1, f"{event.tokens_done}\n".encode())
    return _progress_text(event)


def read_until_killed(folder: Path, model: str, path: str) -> int:
    """Be `launch.py read`; returns its exit code."""
    os.write(1, f"ready {os.getpid()}\n".encode())
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    read.progress_text = report
    common = ["--library", str(folder), "--model", model, "--device", "cpu"]
    return cli.run(parse([*common, "read", SESSION, path]))


def main() -> None:
    """Serve readers until there are no more lines."""
    model, path, segment, snapshot = sys.argv[1:]
    assert sala_core.session.session is not None
    torch.set_num_threads(1)
    stream.SEGMENT_TOKENS, stream.SNAPSHOT_TOKENS = int(segment), int(snapshot)
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            os._exit(read_until_killed(Path(line.strip()), model, path))
        _, status = os.waitpid(child, 0)
        os.write(1, f"gone {os.waitstatus_to_exitcode(status)}\n".encode())


if __name__ == "__main__":
    main()
