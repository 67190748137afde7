"""What is planned and what it would take, as records that need no model."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from sala_core.ingest import FileChoice, Limits
from sala_core.ingest.load import PasswordOf, no_password
from sala_core.session.planning.shared import FileKey
from sala_core.stopping import never

PlannedState = Literal["new", "known", "changed", "removed", "locked", "skipped"]
"""What a reading does with a file: reads it, has it already, reads it in place of an earlier version, leaves it out
because the user took it out of the session before, cannot open it without a password, or skips it."""


@dataclass(frozen=True, kw_only=True)
class PlannedFile:
    """One file of a plan.

    num_tokens: that it takes in the session's stream, with the header that names it. reason: why it is skipped, or what
    stands in its way. is_made: no file, but the tree of a repository, which the program writes.
    """

    name: str
    state: PlannedState
    num_tokens: int = 0
    num_bytes: int = 0
    num_pages: int = 0
    reason: str = ""
    is_made: bool = False
    content_hash: str = ""
    """Of the document of an earlier version, if there is one."""
    file_hash: str = ""
    """Of its bytes, as `SourceRow.file_hash`; "" where it could not be opened, or is made by the program."""


@dataclass(frozen=True, kw_only=True)
class CountOrder:
    """What is counted, and who is told.

    session_id: whose files are known already; "" for a new session. report: called with each file, in reading order.
    progress: called with the bytes that were gone through so far, and with all. limits: as for the reading.
    """

    paths: tuple[Path, ...]
    report: Callable[[PlannedFile], None]
    session_id: str = ""
    progress: Callable[[int, int], None] = lambda done, total: None
    should_stop: Callable[[], bool] = never
    password_of: PasswordOf = no_password
    limits: Limits = field(default_factory=Limits)
    choice: FileChoice = field(default_factory=FileChoice)


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What reading some files into a session would take.

    tokens: of the session afterwards. tokens_new: of the chosen files. tokens_again: that stand behind a changed file,
    or are unread so far; at most. seconds: None where that cannot be told. is_first: nothing was ever read on this
    machine with this model, so the time follows from a measurement of a second. memory_bytes, disk_bytes: of the whole
    session in memory, and of what is new on disk; with what is free of both. refusal: why it does not fit and what
    helps, or "". tokens_shared: that are not read, because the session `shared_with` has read them.
    """

    tokens: int
    tokens_new: int
    tokens_again: int
    seconds: float | None
    is_first: bool
    memory_bytes: int
    memory_free_bytes: int
    disk_bytes: int
    disk_free_bytes: int
    refusal: str
    tokens_shared: int = 0
    shared_with: str = ""


@dataclass(frozen=True, kw_only=True)
class Additions:
    """What is to be read: tokens, the content hashes of the documents whose place they take, and the files in order."""

    num_tokens: int
    replaced: frozenset[str] = frozenset()
    files: tuple[FileKey, ...] = ()
