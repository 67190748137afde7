"""What reading and answering report while they go on, and at their end. Plain data, ready for JSON."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

from sala_core.ingest import SkippedFile

ReadPhase = Literal["preparing", "restoring", "reading"]


@dataclass(frozen=True, kw_only=True)
class ReadProgress:
    """How far a reading is. Tokens count the stream's tokens that this job has to bring into the state."""

    phase: ReadPhase
    file: str
    files_done: int
    files_total: int
    tokens_done: int
    tokens_total: int
    tokens_per_s: float
    seconds_left: float | None

    def to_json(self) -> dict[str, Any]:
        """The record as JSON types."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class ReadReceipt:
    """What a reading did. files, pages, tokens: of the files named, known ones too, each with its header.

    tokens_read: computed by the model just now. tokens_reused: of the whole session, found in the library or read
    before.
    """

    files: int
    pages: int
    tokens: int
    tokens_read: int
    tokens_reused: int
    seconds: float
    skipped: tuple[SkippedFile, ...]
    warnings: tuple[str, ...]
    stopped: bool

    def to_json(self) -> dict[str, Any]:
        """The record as JSON types."""
        return asdict(self) | {
            "skipped": [item.to_json() for item in self.skipped],
            "warnings": list(self.warnings),
        }


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """A place of a document that an answer rests on; lines and pages count from 1. score: its share of what was drawn,
    attention squared."""

    document: str
    document_id: str
    page: int | None
    line_start: int
    line_end: int
    text: str
    score: float

    def to_json(self) -> dict[str, Any]:
        """The record as JSON types."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Quotation:
    """A passage of an answer that stands word for word in a document."""

    text: str
    document: str
    document_id: str
    page: int | None
    line_start: int
    line_end: int

    def to_json(self) -> dict[str, Any]:
        """The record as JSON types."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A finished turn. tokens_reused: in the state before the question; tokens_read: read because of it.
    warnings: damage found on the way, and what was done about it."""

    text: str
    thinking: str
    evidence: tuple[Evidence, ...]
    quotations: tuple[Quotation, ...]
    tokens_reused: int
    tokens_read: int
    tokens_generated: int
    seconds_load: float
    seconds_prefill: float
    seconds_decode: float
    finish_reason: str
    model: str
    warnings: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The record as JSON types."""
        return asdict(self) | {
            "warnings": list(self.warnings),
            "evidence": [item.to_json() for item in self.evidence],
            "quotations": [item.to_json() for item in self.quotations],
        }
