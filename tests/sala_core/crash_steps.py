"""Processes that end, as by kill -9, at a step of an operation on a library; run by test_crash_steps.py.

Reads lines `OPERATION STEP FOLDER` and forks a process for each, so that the modules are imported once. Steps are the
calls of the system and the transactions that the operation makes, counted from 1. Prints `killed` or `done`.
"""

import os
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import made_library

from sala_core.store import Library
from sala_core.store.integrity.repair import repair_library
from sala_core.store.states import StateStore

CALLS = ("write", "fsync", "replace", "rename", "unlink", "open", "mkdir")
STATEMENTS = ("BEGIN", "COMMIT")
KILLED = 77


def turn(library: Library) -> None:
    """Add a turn, with its state."""
    with library.lock_session("tale"):
        made_library.add_turn(library, StateStore(library, made_library.FINGERPRINT), "Later.")


def read(library: Library) -> None:
    """Store a text."""
    library.put_document(made_library.encoded("Another text.\n"), "tokenizer-a")


def evict(library: Library) -> None:
    """Drop all states, and what nothing needs."""
    library.evict(0)
    library.collect_garbage(min_age_s=0)


LIBRARY_WORK: dict[str, Callable[[Library], object]] = {
    "open": lambda library: None,
    "read": read,
    "turn": turn,
    "fork": lambda library: library.fork_session("tale", "third"),
    "rename": lambda library: library.rename_session("tale", "tale of two"),
    "delete": lambda library: library.delete_session("tale"),
    "evict": evict,
    "copy": lambda library: library.keep_copy(),
}


def run(operation: str, folder: Path) -> None:
    """Do one operation. `repair` and `migrate` are given a library that needs it."""
    if operation == "repair":
        for _ in repair_library(folder):
            pass
        return
    with Library.open(folder) as library:
        LIBRARY_WORK.get(operation, LIBRARY_WORK["open"])(library)


def end_at(step: int) -> None:
    """End this process without any cleaning up at the given step."""
    seen = [0]

    def count(statement: str = "BEGIN") -> None:
        if statement.split(None, 1)[0] in STATEMENTS:
            seen[0] += 1
            if seen[0] == step:
                os._exit(KILLED)

    def counted(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            count()
            return real(*arguments, **options)

        return call

    real_connect = sqlite3.connect

    def connect(*arguments: Any, **options: Any) -> sqlite3.Connection:
        connection = real_connect(*arguments, **options)
        connection.set_trace_callback(count)
        return connection

    for name in CALLS:
        setattr(os, name, counted(getattr(os, name)))
    sqlite3.connect = connect  # type: ignore[assignment]


def main() -> None:
    """Serve lines until there are no more."""
    for line in sys.stdin:
        operation, step, folder = line.split()
        child = os.fork()
        if child == 0:
            end_at(int(step))
            run(operation, Path(folder))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        code = os.waitstatus_to_exitcode(status)
        sys.stdout.write({KILLED: "killed", 0: "done"}.get(code, f"failed {code}") + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
