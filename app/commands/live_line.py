"""A progress line: rewritten in place on a terminal, one line every few seconds in a file or pipe."""

import shutil
import sys
import time
from types import TracebackType
from typing import TextIO

_TERMINAL_INTERVAL_S = 0.1
_FILE_INTERVAL_S = 5.0


class LiveLine:
    """Shows the latest of many short texts, at most ten times per second."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = sys.stdout if stream is None else stream
        self._terminal = self._stream.isatty()
        self._interval_s = _TERMINAL_INTERVAL_S if self._terminal else _FILE_INTERVAL_S
        self._shown_at: float | None = None
        self._latest = ""
        self._shown = ""

    def show(self, text: str) -> None:
        """Show `text`, unless the last text was shown too recently. `finish` shows the latest text that was skipped."""
        self._latest = text
        now = time.monotonic()
        if self._shown_at is None or now - self._shown_at >= self._interval_s:
            self._shown_at = now
            self._write(text)

    def finish(self) -> None:
        """Leave the latest text as a complete line."""
        if self._latest != self._shown:
            self._write(self._latest)
        if self._terminal and self._shown:
            self._stream.write("\n")
            self._stream.flush()
        self._latest = self._shown = ""

    def clear(self) -> None:
        """Erase the line. A file or pipe keeps it."""
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
