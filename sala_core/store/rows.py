"""The records that the library takes and returns.

Times are seconds since 1970 in UTC, sizes are bytes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Self

import numpy as np

from sala_core.disk.files import new_id
from sala_core.events import Answer, AnswerStats, Evidence, PromptProgress, ReadProgress, ReadReceipt

JobStatus = Literal["queued", "running", "done", "failed", "stopped", "interrupted"]
JobKind = Literal["read", "reread", "ask"]
SourceStatus = Literal["present", "gone", "unreadable", "removed"]
"""Of a file when its folder was last read. "removed": the user took its document out of the session."""
READING_KINDS: tuple[JobKind, ...] = ("read", "reread")
"""Kinds of jobs that end with a ReadReceipt; the others end with an Answer."""


@dataclass(frozen=True, kw_only=True)
class SessionRow:
    """One session: its stream of tokens and its saved model state."""

    id: str
    name: str
    model: str
    fingerprint: str
    head: str | None
    """Name of the checkpoint that holds the session's state; None where nothing is saved."""
    position: int
    """Tokens that `head` covers; 0 without one."""
    num_tokens: int
    """Tokens in the session's stream. The model still has to read those from `position` on."""
    num_documents: int
    num_messages: int
    created_at: float
    updated_at: float
    bytes_written: int = 0
    """Bytes of state that were ever written to disk for the session."""
    pinned: bool = False
    """Whether it stands at the top of the list."""
    binned_at: float | None = None
    """When it was moved to the bin; None if it is not in it. `name` is the name that it had."""
    system_prompt: str = ""
    """The user's own; "" for the program's."""


@dataclass(frozen=True, kw_only=True)
class DocumentRow:
    """One stored document, without its text."""

    id: str
    name: str
    media_type: str
    num_bytes: int
    num_chars: int
    num_tokens: int
    num_pages: int
    warnings: tuple[str, ...]
    content_hash: str
    tokenizer_fingerprint: str
    file_bytes: int
    created_at: float


@dataclass(frozen=True, kw_only=True)
class SourceRow:
    """A file that a session has read, as it was then."""

    path: str
    """Absolute; the bare name for a file that came through the browser."""
    root: str
    """The file or folder that the user named; "" for a file that came through the browser."""
    name: str
    """Its name in the session. The document can still have an earlier one."""
    content_hash: str
    """Of its document (`Document.content_hash`)."""
    num_bytes: int
    mtime_ns: int
    """-1 if size and time cannot tell whether the file has changed."""
    file_hash: str
    """xxh3-128 of the file's bytes; "" if unknown."""
    status: SourceStatus = "present"
    num_changes: int = 0
    """How often a changed version of the file was read."""

    @property
    def is_upload(self) -> bool:
        """Whether the file came through the browser, which tells no path."""
        return not self.root


@dataclass(frozen=True, kw_only=True)
class PartDraft:
    """A run of tokens to append to a session's stream."""

    kind: str
    token_ids: np.ndarray
    """[n] integers that fit into int32."""
    document_id: str | None = None
    body_start: int = 0
    """Offset within the part at which the document's own tokens begin."""
    message_id: str | None = None


@dataclass(frozen=True, kw_only=True)
class PartRow:
    """A run of tokens in a session's stream; `start` and `end` count from the stream's beginning."""

    ordinal: int
    kind: str
    start: int
    end: int
    document_id: str | None
    body_start: int
    message_id: str | None


@dataclass(frozen=True, kw_only=True)
class MessageDraft:
    """A message to append to a session's conversation."""

    role: str
    text: str
    thinking: str = ""
    status: str = "done"
    evidence: tuple[Evidence, ...] = ()
    stats: AnswerStats | None = None
    """Of an answer; None for a question."""
    id: str = field(default_factory=new_id)


@dataclass(frozen=True, kw_only=True)
class MessageRow:
    """A stored message. `id` is unique within its session, and a fork keeps it."""

    id: str
    role: str
    text: str
    thinking: str
    status: str
    evidence: tuple[Evidence, ...]
    stats: AnswerStats | None
    """Of an answer; None for a question."""
    created_at: float


@dataclass(frozen=True, kw_only=True)
class ReadRequest:
    """Read files and folders into the session, and whatever of its stream is unread."""

    kind: ClassVar[JobKind] = "read"
    paths: tuple[str, ...] = ()
    remove: tuple[str, ...] = ()
    """Ids of documents to take out of the session."""
    left_out: tuple[str, ...] | None = None
    """Names of files that are not wanted, where the user has chosen among all; None where nobody has chosen."""

    def to_json(self) -> dict[str, Any]:
        """The record as JSON types; `left_out` only where somebody has chosen."""
        chosen = {"left_out": list(self.left_out)} if self.left_out is not None else {}
        return {"paths": list(self.paths), "remove": list(self.remove), **chosen}

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Self:
        """The record that `to_json` wrote. Missing keys get defaults, unknown ones are ignored."""
        paths, remove = (tuple(map(str, raw.get(key, ()))) for key in ("paths", "remove"))
        left_out = raw.get("left_out")
        return cls(paths=paths, remove=remove, left_out=None if left_out is None else tuple(map(str, left_out)))


@dataclass(frozen=True, kw_only=True)
class RereadRequest:
    """Read the session's stored tokens again, with the model at hand. Its JSON has the key of a ReadRequest."""

    kind: ClassVar[JobKind] = "reread"

    def to_json(self) -> dict[str, Any]:
        """The record as JSON types."""
        return {"paths": []}

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Self:
        """The record that `to_json` wrote."""
        return cls()


@dataclass(frozen=True, kw_only=True)
class AskRequest:
    """Ask a question."""

    kind: ClassVar[JobKind] = "ask"
    question: str = ""
    instead_of: str | None = None
    """Id of an earlier question or answer, of which this becomes another version."""
    changes: Mapping[str, Any] = field(default_factory=dict)
    """Answer settings that replace the model's own."""

    def to_json(self) -> dict[str, Any]:
        """The record as JSON types; without what it does not set."""
        version = {} if self.instead_of is None else {"instead_of": self.instead_of}
        return {"question": self.question, **version, **({"changes": dict(self.changes)} if self.changes else {})}

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Self:
        """The record that `to_json` wrote. Missing keys get defaults, unknown ones are ignored."""
        version = raw.get("instead_of")
        return cls(
            question=str(raw.get("question", "")),
            instead_of=None if version is None else str(version),
            changes=dict(raw.get("changes") or {}),
        )


JobRequest = ReadRequest | RereadRequest | AskRequest
JobProgress = ReadProgress | PromptProgress
JobResult = ReadReceipt | Answer


@dataclass(frozen=True, kw_only=True)
class JobRow:
    """One piece of work for a session. Its owner is a process, identified by its pid and start time."""

    id: str
    session_id: str
    kind: JobKind
    status: JobStatus
    request: JobRequest
    progress: JobProgress | None
    result: JobResult | None
    error: str | None
    owner_pid: int
    owner_started: float
    created_at: float
    updated_at: float


@dataclass(frozen=True, kw_only=True)
class CheckpointRow:
    """A saved run of tokens [start, end): always a segment, sometimes a snapshot at `end`."""

    name: str
    parent: str | None
    fingerprint: str
    format: int
    start: int
    end: int
    keep: bool
    segment_bytes: int
    segment_checksum: str
    snapshot_bytes: int
    """0 where there is no snapshot."""
    snapshot_checksum: str | None
    created_at: float
    used_at: float

    @property
    def has_snapshot(self) -> bool:
        """Whether reading can continue from `end`."""
        return self.snapshot_checksum is not None

    @property
    def num_bytes(self) -> int:
        """Bytes of both files."""
        return self.segment_bytes + self.snapshot_bytes


@dataclass(frozen=True, kw_only=True)
class Usage:
    """Bytes on disk by kind. `stray_bytes` are files that belong to no row, left by a crash."""

    segments_bytes: int
    snapshots_bytes: int
    documents_bytes: int
    database_bytes: int
    stray_bytes: int

    @property
    def states_bytes(self) -> int:
        """Bytes that eviction can free: segments and snapshots."""
        return self.segments_bytes + self.snapshots_bytes

    @property
    def total_bytes(self) -> int:
        """Everything in the library's folder."""
        return self.states_bytes + self.documents_bytes + self.database_bytes + self.stray_bytes
