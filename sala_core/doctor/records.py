"""The records of an examination: what is examined, the outcome of each check, and the events on the way."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

Status = Literal["ok", "failed", "not possible here", "not run"]
STATUSES: tuple[Status, ...] = ("ok", "failed", "not possible here", "not run")
Figure = str | int | float | bool | None


@dataclass(frozen=True, kw_only=True)
class Examination:
    """What is examined. Paths are absolute, because every check runs in another working directory.

    Attributes:
        model: "embedded", a folder, or the name of a downloaded model.
        device: "auto", "cpu" or "cuda".
        kv: number format of keys and values: "auto", "plain", "int8" or "fp8".
        library: folder of the library, which need not exist.
        quick: fewer comparisons and shorter texts.
    """

    model: str
    device: str
    kv: str
    library: Path
    quick: bool

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {**asdict(self), "library": str(self.library)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Examination":
        """From what `to_json` returned."""
        return cls(**{**values, "library": Path(values["library"])})


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The result of one check.

    Attributes:
        name: of the check.
        status: whether what ran is right; "not run" after Ctrl-C.
        reason: what failed, with the value seen, or why the check is not possible here.
        advice: what the user can do about a failure.
        figures: what was seen, by name.
        text: lines for the report that are no figures: an answer, the end of an error output.
        seconds: time that the check took.
    """

    name: str
    status: Status
    reason: str = ""
    advice: str = ""
    figures: Mapping[str, Figure] = field(default_factory=dict)
    text: str = ""
    seconds: float = 0.0

    def __post_init__(self) -> None:
        if self.status not in STATUSES:
            raise ValueError(f"an outcome has no status {self.status!r}; choose from {', '.join(STATUSES)}")
        if self.status == "failed" and not (self.reason and self.advice):
            raise ValueError(f"{self.name}: a failure needs a reason and an advice")

    def to_json(self) -> dict[str, Any]:
        """As JSON values, without empty fields."""
        figures = {name: _as_json(value) for name, value in self.figures.items()}
        values = {**asdict(self), "figures": figures, "seconds": round(self.seconds, 2)}
        return {name: value for name, value in values.items() if value not in ("", {})}


def _as_json(figure: Figure) -> Figure:
    """JSON has no infinity and no NaN; they become words."""
    return str(figure) if isinstance(figure, float) and not math.isfinite(figure) else figure


def ok(name: str, figures: Mapping[str, Figure], *, reason: str = "", text: str = "") -> Outcome:
    """The outcome of a check that found everything right.

    Args:
        name: of the check.
        figures: what was seen.
        reason: a restriction, such as "12 of 20 compared".
        text: further lines for the report.
    """
    return Outcome(name=name, status="ok", figures=figures, reason=reason, text=text)


def failed(name: str, reason: str, advice: str, figures: Mapping[str, Figure] | None = None, text: str = "") -> Outcome:
    """The outcome of a check that found something wrong.

    Args:
        name: of the check.
        reason: what is wrong, with the value seen.
        advice: what the user can do.
        figures: what was seen.
        text: further lines for the report.
    """
    return Outcome(name=name, status="failed", reason=reason, advice=advice, figures=figures or {}, text=text)


def not_possible(name: str, reason: str, figures: Mapping[str, Figure] | None = None) -> Outcome:
    """The outcome of a check that this machine, or this model, does not allow."""
    return Outcome(name=name, status="not possible here", reason=reason, figures=figures or {})


@dataclass(frozen=True, kw_only=True)
class CheckStarted:
    """A check begins. limit_s: it is ended after this time."""

    name: str
    limit_s: float


@dataclass(frozen=True, kw_only=True)
class CheckDone:
    """A check has ended. Its words are free of private names and paths."""

    outcome: Outcome


@dataclass(frozen=True, kw_only=True)
class ReportWritten:
    """The report is on disk, with the outcomes so far if the examination was stopped."""

    file: Path
    outcomes: tuple[Outcome, ...]
    stopped: bool


Event = CheckStarted | CheckDone | ReportWritten
