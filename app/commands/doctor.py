"""`doctor`: examines machine, card and model, and writes one report that can be attached to a bug report."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from app.commands.live_line import LiveLine
from app.commands.open_session import StopSignals
from app.grammar.doctor import DoctorArguments
from app.grammar.parser import Arguments
from app.wording import duration

if TYPE_CHECKING:
    from sala_core.doctor import CheckDone, Examination, Outcome, ReportWritten


def doctor(arguments: Arguments, folder: Path) -> int:
    """Run every check. Returns 0 if all that ran is right, 1 if a check failed, 128 plus the signal after Ctrl-C.

    folder: of the library. Raises DoctorError for an unknown check, and where the report cannot be written.
    """
    options = arguments.doctor
    assert options is not None
    from sala_core.doctor import CheckDone, CheckStarted, chosen_groups, default_report, examine

    groups = chosen_groups(options.only)
    file = (options.out or default_report()).expanduser().absolute()
    show = _JsonLines() if arguments.json else _Lines()
    failed = False
    with StopSignals() as stop:
        examination = _examination(arguments, options, folder)
        for event in examine(examination, file, groups=groups, should_stop=stop.is_set):
            if isinstance(event, CheckStarted):
                show.started(event.name, event.limit_s)
            elif isinstance(event, CheckDone):
                failed |= event.outcome.status == "failed"
                show.done(event)
            else:
                show.written(event)
    return stop.exit_code or int(failed)


def _examination(arguments: Arguments, options: DoctorArguments, folder: Path) -> Examination:
    from sala_core.doctor import Examination

    model = Path(arguments.model).expanduser()
    return Examination(
        model=str(model.absolute()) if model.is_dir() else arguments.model,
        device=arguments.device,
        kv=arguments.kv_kind,
        library=folder,
        quick=options.quick,
    )


class _Lines:
    """One line for each check, and the failures with what to do about them."""

    def __init__(self) -> None:
        self._live = LiveLine()

    def started(self, name: str, limit_s: float) -> None:
        if sys.stdout.isatty():
            self._live.show(f"{name}: running, at most {duration(limit_s)}")

    def done(self, event: CheckDone) -> None:
        self._live.clear()
        outcome = event.outcome
        remark = f"; {outcome.reason}" if outcome.reason else ""
        print(f"{outcome.name}: {outcome.status}, {duration(outcome.seconds)}{remark}", flush=True)
        if outcome.advice:
            print(f"  What to do: {outcome.advice}", flush=True)

    def written(self, event: ReportWritten) -> None:
        self._live.clear()
        print(f"{_counts(event.outcomes)}. Report: {event.file}", flush=True)
        if event.stopped:
            print("Stopped. The report has the checks that ended before.", flush=True)


class _JsonLines:
    """One JSON object for each check that ends, and one for the report."""

    def started(self, name: str, limit_s: float) -> None:
        print(json.dumps({"event": "started", "name": name, "limit_s": limit_s}), flush=True)

    def done(self, event: CheckDone) -> None:
        print(json.dumps({"event": "done", **event.outcome.to_json()}), flush=True)

    def written(self, event: ReportWritten) -> None:
        result = {"file": str(event.file), "result": _counts(event.outcomes), "stopped": event.stopped}
        print(json.dumps({"event": "report", **result}), flush=True)


def _counts(outcomes: tuple[Outcome, ...]) -> str:
    from sala_core.doctor import summary

    return summary(outcomes)
