"""The file that a document was read from, if it is still there and unchanged."""

import os
import threading
from dataclasses import dataclass
from typing import Literal

from sala_core.errors import IngestError
from sala_core.ingest.folders.regular import describe_os_error
from sala_core.session.folders.file_state import FileState, hash_of, state_of
from sala_core.session.folders.kept_files import KeptFiles
from sala_core.store import Library, SourceRow

OriginalState = Literal["unchanged", "kept", "changed", "gone", "unknown"]
"""unchanged: the file has the bytes that were read. kept: it came through the browser, and the library has a copy.
changed: it has other bytes now. unknown: there is no file to look at."""
_MAX_KNOWN = 64


@dataclass(frozen=True, kw_only=True)
class Original:
    """path: "" unless `state` is "unchanged" or "kept". file_hash: xxh3-128 of its bytes. note: the state in words."""

    state: OriginalState
    path: str = ""
    file_hash: str = ""
    note: str = ""

    @property
    def is_there(self) -> bool:
        """Whether the bytes that were read can be shown."""
        return self.state in ("unchanged", "kept")


class Originals:
    """Finds originals by comparing bytes. A file that was not touched since is not read again for that."""

    def __init__(self, library: Library) -> None:
        self._library = library
        self._hashes: dict[str, tuple[FileState, str]] = {}
        self._lock = threading.Lock()

    def find(self, session_id: str, content_hash: str) -> Original:
        """The original of a document of a session, by the document's content hash. Raises SessionNotFoundError."""
        rows = [row for row in self._library.sources(session_id) if row.content_hash == content_hash]
        if not rows:
            return Original(
                state="unknown",
                note="This is an earlier version, or its file is not known any more: its text as it was read is shown.",
            )
        found = [self._look_at(row) for row in rows]
        return min(found, key=lambda one: ("unchanged", "kept", "changed", "gone", "unknown").index(one.state))

    def _look_at(self, row: SourceRow) -> Original:
        if row.is_upload:
            return self._kept_copy(row)
        if not os.path.isabs(row.path) or not row.file_hash:
            note = "It was not read from a file of this computer: its text as it was read is shown."
            return Original(state="unknown", note=note)
        try:
            is_same = self._hash_of(row.path) == row.file_hash
        except FileNotFoundError:
            return Original(state="gone", note="The file is gone: its text as it was read is shown.")
        except NotADirectoryError:
            return Original(state="unknown", note="It was read from an archive: its text as it was read is shown.")
        except (OSError, IngestError) as error:
            why = describe_os_error(error) if isinstance(error, OSError) else str(error)
            return Original(state="unknown", note=f"The file ({why}): its text as it was read is shown.")
        if not is_same:
            note = "The file has changed since it was read: its text as it was read is shown."
            return Original(state="changed", note=note)
        return Original(state="unchanged", path=row.path, file_hash=row.file_hash)

    def _kept_copy(self, row: SourceRow) -> Original:
        path = KeptFiles(self._library.folder).path(row.file_hash)
        try:
            if path is not None and self._hash_of(str(path)) == row.file_hash:
                return Original(state="kept", path=str(path), file_hash=row.file_hash)
        except (OSError, IngestError):
            pass
        note = "It came through the browser, and no copy is kept: its text as it was read is shown."
        return Original(state="unknown", note=note)

    def _hash_of(self, path: str) -> str:
        """The hash of a file's bytes. Raises OSError; IngestError for what is no regular file."""
        state = state_of(path)
        with self._lock:
            known = self._hashes.get(path)
        if known is not None and known[0].is_same(state) and known[0].trusted_mtime_ns != -1:
            return known[1]
        found = hash_of(path)
        with self._lock:
            self._hashes[path] = (state, found)
            while len(self._hashes) > _MAX_KNOWN:
                del self._hashes[next(iter(self._hashes))]
        return found
