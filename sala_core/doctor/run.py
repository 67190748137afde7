"""Runs all groups of checks, and writes the report after each of them."""

import os
import time
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path

from sala_core.doctor.child import run_group
from sala_core.doctor.groups import GROUPS, Group
from sala_core.doctor.private import Privacy
from sala_core.doctor.records import CheckDone, CheckStarted, Event, Examination, Outcome, ReportWritten
from sala_core.doctor.report import write_report
from sala_core.errors import DoctorError
from sala_core.stopping import never

_PACKAGE = "sala-desktop"


def default_report() -> Path:
    """Where the report goes unless the user names a file: the working directory, with date and time in the name."""
    return Path(time.strftime("sala-doctor-%Y%m%d-%H%M%S.md")).absolute()


def examine(
    examination: Examination,
    file: Path,
    *,
    groups: tuple[Group, ...] = GROUPS,
    should_stop: Callable[[], bool] = never,
) -> Iterator[Event]:
    """Run every check, and write the report after each, so that whatever ends the program loses none before it.

    Yields CheckStarted and CheckDone for each check, and ReportWritten at the end.

    Args:
        examination: what is examined.
        file: the report. An existing file is replaced.
        groups: the checks.
        should_stop: polled while a check runs; once true, the remaining checks are not run.

    Raises DoctorError before any check if the report cannot be written, LibraryError if the disk is full later.
    """
    _require_writable(file)
    privacy = Privacy.here(examination, file.parent)
    head = {"date": time.strftime("%Y-%m-%d %H:%M"), "version": version()}
    outcomes: list[Outcome] = []
    for group in groups:
        for event in run_group(group, examination, should_stop):
            if isinstance(event, CheckStarted):
                yield event
                continue
            outcomes.append(privacy.clean_outcome(event.outcome))
            write_report(file, examination, outcomes, head)
            yield CheckDone(outcome=outcomes[-1])
    yield ReportWritten(file=file, outcomes=tuple(outcomes), stopped=should_stop())


def version() -> str:
    """The version of the program, as installed."""
    try:
        return metadata.version(_PACKAGE)
    except metadata.PackageNotFoundError:
        return "unknown"


def _require_writable(file: Path) -> None:
    """Raise DoctorError unless the report can be written."""
    folder = file.parent
    if file.is_dir():
        raise DoctorError(f"{file} is a folder; give --out the name of a file")
    if not folder.is_dir():
        raise DoctorError(f"there is no folder {folder} for the report; create it, or choose another --out FILE")
    if not os.access(folder, os.W_OK):
        raise DoctorError(f"no file can be written to {folder}; choose another place with --out FILE")
