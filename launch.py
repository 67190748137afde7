#!/usr/bin/env python3
"""The one command: makes the program's own environment on first run, then runs there.

Only the standard library is used here, and nothing that keeps an older Python from refusing with a sentence.
"""

from __future__ import annotations

import os
import sys

MIN_PYTHON = (3, 11)


def main(argv: list[str]) -> int:
    """Parse `argv`, bring the environment up to date, run the command there; returns the exit code."""
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

    return run(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
