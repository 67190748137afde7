"""Processes that end, as by kill -9, at a step of an operation on a library; run by test_crash_steps.py.

Reads lines `STEP FOLDER OPERATION` and forks a process for each, so that the modules are imported once. Steps are the
calls of the system, those of SQLite among them, and the transactions that the operation makes, counted from 1. Prints
`killed`, or `done` and how many there were.
"""

import itertools
import os
import sqlite3
import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from library_operations import run
from sqlite_calls import GO_ON, watched

CALLS = ("write", "fsync", "replace", "rename", "unlink", "open", "mkdir")
STATEMENTS = ("BEGIN", "COMMIT")
KILLED = 77
_FIRST_ID = 0xA0000000000000000000000000000000


def same_ids(patch: Any = None) -> None:
    """Let this process choose the same new ids as any other that does the same.

    patch: pytest's monkeypatch, which takes that back; None for a process that ends.
    """
    numbers = itertools.count(_FIRST_ID)
    (setattr if patch is None else patch.setattr)(uuid, "uuid4", lambda: uuid.UUID(int=next(numbers)))


def end_at(step: int, seen: list[int]) -> Callable[..., int]:
    """End this process without any cleaning up at the given step. Returns what watches SQLite's calls.

    seen: counts the steps in its only element.
    """

    def count(*_: object) -> int:
        seen[0] += 1
        if seen[0] == step:
            os._exit(KILLED)
        return GO_ON

    def counted(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            count()
            return real(*arguments, **options)

        return call

    def count_statement(statement: str) -> None:
        if statement.split(None, 1)[0] in STATEMENTS:
            count()

    real_connect = sqlite3.connect

    def connect(*arguments: Any, **options: Any) -> sqlite3.Connection:
        connection = real_connect(*arguments, **options)
        connection.set_trace_callback(count_statement)
        return connection

    for name in CALLS:
        setattr(os, name, counted(getattr(os, name)))
    sqlite3.connect = connect  # type: ignore[assignment]
    return count


def run_until(step: int, operation: str, folder: Path) -> None:
    """Do an operation, and end this process: at a step of it, or with 0 after it."""
    same_ids()
    seen, write = [0], os.write
    with watched(end_at(step, seen)):
        run(operation, folder)
    write(sys.stdout.fileno(), f"done {seen[0]}\n".encode())
    os._exit(0)


def main() -> None:
    """Serve lines until there are no more."""
    for line in sys.stdin:
        step, folder, operation = line.rstrip("\n").split(" ", 2)
        child = os.fork()
        if child == 0:
            run_until(int(step), operation, Path(folder))
        _, status = os.waitpid(child, 0)
        code = os.waitstatus_to_exitcode(status)
        if code != 0:
            sys.stdout.write("killed\n" if code == KILLED else f"failed {code}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
