#!/usr/bin/env python3
"""The program's one entry point. It creates the program's own environment on the first run and then runs in it.

This file uses only the standard library, and only syntax that old Python versions can parse: they must still be able
to print that they are too old.
"""

from __future__ import annotations

import os
import sys

MIN_PYTHON = (3, 11)


def main(argv: list[str]) -> int:
    """Parse `argv`, bring the environment up to date and run the command in it. Return the exit code."""
    if sys.version_info < MIN_PYTHON:
        found = ".".join(map(str, sys.version_info[:3]))
        sys.stderr.write(f"error: Python 3.11 or later is needed; this is {found} ({sys.executable})\n")
        return 1
    from app.grammar.parser import parse
    from app.setup.environment import SetupError, enter

    arguments = parse(argv)
    try:
        code = enter(arguments, os.path.abspath(__file__), argv)
    except SetupError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("\nStopped; run the same command again to continue the installation.\n")
        return 130
    if code is not None:
        return code
    from app.cli import run
    from app.setup.collector import leave_to_the_system

    code = run(arguments)
    leave_to_the_system()
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
