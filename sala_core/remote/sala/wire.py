"""The events of a reading and of an answer on the wire: one JSON object a line, and back to the same records.

The records are those of `sala_core.events`, with `WireToken` in the place of the engine's `Token`, whose module imports
torch. Beside events, a line can tell that the server is at work (`Alive`) or how the job has ended (`End`).
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from sala_core.events import Answer, PromptProgress, ReadProgress, ReadReceipt

PROTOCOL = 1
"""Increment with every change after which an older client or server would misunderstand the other."""

PREFIX = "/engine/v1"
"""Path below which the server's routes are."""

MAX_LINE_BYTES = 64 << 20


@dataclass(frozen=True, kw_only=True)
class WireToken:
    """A `sala_core.engine.generate.Token`, field by field."""

    id: int | None
    text: str
    thinking: bool

    def to_json(self) -> dict[str, Any]:
        """The record as JSON types."""
        return asdict(self)

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> "WireToken":
        """The record that `to_json` wrote."""
        number = raw.get("id")
        return cls(
            id=None if number is None else int(number),
            text=str(raw.get("text", "")),
            thinking=bool(raw.get("thinking", False)),
        )


@dataclass(frozen=True, kw_only=True)
class Alive:
    """Nothing has happened for some seconds, and the server is at work. waiting: why the job has not begun, if so."""

    waiting: str = ""


@dataclass(frozen=True, kw_only=True)
class End:
    """The job is over. status: as in `sala_core.store.JobStatus`. error: for the user. kind: name of its class."""

    status: str
    error: str = ""
    kind: str = ""


WireEvent = ReadProgress | PromptProgress | WireToken | ReadReceipt | Answer
Line = WireEvent | Alive | End

_EVENTS: Mapping[str, tuple[type[WireEvent], Callable[[Mapping[str, Any]], WireEvent]]] = {
    "read_progress": (ReadProgress, ReadProgress.from_json),
    "prompt_progress": (PromptProgress, PromptProgress.from_json),
    "token": (WireToken, WireToken.from_json),
    "read_receipt": (ReadReceipt, ReadReceipt.from_json),
    "answer": (Answer, Answer.from_json),
}
_NAMES = {record: name for name, (record, _) in _EVENTS.items()}


def event_to_json(event: WireEvent) -> dict[str, Any]:
    """An event as JSON types."""
    return {"type": _NAMES[type(event)], "event": event.to_json()}


def event_from_json(raw: Mapping[str, Any]) -> WireEvent:
    """The event that `event_to_json` wrote. Raises ValueError for anything else."""
    kind, event = str(raw.get("type")), raw.get("event")
    if kind not in _EVENTS or not isinstance(event, Mapping):
        raise ValueError(f"{kind[:40]!r} is no event")
    try:
        return _EVENTS[kind][1](event)
    except (TypeError, AttributeError, KeyError, IndexError) as error:
        raise ValueError(f"a broken {kind}: {error}") from error


def to_line(line: Line) -> bytes:
    """A line of the stream, with its line break. Raises ValueError for a number that JSON does not have."""
    if isinstance(line, Alive | End):
        raw = {"type": type(line).__name__.lower(), **asdict(line)}
    else:
        raw = event_to_json(line)
    return json.dumps(raw, ensure_ascii=True, allow_nan=False, separators=(",", ":")).encode() + b"\n"


def from_line(data: bytes) -> Line:
    """The record that `to_line` wrote. Raises ValueError for anything else."""
    try:
        raw = json.loads(data)
    except RecursionError as error:
        raise ValueError("a line is nested too deeply") from error
    if not isinstance(raw, Mapping):
        raise ValueError("a line is no JSON object")
    if raw.get("type") == "alive":
        return Alive(waiting=str(raw.get("waiting", "")))
    if raw.get("type") == "end":
        return End(status=str(raw.get("status", "")), error=str(raw.get("error", "")), kind=str(raw.get("kind", "")))
    return event_from_json(raw)
