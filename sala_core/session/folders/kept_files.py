"""Copies of files that came through the browser, kept because their pages are shown: the browser tells no path."""

import os
import re
import stat
from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path

from sala_core.errors import IngestError
from sala_core.ingest.sniff import Kind
from sala_core.session.folders.file_state import hash_of
from sala_core.store import Library

_HASH = re.compile(r"[0-9a-f]{32}")
_SUFFIX = ".pdf"


class KeptFiles:
    """The folder `originals` of a library: PDF files, each under the hash of its bytes."""

    def __init__(self, library_folder: Path) -> None:
        self._folder, self._uploads = library_folder / "originals", library_folder / "uploads"

    def path(self, file_hash: str) -> Path | None:
        """Where the copy with this hash is; None if there is none. Its bytes have not been compared."""
        if not _HASH.fullmatch(file_hash):
            return None
        path = self._folder / (file_hash + _SUFFIX)
        try:
            return path if stat.S_ISREG(path.lstat().st_mode) else None
        except OSError:
            return None

    def keep(self, library: Library, session_id: str, paths: Sequence[Path]) -> None:
        """Take over the PDF files below `paths` that a session has read, before the others are deleted.

        paths: what was read; only those in the library's folder of uploads count, and a file of the user's own is never
        moved. One that cannot be moved is left: then only its text is shown.
        """
        uploaded = [path for path in paths if self._uploads in path.parents]
        wanted = {row.content_hash for row in library.documents(session_id) if row.media_type == Kind.PDF.value}
        for row in library.sources(session_id):
            if not row.is_upload or row.content_hash not in wanted or not _HASH.fullmatch(row.file_hash):
                continue
            for path in (path.parent / row.name for path in uploaded):
                with suppress(OSError, IngestError):
                    if hash_of(str(path)) == row.file_hash:
                        self._folder.mkdir(mode=0o700, exist_ok=True)
                        os.replace(path, self._folder / (row.file_hash + _SUFFIX))
                        break

    def drop_unused(self, file_hashes: Collection[str]) -> None:
        """Delete the copies whose hash is not among these."""
        used = {file_hash + _SUFFIX for file_hash in file_hashes}
        for path in self._folder.glob("*"):
            if path.name not in used:
                with suppress(OSError):
                    path.unlink()
