"""Whether the files behind an answer are still those that were read."""

import os
import time
from collections.abc import Collection

from sala_core.errors import IngestError, LibraryError
from sala_core.session.folders.file_state import hash_of, state_of
from sala_core.store import Library, SourceRow

_MAX_HASHED_BYTES = 1 << 20
_LOOK_EVERY_S = 4.0
_LOOK_SHARE = 50
"""The next look comes no sooner than so many times as long as the last one took."""


def stale_notes(library: Library, session_id: str, document_ids: Collection[str]) -> tuple[str, ...]:
    """Return a note for each of these documents whose file is gone or has changed since it was read.

    Looks at the files' size and time, and at the bytes of small ones whose time cannot tell.
    """
    rows = {row.content_hash: row for row in library.documents(session_id) if row.id in document_ids}
    if not rows:
        return ()
    notes = []
    sources = [source for source in library.sources(session_id) if not source.is_upload]
    for content_hash, row in rows.items():
        fates = {_fate(source) for source in sources if source.content_hash == content_hash}
        if fates == {"gone"}:
            notes.append(f"{row.name}: the file is gone now; the answer uses its text as it was read")
        elif fates and "same" not in fates:
            notes.append(f"{row.name}: the file has changed since it was read; read it again")
    return tuple(notes)


def changed_on_disk(library: Library, session_id: str) -> dict[str, str]:
    """Return "changed" or "gone", by content hash, for the documents whose files are not as they were read.

    Files that came through the browser are left out: nobody knows where they are. Looks at files as `stale_notes`.
    """
    fates: dict[str, set[str]] = {}
    for source in library.sources(session_id):
        if not source.is_upload and source.status != "removed":
            fates.setdefault(source.content_hash, set()).add(_fate(source))
    found = {}
    for content_hash, known in fates.items():
        if "same" not in known:
            found[content_hash] = "gone" if known == {"gone"} else "changed"
    return found


class DiskStates:
    """`changed_on_disk` of the sessions that are shown, looked at now and then. Safe to call from any thread."""

    def __init__(self, library: Library) -> None:
        self._library = library
        self._known: dict[str, tuple[float, dict[str, str]]] = {}

    def of(self, session_id: str) -> dict[str, str]:
        """ "changed" or "gone" by content hash, some seconds old. session_id: "" for none."""
        began = time.monotonic()
        due, found = self._known.get(session_id, (0.0, {}))
        if not session_id or began < due:
            return found
        try:
            found = changed_on_disk(self._library, session_id)
        except LibraryError:  # the session was deleted just now
            found = {}
        took = time.monotonic() - began
        self._known = {session_id: (began + max(_LOOK_EVERY_S, took * _LOOK_SHARE), found)}
        return found


def _fate(source: SourceRow) -> str:
    """ "same", "gone" or "changed"; "same" where that cannot be told."""
    if not os.path.isabs(source.path):
        return "same"
    try:
        state = state_of(source.path)
        if os.path.isdir(source.path):
            return "same"  # an unpacked book, or a folder in the file's place: the next reading tells
        if state.num_bytes != source.num_bytes:
            return "changed"
        if source.mtime_ns in (state.mtime_ns, -1) and (source.mtime_ns != -1 or state.num_bytes > _MAX_HASHED_BYTES):
            return "same"
        is_small = state.num_bytes <= _MAX_HASHED_BYTES
        return "changed" if source.file_hash and is_small and hash_of(source.path) != source.file_hash else "same"
    except FileNotFoundError:
        return "gone"
    except (OSError, IngestError):
        return "same"
