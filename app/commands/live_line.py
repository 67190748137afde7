"""One line that changes in place on a terminal; in a file or pipe, a line every few seconds."""

import shutil
import sys
import time
from types import TracebackType
from typing import TextIO

_TERMINAL_INTERVAL_S = 0.1
_FILE_INTERVAL_S = 5.0


class LiveLine:
    """Shows the latest of many short texts, not more often than a reader can follow."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = sys.stdout if stream is None else stream
        self._terminal = self._stream.isatty()
        self._interval_s = _TERMINAL_INTERVAL_S if self._terminal else _FILE_INTERVAL_S
        self._shown_at: float | None = None
        self._latest = ""
        self._shown = ""

    def show(self, text: str) -> None:
        """Show `text` now or, where the last one is too recent, perhaps later or never."""
        self._latest = text
        now = time.monotonic()
        if self._shown_at is None or now - self._shown_at >= self._interval_s:
            self._shown_at = now
            self._write(text)

    def finish(self) -> None:
        """Leave the last text as a line of its own."""
        if self._latest != self._shown:
            self._write(self._latest)
        if self._terminal and self._shown:
            self._stream.write("\n")
            self._stream.flush()
        self._latest = self._shown = ""

    def clear(self) -> None:
        """Take the line back, where that is possible."""
        if self._terminal and self._shown:
            self._stream.write("\r\x1b[K")
            self._stream.flush()
        self._latest = self._shown = ""

    def _write(self, text: str) -> None:
        if self._terminal:
            width = shutil.get_terminal_size().columns - 1
            text = text if len(text) <= width else text[: width - 1] + "…"
            self._stream.write(f"\r\x1b[K{text}")
        else:
            self._stream.write(text + "\n")
        self._stream.flush()
        self._shown = self._latest

    def __enter__(self) -> "LiveLine":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not isinstance(error, BrokenPipeError):
            self.finish()
