"""Pages of PDF files as pictures, drawn in a child process with limits of time and memory."""

import threading
from dataclasses import dataclass

from sala_core.ingest.document import MIB, Limits
from sala_core.ingest.parser_process import ParserProcess
from sala_core.viewing.byte_cache import ByteCache

MAX_CACHE_BYTES = 48 * MIB
WIDTHS = (600, 900, 1200, 1600, 2000)
"""Widths of pictures in pixels. A page is drawn in the smallest that is wide enough."""
_IDLE_S = 60.0
_CONTEXT_CHARS = 1200
_MAX_PASSAGE_CHARS = 20_000
_KIND = "application/x-pdf-page"


@dataclass(frozen=True, kw_only=True)
class PassageBoxes:
    """Where a passage stands on a page. boxes: (left, top, right, bottom) as fractions of the page's size, from the top
    left corner. num_places: how often it stands there; is_whole: whether all of it is found."""

    boxes: tuple[tuple[float, float, float, float], ...]
    num_places: int
    is_whole: bool


class _PageProcess(ParserProcess):
    """The child process, asked for pages."""

    def draw(self, path: str, page: int, width: int) -> bytes:
        return self._exchange(path, {"kind": _KIND, "task": "draw", "page": page, "width": width})[1]

    def place(self, path: str, page: int, passage: str, before: str, after: str) -> PassageBoxes:
        texts = {"passage": passage[:_MAX_PASSAGE_CHARS], "before": before, "after": after}
        header, _ = self._exchange(path, {"kind": _KIND, "task": "place", "page": page, **texts})
        return PassageBoxes(
            boxes=tuple((float(a), float(b), float(c), float(d)) for a, b, c, d in header["boxes"]),
            num_places=int(header["num_places"]),
            is_whole=bool(header["is_whole"]),
        )


class PdfPages:
    """Draws pages. One child process serves all requests, one after the other; it ends after a minute without any."""

    def __init__(self) -> None:
        limits = Limits(max_parse_s=30.0, max_wasted_parse_s=60.0)
        self._process = _PageProcess(limits)
        self._lock = threading.Lock()
        self._timer: threading.Timer | None = None
        self._pictures: ByteCache[bytes] = ByteCache(MAX_CACHE_BYTES, len)

    @property
    def cached_bytes(self) -> int:
        """Bytes of the pictures that are held."""
        return self._pictures.num_bytes

    def draw(self, path: str, file_hash: str, page: int, width: int) -> bytes:
        """A page as PNG.

        Args:
            path: the file, whose bytes were just compared with `file_hash`.
            file_hash: of the file's bytes.
            page: from 1.
            width: wanted width in pixels; the picture has the next of WIDTHS.

        Raises IngestError with the reason.
        """
        wide = next((each for each in WIDTHS if each >= width), WIDTHS[-1])

        def make() -> bytes:
            with self._lock:
                self._keep_awake()
                return self._process.draw(path, page, wide)

        return self._pictures.get((file_hash, page, wide), make)

    def place(self, path: str, page: int, text: str, start: int, end: int) -> PassageBoxes:
        """Find `text[start:end]` on a page.

        Args:
            path: the file.
            page: from 1.
            text: of the page, as it was read.
            start, end: of the passage.

        Raises IngestError with the reason.
        """
        before, after = text[max(0, start - _CONTEXT_CHARS) : start], text[end : end + _CONTEXT_CHARS]
        with self._lock:
            self._keep_awake()
            return self._process.place(path, page, text[start:end], before, after)

    def close(self) -> None:
        """End the child process."""
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
            self._process.close()

    def _keep_awake(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = threading.Timer(_IDLE_S, self.close)
        self._timer.daemon = True
        self._timer.start()
