"""Runs a group of checks in a process of its own, so that a crash or an endless check loses nothing else."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil

from sala_core.assets import ROOT
from sala_core.doctor.groups import Group
from sala_core.doctor.records import CheckDone, CheckStarted, Examination, Outcome, failed

_POLL_S = 0.05
_END_S = 5.0  # to end a process
_TAIL_CHARS = 3000
_RERUN = "run the command again with no other program busy; if it fails again, attach this report to a bug report"
_OUT_OF_MEMORY_CODES = (-9, 137)


def run_group(
    group: Group, examination: Examination, should_stop: Callable[[], bool]
) -> Iterator[CheckStarted | CheckDone]:
    """Run a group in a new process.

    Yields CheckStarted and CheckDone for every check of the group. Once `should_stop` returns true the process is
    ended, and the checks without an outcome yield "not run". The same holds if the iterator is closed, without events.
    """
    names = list(group.names)
    if should_stop():
        yield from (CheckDone(outcome=_stopped(name)) for name in names)
        return
    with TemporaryDirectory(prefix="sala-doctor-", ignore_cleanup_errors=True) as folder:
        lines, errors = Path(folder) / "outcomes", Path(folder) / "stderr"
        lines.touch()
        yield CheckStarted(name=names[0], limit_s=group.limit_s)
        began = last = time.monotonic()
        with errors.open("wb") as stderr:
            process = _start(group, examination, lines, stderr)
        try:
            with lines.open(encoding="utf-8") as reader:
                ended, unread = False, ""
                while names and not ended:
                    ended = _wait(process) or should_stop() or time.monotonic() - began > group.limit_s
                    whole, _, unread = (unread + reader.read()).rpartition("\n")
                    for outcome in _outcomes(whole):
                        names.remove(outcome.name)
                        yield CheckDone(outcome=outcome)
                        last = time.monotonic()
                        if names:
                            yield CheckStarted(name=names[0], limit_s=group.limit_s)
            code = process.poll()
        finally:
            _end(process)
        for name in names:
            seconds = time.monotonic() - last if name == names[0] else 0.0
            lost = _stopped(name) if should_stop() else _lost(name, names[0], code, group, _tail(errors))
            yield CheckDone(outcome=replace(lost, seconds=seconds))


def _start(group: Group, examination: Examination, lines: Path, stderr: object) -> "subprocess.Popen[bytes]":
    """Start the process. It works in the program's folder, so that no file of the user's folder is imported."""
    values = [json.dumps(record.to_json()) for record in (group, examination)]
    command = [sys.executable, "-X", "faulthandler", "-m", "sala_core.doctor", str(lines), *values]
    return subprocess.Popen(
        command,
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=stderr,  # type: ignore[call-overload]  # an open file
        stderr=stderr,
        start_new_session=True,  # Ctrl-C reaches this process alone, which then ends the other one
    )


def _wait(process: "subprocess.Popen[bytes]") -> bool:
    """Wait a moment; whether the process has ended."""
    try:
        process.wait(_POLL_S)
    except subprocess.TimeoutExpired:
        return False
    return True


def _outcomes(text: str) -> Iterator[Outcome]:
    for line in text.splitlines():
        yield Outcome(**json.loads(line))


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Kill the process and those that it started."""
    if process.poll() is not None:
        return
    with suppress(psutil.NoSuchProcess):
        own = psutil.Process(process.pid)
        tree = [*own.children(recursive=True), own]
        for each in tree:
            with suppress(psutil.NoSuchProcess):
                each.kill()
        psutil.wait_procs(tree[:-1], _END_S)
    process.wait()


def _tail(file: Path) -> str:
    """The end of the error output, in whole lines."""
    text = file.read_text(encoding="utf-8", errors="replace").strip()
    return text if len(text) <= _TAIL_CHARS else text[-_TAIL_CHARS:].partition("\n")[2]


def _stopped(name: str) -> Outcome:
    return Outcome(name=name, status="not run", reason="the examination was stopped")


def _lost(name: str, first: str, code: int | None, group: Group, tail: str) -> Outcome:
    """The outcome of a check whose process gave none. code: its exit code; None if it ran too long."""
    if name != first:
        return Outcome(name=name, status="not run", reason=f"{first} ended the process that this check shares")
    if code is None:
        return failed(name, f"did not end within {group.limit_s:.0f} s, so its process was ended", _RERUN, text=tail)
    if code == 0:
        return failed(name, "its process ended without an outcome", _RERUN, text=tail)
    if code in _OUT_OF_MEMORY_CODES:
        reason = f"its process was killed (exit code {code}), as the system does when memory runs out"
        return failed(name, reason, "close other programs, then run the command again", text=tail)
    return failed(name, f"its process ended with {_code_name(code)}", _advice(code, tail), text=tail)


def _code_name(code: int) -> str:
    """-11 -> "signal SIGSEGV"; 1 -> "exit code 1"."""
    try:
        return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    except ValueError:
        return f"exit code {code}"


def _advice(code: int, tail: str) -> str:
    """What to do about a process that ended with an error."""
    if "illegal memory access" in tail or "device-side assert" in tail:
        return "this is an error in a kernel: attach this report to a bug report, and use --device cpu until then"
    if code < 0:
        return "update the driver of the card and run setup again; if it stays, attach this report to a bug report"
    return _RERUN
