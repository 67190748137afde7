"""The body of a request that brings files: a JSON line [[index, num_bytes], ...], then the files' bytes in order."""

from __future__ import annotations

import json
from collections import deque
from contextlib import suppress
from typing import BinaryIO

from app.server.upload_tree import disk_errors
from app.server.uploads import Upload
from sala_core.errors import UploadError
from sala_core.ingest import Limits

MAX_HEAD_BYTES = 1 << 20
_WRONG_HEAD = "the files came in an unknown form; load the page again"


class Receiver:
    """Writes the files of one body to their places. A file counts as received once it is complete."""

    def __init__(self, upload: Upload) -> None:
        self._upload = upload
        self._head: bytearray | None = bytearray()
        self._waiting: deque[tuple[int, int]] = deque()
        self._file: BinaryIO | None = None
        self._index = -1
        self._left = 0

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the body. Raises UploadError, DiskFullError, LibraryError."""
        with disk_errors():
            view = memoryview(data)
            if self._head is not None:
                view = self._take_head(view)
            while view:
                if self._file is None:
                    raise UploadError(_WRONG_HEAD)
                taken = view[: self._left]
                self._file.write(taken)
                self._left -= len(taken)
                view = view[len(taken) :]
                self._advance()

    def finish(self) -> None:
        """End the body. Raises UploadError if bytes are missing."""
        if self._head is not None or self._file is not None or self._waiting:
            raise UploadError("the files were cut short on their way; drop them again")

    def close(self) -> None:
        """Truncate a file that is not complete to its placeholder. It stays missing."""
        if self._file is not None:
            with suppress(OSError):
                self._file.truncate(1)
            with suppress(OSError):
                self._file.close()
            self._file = None

    def _take_head(self, view: memoryview) -> memoryview:
        assert self._head is not None
        self._head += view[: MAX_HEAD_BYTES + 1]
        end = self._head.find(b"\n")
        if end < 0:
            if len(self._head) > MAX_HEAD_BYTES:
                raise UploadError(_WRONG_HEAD)
            return view[len(view) :]
        before = len(self._head) - min(len(view), MAX_HEAD_BYTES + 1)
        self._waiting.extend(self._read_head(bytes(self._head[:end])))
        self._head = None
        self._advance()
        return view[end + 1 - before :]

    def _read_head(self, line: bytes) -> list[tuple[int, int]]:
        try:
            pairs = [(int(index), int(size)) for index, size in json.loads(line)]
        except (ValueError, TypeError, OverflowError, RecursionError):
            raise UploadError(_WRONG_HEAD) from None
        limit = Limits().max_container_bytes
        if len({index for index, _ in pairs}) < len(pairs) or any(not 0 <= size <= limit for _, size in pairs):
            raise UploadError(_WRONG_HEAD)
        if not self._upload.missing.issuperset(index for index, _ in pairs):
            raise UploadError("a file came that was not asked for; load the page again")
        files = self._upload.listing.files
        if changed := [files[index][0] for index, size in pairs if size > files[index][1]]:
            raise UploadError(f"{changed[0][:200]!r} is larger than was announced; drop the files again")
        return pairs

    def _advance(self) -> None:
        """Close a complete file and open the next one. Empty files are complete at once."""
        while self._left == 0:
            if self._file is not None:
                self._file.close()
                self._file = None
                self._upload.missing.discard(self._index)
            if not self._waiting:
                return
            self._index, self._left = self._waiting.popleft()
            self._file = self._upload.target(self._index).open("wb")
