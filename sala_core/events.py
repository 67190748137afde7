"""What reading and answering report on the way and at their end.

The same frozen records go from the engine to the page, and into the library as JSON. `to_json` returns JSON types,
whose keys are the names of the fields. `from_json` reads them back: it ignores keys that it does not know, and gives
missing ones the value that the page shows for "unknown".
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, Self, get_args

from sala_core.attention_map import AttentionMap
from sala_core.ingest import SkippedFile
from sala_core.written_by import WrittenBy

ReadPhase = Literal["preparing", "restoring", "reading"]
_READ_PHASES: Mapping[str, ReadPhase] = {phase: phase for phase in get_args(ReadPhase)}
_QUESTION_PHASE = "question"
_RARE = ("attention_map", "document_tokens_read", "read_so_far", "confidence", "written_by")
_ASK_FROM_TOKENS = 32_768
_ASK_FROM_PART = 10
"""A user is asked where more tokens than these, and more than a tenth of the session, are read again."""


@dataclass(frozen=True, kw_only=True)
class ReadProgress:
    """Progress of a reading. Tokens are positions in the session's stream."""

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

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Self:
        """The record that `to_json` wrote."""
        return cls(
            phase=_READ_PHASES.get(str(raw.get("phase")), "reading"),
            file=str(raw.get("file", "")),
            files_done=int(raw.get("files_done", 0)),
            files_total=int(raw.get("files_total", 0)),
            tokens_done=int(raw.get("tokens_done", 0)),
            tokens_total=int(raw.get("tokens_total", 0)),
            tokens_per_s=float(raw.get("tokens_per_s") or 0),
            seconds_left=_optional_float(raw.get("seconds_left")),
        )


@dataclass(frozen=True, kw_only=True)
class PromptProgress:
    """Tokens of a prompt that are prefilled so far.

    reader: the engine elsewhere that does it; "" for the model here. note: what the user should know of its cost.
    """

    tokens_done: int
    tokens_total: int
    reader: str = ""
    note: str = ""

    def to_json(self) -> dict[str, Any]:
        """The record as JSON types, with the phase by which `progress_from_json` recognizes it; without empty words."""
        return {"phase": _QUESTION_PHASE} | {name: value for name, value in asdict(self).items() if value != ""}

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Self:
        """The record that `to_json` wrote."""
        done, total = (int(raw.get(key, 0)) for key in ("tokens_done", "tokens_total"))
        reader, note = (str(raw.get(key, "")) for key in ("reader", "note"))
        return cls(tokens_done=done, tokens_total=total, reader=reader, note=note)


@dataclass(frozen=True, kw_only=True)
class DeviceNote:
    """What the user should know about the device that was chosen: why it is not the card, or which card it is."""

    text: str


@dataclass(frozen=True, kw_only=True)
class KernelProgress:
    """Kernels that are compiled so far for this card, the first time that the program meets it."""

    kernels_done: int
    kernels_total: int


LoadEvent = DeviceNote | KernelProgress
"""What loading a model reports."""


def progress_from_json(raw: Mapping[str, Any]) -> ReadProgress | PromptProgress | None:
    """The progress that one of the two `to_json` wrote; None for {}, when nothing was reported yet."""
    if not raw:
        return None
    return PromptProgress.from_json(raw) if raw.get("phase") == _QUESTION_PHASE else ReadProgress.from_json(raw)


@dataclass(frozen=True, kw_only=True)
class ReadPlan:
    """What a reading is about to change in a session, and what that costs. Documents are told by name.

    unchanged: number of files that are in the session as they are. moved: "old -> new" of files that were only renamed.
    gone: files that are not there any more, and whose text stays. removed: documents that are taken out.
    tokens: of the session afterwards. tokens_read: those that are then prefilled. tokens_new: those of them that belong
    to new or changed documents; the others stand behind the first change, or are unread.
    """

    unchanged: int = 0
    new: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    moved: tuple[str, ...] = ()
    gone: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    tokens: int = 0
    tokens_read: int = 0
    tokens_new: int = 0

    @property
    def tokens_again(self) -> int:
        """Tokens that were part of the session before, and are prefilled."""
        return self.tokens_read - self.tokens_new

    @property
    def is_costly(self) -> bool:
        """Whether so much is read again that a user should be asked."""
        again = self.tokens_again
        return bool(self.changed or self.removed) and again > _ASK_FROM_TOKENS and again * _ASK_FROM_PART > self.tokens

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Self:
        """The record that `asdict` gives. Missing keys get defaults, unknown ones are ignored."""
        names = {key: tuple(map(str, raw.get(key, ()))) for key in ("new", "changed", "moved", "gone", "removed")}
        counts = {key: int(raw.get(key, 0)) for key in ("unchanged", "tokens", "tokens_read", "tokens_new")}
        return cls(**names, **counts)  # type: ignore[arg-type]


@dataclass(frozen=True, kw_only=True)
class ReadReceipt:
    """The summary of a reading.

    files, pages, tokens: of all named files, the known ones too; tokens include each file's header. tokens_read: what
    the model has prefilled in this reading. tokens_reused: tokens of the session whose state was in memory or in the
    library; tokens_shared of them had only been read in another session, called `shared_with`. plan: what was to be
    changed. is_declined: the user did not agree to the plan, and nothing was changed.
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
    tokens_shared: int = 0
    shared_with: str = ""
    plan: ReadPlan = ReadPlan()
    is_declined: bool = False

    def to_json(self) -> dict[str, Any]:
        """The record as JSON types."""
        return asdict(self) | {
            "skipped": [item.to_json() for item in self.skipped],
            "warnings": list(self.warnings),
        }

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Self:
        """The record that `to_json` wrote."""
        return cls(
            files=int(raw.get("files", 0)),
            pages=int(raw.get("pages", 0)),
            tokens=int(raw.get("tokens", 0)),
            tokens_read=int(raw.get("tokens_read", 0)),
            tokens_reused=int(raw.get("tokens_reused", 0)),
            seconds=float(raw.get("seconds", 0)),
            skipped=tuple(SkippedFile.from_json(item) for item in raw.get("skipped", ())),
            warnings=tuple(map(str, raw.get("warnings", ()))),
            stopped=bool(raw.get("stopped", False)),
            tokens_shared=int(raw.get("tokens_shared", 0)),
            shared_with=str(raw.get("shared_with", "")),
            plan=ReadPlan.from_json(raw.get("plan", {})),
            is_declined=bool(raw.get("is_declined", False)),
        )


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """A passage of a document that the model attended to while it answered, or that the finder ranked.

    Lines, pages and rows count from 1. score: the passage's share of the squared attention that all document tokens
    received, or of the finder's chance that it answers. rows: first and last row of a table, the header counted; None
    in other documents. header: the names of its columns, also of a sheet.
    """

    document: str
    document_id: str
    page: int | None
    line_start: int
    line_end: int
    text: str
    score: float
    rows: tuple[int, int] | None = None
    header: str = ""

    def to_json(self) -> dict[str, Any]:
        """The record as JSON types; without rows and header where it has none."""
        raw = asdict(self)
        rows, header = raw.pop("rows"), raw.pop("header")
        return raw | ({"rows": list(rows)} if rows else {}) | ({"header": header} if rows or header else {})

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Self:
        """The record that `to_json` wrote."""
        return cls(
            document=str(raw.get("document", "")),
            document_id=str(raw.get("document_id", "")),
            page=_optional_int(raw.get("page")),
            line_start=int(raw.get("line_start", 1)),
            line_end=int(raw.get("line_end", 1)),
            text=str(raw.get("text", "")),
            score=float(raw.get("score", 0)),
            rows=(int(rows[0]), int(rows[1])) if (rows := raw.get("rows")) else None,
            header=str(raw.get("header", "")),
        )


@dataclass(frozen=True, kw_only=True)
class Quotation:
    """A passage of an answer that stands word for word in a document. Lines and pages count from 1."""

    text: str
    document: str
    document_id: str
    page: int | None
    line_start: int
    line_end: int

    def to_json(self) -> dict[str, Any]:
        """The record as JSON types."""
        return asdict(self)

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Self:
        """The record that `to_json` wrote."""
        return cls(
            text=str(raw.get("text", "")),
            document=str(raw.get("document", "")),
            document_id=str(raw.get("document_id", "")),
            page=_optional_int(raw.get("page")),
            line_start=int(raw.get("line_start", 1)),
            line_end=int(raw.get("line_end", 1)),
        )


@dataclass(frozen=True, kw_only=True)
class AnswerStats:
    """What a message keeps of its answer, beside text, thinking and evidence. Fields as in Answer; None: unknown."""

    quotations: tuple[Quotation, ...] = ()
    tokens_reused: int = 0
    tokens_read: int = 0
    tokens_generated: int | None = None
    seconds_load: float | None = None
    seconds_prefill: float | None = None
    seconds_decode: float | None = None
    finish_reason: str = ""
    model: str = ""
    warnings: tuple[str, ...] = ()
    think: bool | None = None
    thinking_budget: int | None = None
    tokens_thinking: int = 0
    seconds_thinking: float | None = None
    thinking_end: str = ""
    attention_map: AttentionMap | None = None
    document_tokens_read: int | None = None
    read_so_far: tuple[int, int] | None = None
    confidence: float | None = None
    written_by: WrittenBy | None = None

    def to_json(self) -> dict[str, Any]:
        """The record as JSON types; without the last five fields where they are None."""
        raw = asdict(self) | {"quotations": [item.to_json() for item in self.quotations], "warnings": [*self.warnings]}
        rare = {name: raw.pop(name) for name in _RARE}
        rare["read_so_far"] = None if self.read_so_far is None else list(self.read_so_far)
        return raw | {name: value for name, value in rare.items() if value is not None}

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Self:
        """The record that `to_json` wrote."""
        return cls(
            quotations=tuple(Quotation.from_json(item) for item in raw.get("quotations", ())),
            tokens_reused=int(raw.get("tokens_reused", 0)),
            tokens_read=int(raw.get("tokens_read", 0)),
            tokens_generated=_optional_int(raw.get("tokens_generated")),
            seconds_load=_optional_float(raw.get("seconds_load")),
            seconds_prefill=_optional_float(raw.get("seconds_prefill")),
            seconds_decode=_optional_float(raw.get("seconds_decode")),
            finish_reason=str(raw.get("finish_reason", "")),
            model=str(raw.get("model", "")),
            warnings=tuple(map(str, raw.get("warnings", ()))),
            think=None if raw.get("think") is None else bool(raw["think"]),
            thinking_budget=_optional_int(raw.get("thinking_budget")),
            tokens_thinking=int(raw.get("tokens_thinking", 0)),
            seconds_thinking=_optional_float(raw.get("seconds_thinking")),
            thinking_end=str(raw.get("thinking_end", "")),
            attention_map=AttentionMap.from_json(raw.get("attention_map")),
            document_tokens_read=_optional_int(raw.get("document_tokens_read")),
            read_so_far=(int(so_far[0]), int(so_far[1])) if (so_far := raw.get("read_so_far")) else None,
            confidence=_optional_float(raw.get("confidence")),
            written_by=WrittenBy.from_json(raw.get("written_by")),
        )


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A finished turn.

    tokens_reused: tokens in the state before the question. tokens_read: tokens prefilled because of it.
    tokens_generated: with thinking and copies. think: what was asked for; None as the model has it. thinking_budget:
    the limit of thinking, None for a model that cannot think. tokens_thinking, seconds_thinking, thinking_end: of the
    thinking; 0, None and "" if there was none (`sala_core.engine.generate.ThinkingEnd`; "" as well if the answer was
    stopped after it). With finish_reason "repetition", `text` and the session's stream are without the copies at its
    end. warnings: damage that was found on the way, and what was done about it. attention_map: None if none was seen.
    """

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
    think: bool | None = None
    thinking_budget: int | None = None
    tokens_thinking: int = 0
    seconds_thinking: float | None = None
    thinking_end: str = ""
    attention_map: AttentionMap | None = None
    document_tokens_read: int | None = None
    """Tokens of documents that were prefilled for another version of a turn; None for a first version."""
    read_so_far: tuple[int, int] | None = None
    """Tokens that a model knew when it answered during a reading, and those of the session; None otherwise."""
    confidence: float | None = None
    """Of a model that only finds: the chance that its first quotation answers the question, 0 ... 1; None otherwise."""
    written_by: WrittenBy | None = None
    """The engine elsewhere that wrote it; None for the session's own model."""

    @property
    def stats(self) -> AnswerStats:
        """What a message keeps beside text, thinking and evidence."""
        return AnswerStats(**{each.name: getattr(self, each.name) for each in fields(AnswerStats)})

    def to_json(self) -> dict[str, Any]:
        """The record as JSON types."""
        evidence = [item.to_json() for item in self.evidence]
        return {"text": self.text, "thinking": self.thinking, "evidence": evidence} | self.stats.to_json()

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Self:
        """The record that `to_json` wrote."""
        stats = AnswerStats.from_json(raw)
        known = {each.name: getattr(stats, each.name) for each in fields(stats)}
        known = {"tokens_generated": 0, "seconds_load": 0.0, "seconds_prefill": 0.0, "seconds_decode": 0.0} | {
            name: value for name, value in known.items() if value is not None
        }
        return cls(
            text=str(raw.get("text", "")),
            thinking=str(raw.get("thinking", "")),
            evidence=tuple(Evidence.from_json(item) for item in raw.get("evidence", ())),
            **known,
        )


def _optional_int(value: Any) -> int | None:
    return None if value is None else int(value)


def _optional_float(value: Any) -> float | None:
    return None if value is None else float(value)
