"""Processes that read a changed folder and kill themselves at a named step; run by test_kill_change.py.

Arguments: MODEL PATH. Reads lines with a library's folder and the name of a step, "" for none, and forks a reader for
each, so that the imports are paid once. `gone STATUS` follows its end.
"""

import os
import signal
import sys

import torch

import sala_core.session.session
from app import cli
from app.grammar.parser import parse
from sala_core.session import stream
from sala_core.session.state import SessionState
from sala_core.store import sources
from sala_core.store.library import Library
from sala_core.store.states import StateStore

STEPS = {
    "text stored": (Library, "put_document"),
    "parts replaced": (sources, "replace_parts"),
    "head moved back": (sources, "set_head"),
    "old texts kept": (sources, "_keep_cited"),
    "sources replaced": (sources, "_replace_sources"),
    "committed": (Library, "change_stream"),
    "about to prefill": (SessionState, "_restore"),
    "segment stored": (StateStore, "save"),
}
"""Step -> what is called; the process ends when the call has returned."""


def die_after(step: str) -> None:
    """Make the process kill itself at this step."""
    owner, name = STEPS[step]
    function = getattr(owner, name)

    def call(*values: object, **options: object) -> object:
        if step == "about to prefill":
            os.kill(os.getpid(), signal.SIGKILL)
        function(*values, **options)
        os.kill(os.getpid(), signal.SIGKILL)
        return None

    setattr(owner, name, call)


def main() -> None:
    """Serve readers until there are no more lines."""
    model, path = sys.argv[1:]
    assert sala_core.session.session is not None
    torch.set_num_threads(1)
    stream.SEGMENT_TOKENS, stream.SNAPSHOT_TOKENS = 1024, 2048
    for line in sys.stdin:
        folder, step = line.rstrip("\n").split("\t")
        child = os.fork()
        if child == 0:
            sys.stdout = open(os.devnull, "w")  # noqa: SIM115
            if step:
                die_after(step)
            common = ["--library", folder, "--model", model, "--device", "cpu"]
            os._exit(cli.run(parse([*common, "read", "demo", path, "--yes"])))
        _, status = os.waitpid(child, 0)
        os.write(1, f"gone {os.waitstatus_to_exitcode(status)}\n".encode())


if __name__ == "__main__":
    main()
