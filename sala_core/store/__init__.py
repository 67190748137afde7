"""The library on disk: sessions, documents and chat in SQLite, model states and texts as files beside it.

These names load without torch. The model states, which need it, are in `sala_core.store.states`.
"""

from sala_core.store.library import Library
from sala_core.store.rows import (
    READING_KINDS,
    AskRequest,
    CheckpointRow,
    DocumentRow,
    JobKind,
    JobProgress,
    JobRequest,
    JobResult,
    JobRow,
    JobStatus,
    MessageDraft,
    MessageRow,
    PartDraft,
    PartRow,
    ReadRequest,
    RereadRequest,
    SessionRow,
    SourceRow,
    SourceStatus,
    Usage,
)
from sala_core.store.turns.operations import TurnChange, TurnRow

__all__ = [
    "READING_KINDS",
    "AskRequest",
    "CheckpointRow",
    "DocumentRow",
    "JobKind",
    "JobProgress",
    "JobRequest",
    "JobResult",
    "JobRow",
    "JobStatus",
    "Library",
    "MessageDraft",
    "MessageRow",
    "PartDraft",
    "PartRow",
    "ReadRequest",
    "RereadRequest",
    "SessionRow",
    "SourceRow",
    "SourceStatus",
    "TurnChange",
    "TurnRow",
    "Usage",
]
