"""The records that the library hands out and takes in.

Times are seconds since 1970 in UTC, sizes are bytes.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from sala_core.disk.files import new_id

JobStatus = Literal["queued", "running", "done", "failed", "stopped", "interrupted"]


@dataclass(frozen=True, kw_only=True)
class SessionRow:
    """One session: what it has read and where its model state stands."""

    id: str
    name: str
    model: str
    fingerprint: str
    head: str | None
    """Name of the checkpoint the session's state stands on; None where nothing is saved."""
    position: int
    """Tokens covered by `head`; 0 without one."""
    num_tokens: int
    """Tokens in the session's stream; those after `position` have to be read again."""
    num_documents: int
    num_messages: int
    created_at: float
    updated_at: float


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
    evidence: list[dict[str, Any]] = field(default_factory=list)
    stats: dict[str, Any] = field(default_factory=dict)
    id: str = field(default_factory=new_id)


@dataclass(frozen=True, kw_only=True)
class MessageRow:
    """A stored message. `id` is unique within its session, and a fork keeps it."""

    id: str
    role: str
    text: str
    thinking: str
    status: str
    evidence: list[dict[str, Any]]
    stats: dict[str, Any]
    created_at: float


@dataclass(frozen=True, kw_only=True)
class JobRow:
    """One piece of work for a session; its owner is a process, told by its pid and start time."""

    id: str
    session_id: str
    kind: str
    status: JobStatus
    request: dict[str, Any]
    progress: dict[str, Any]
    result: dict[str, Any] | None
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
        """Whether reading can go on from `end`."""
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
        """What eviction can free: segments and snapshots."""
        return self.segments_bytes + self.snapshots_bytes

    @property
    def total_bytes(self) -> int:
        """Everything in the library's folder."""
        return self.states_bytes + self.documents_bytes + self.database_bytes + self.stray_bytes
