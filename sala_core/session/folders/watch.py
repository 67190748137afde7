"""Watches folders for changes, and survives what editors, version control and systems do to them."""

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from watchfiles import watch
from watchfiles._rust_notify import WatchfilesRustInternalError

from sala_core.errors import IngestError
from sala_core.ingest import FileChoice, FoundFile, Limits, walk
from sala_core.session.folders.survey import Survey
from sala_core.store import Library

_QUIET_MS = 300
"""A batch ends when nothing has changed for so long."""
_LONGEST_BATCH_MS = 3_000
_TICK_MS = 1_000
POLL_MS = 2_000
"""How often a folder is compared that the system cannot watch."""
_LIMITS = ("watch limit", "Too many open files", "os error 24", "os error 28", "No space left")
REMEDY = "raise it with: sudo sysctl fs.inotify.max_user_watches=1048576 fs.inotify.max_user_instances=1024"


class Stop(Protocol):
    """Says when to stop watching; a `threading.Event` does."""

    def is_set(self) -> bool:
        """Whether to stop."""
        ...


@dataclass(frozen=True, kw_only=True)
class WatchEvent:
    """What a watcher reports, at least every second. is_changed: something may have changed. note: for the user."""

    is_changed: bool = False
    note: str = ""


def watch_folders(roots: Sequence[Path], stop: Stop, *, force_polling: bool = False) -> Iterator[WatchEvent]:
    """Report changes below `roots`, in batches, until `stop.is_set()`.

    The first event counts as a change, because files may have changed before the watching began. A root that is
    deleted, renamed or replaced is waited for. Where the system's limits do not allow watching, the files are compared
    every POLL_MS instead, with a note. Raises IngestError where that is not possible either.
    """
    polling = force_polling
    while not stop.is_set():
        missing = [root for root in roots if not root.exists()]
        if missing:
            yield WatchEvent(note=f"{missing[0]} is not there; what was read of it stays, and it is waited for")
            while not stop.is_set() and not all(root.exists() for root in roots):
                time.sleep(_TICK_MS / 1000)
                yield WatchEvent()
            continue
        try:
            yield from _watch(roots, stop, force_polling=polling)
        except FileNotFoundError:
            continue
        except (OSError, WatchfilesRustInternalError) as error:
            if polling:
                raise IngestError(f"{roots[0]} cannot be watched: {error}; read it again by hand") from error
            polling = True
            yield WatchEvent(note=_note_on_polling(str(error)))


def _watch(roots: Sequence[Path], stop: Stop, *, force_polling: bool) -> Iterator[WatchEvent]:
    """Watch until a root is replaced or deleted. Raises OSError where the system refuses."""
    places = _places(roots)
    changes = watch(
        *roots,
        debounce=_LONGEST_BATCH_MS,
        step=_QUIET_MS,
        stop_event=stop,
        rust_timeout=_TICK_MS,
        yield_on_timeout=True,
        raise_interrupt=True,
        force_polling=force_polling or None,
        poll_delay_ms=POLL_MS,
        ignore_permission_denied=True,
    )
    is_first = True
    for batch in changes:
        yield WatchEvent(is_changed=bool(batch) or is_first)
        is_first = False
        if _places(roots) != places:
            return  # another folder stands there now: the system still watches the old one


def _places(roots: Sequence[Path]) -> list[tuple[int, int] | None]:
    """Device and inode of each root, None for one that is not there."""
    places: list[tuple[int, int] | None] = []
    for root in roots:
        try:
            status = os.stat(root)
            places.append((status.st_dev, status.st_ino))
        except OSError:
            places.append(None)
    return places


def _note_on_polling(reason: str) -> str:
    every = f"the files are compared every {POLL_MS // 1000} s instead"
    if any(words in reason for words in _LIMITS):
        return f"the system's limit of watched folders is reached; {every}; {REMEDY}"
    return f"the system cannot watch this folder ({reason}); {every}"


def is_changed(library: Library, session_id: str, paths: Sequence[Path], choice: FileChoice | None = None) -> bool:
    """Whether a reading of `paths` would find anything new, changed or gone. Needs no model and no lock.

    Files that are refused by their content count as new each time.

    Args:
        library: holds the session.
        session_id: the session.
        paths: files and folders on this machine.
        choice: which files are read in folders; None for the program's own choice.

    Raises IngestError for a path that does not exist.
    """
    survey = Survey(
        library.sources(session_id),
        library.documents(session_id),
        paths,
        uploads=library.folder / "uploads",
        is_whole=lambda document_id: True,
    )
    for entry in walk(paths, Limits(), choice or FileChoice()):
        if isinstance(entry, FoundFile) and survey.choose(entry) is not None:
            return True
    survey.finish([], drop_gone=False)
    return survey.has_news
