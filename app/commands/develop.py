"""`test` and `check`: commands for work on the program itself."""

import os
import subprocess
import sys
import time
from pathlib import Path

from app.grammar.parser import Arguments
from sala_core.assets import ROOT

_MAX_TEST_PROCESSES = 4  # each one loads Python and torch and, for tests of the page, starts a browser
_CHECKS = (
    ["ruff", "check", "."],
    ["ruff", "format", "--check", "."],
    ["mypy"],
    ["pytest", "tests/test_architecture.py"],
)


def run_tests(arguments: Arguments, _folder: Path) -> int:
    """Run pytest in the repository, in several processes. Return pytest's exit code."""
    num_processes = min(_MAX_TEST_PROCESSES, os.cpu_count() or 1)
    command = [sys.executable, "-m", "pytest", f"--numprocesses={num_processes}", "--dist=loadfile"]
    return subprocess.run([*command, *arguments.pytest_args], cwd=ROOT, check=False).returncode


def check(_arguments: Arguments, _folder: Path) -> int:
    """Run every check in the repository and print a line for each. Return 0 if all of them pass, otherwise 1.

    The output of a check is printed only if it fails.
    """
    passed = [_passes(command) for command in _CHECKS]
    return 0 if all(passed) else 1


def _passes(command: list[str]) -> bool:
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    result = "failed" if done.returncode else "passed"
    print(f"{' '.join(command)}: {result} in {time.monotonic() - started:.1f} s", flush=True)
    if done.returncode:
        print(done.stdout.rstrip(), flush=True)
    return done.returncode == 0
