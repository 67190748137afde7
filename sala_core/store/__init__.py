"""The library on disk: sessions, documents and chat in SQLite, model states and texts as files beside it."""

from sala_core.store.library import Library
from sala_core.store.rows import (
    CheckpointRow,
    DocumentRow,
    JobRow,
    JobStatus,
    MessageDraft,
    MessageRow,
    PartDraft,
    PartRow,
    SessionRow,
    Usage,
)
from sala_core.store.states import StateStore

__all__ = [
    "CheckpointRow",
    "DocumentRow",
    "JobRow",
    "JobStatus",
    "Library",
    "MessageDraft",
    "MessageRow",
    "PartDraft",
    "PartRow",
    "SessionRow",
    "StateStore",
    "Usage",
]
