"""pip's output: one line per package for the user, all of it in a log file. Standard library only."""

import re
import sys
import time
from collections import deque
from pathlib import Path
from types import TracebackType

_TAIL_LINES = 15
_WHEEL = re.compile(r"(?P<name>[A-Za-z0-9_.]+?)-(?P<version>\d[^-]*)(-[^/]*\.whl|\.tar\.gz|\.zip)")
_FETCH = re.compile(r"\s*(?P<verb>Downloading|Using cached|Processing) (?P<file>\S+)(?: \((?P<size>\d[^)]+)\))?")
_PROGRESS = re.compile(r"Progress (\d+) of (\d+)")


class InstallLog:
    """Takes pip's lines one by one. Writes all of them to a file, and a short form of the important ones to stderr."""

    def __init__(self, file: Path) -> None:
        self.num_packages = 0
        self._file = file
        self._tail: deque[str] = deque(maxlen=_TAIL_LINES)
        self._start = time.monotonic()
        self._open_line = False

    @property
    def seconds(self) -> float:
        """Seconds since the log was created."""
        return time.monotonic() - self._start

    def __enter__(self) -> "InstallLog":
        self._handle = self._file.open("w", encoding="utf-8")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close_line()
        self._handle.close()

    def take(self, line: str) -> None:
        """Take one line of pip's output, without its newline."""
        if progress := _PROGRESS.fullmatch(line.strip()):
            self._show_progress(int(progress[1]), int(progress[2]))
            return
        self._handle.write(line + "\n")
        self._handle.flush()
        self._tail.append(line)
        if text := self._shown(line):
            self._close_line()
            print(f"  {text}", file=sys.stderr, flush=True)

    def show_tail(self) -> None:
        """Print the last lines of pip's output to stderr."""
        self._close_line()
        for line in self._tail:
            print(f"  | {line}", file=sys.stderr)

    def _shown(self, line: str) -> str:
        """Return what the user sees of a line; empty for most lines."""
        if line.startswith("Installing collected packages: "):
            self.num_packages = line.count(",") + 1
            return f"unpacking {self.num_packages} package{'s' if self.num_packages > 1 else ''}"
        fetch = _FETCH.match(line)
        wheel = _WHEEL.fullmatch(fetch["file"].rsplit("/", 1)[-1]) if fetch else None
        if fetch is None or wheel is None or fetch["file"].endswith(".metadata"):
            return ""
        verb = "downloading" if fetch["verb"] == "Downloading" else "found"
        return f"{verb} {wheel['name']} {wheel['version']}" + (f" ({fetch['size']})" if fetch["size"] else "")

    def _show_progress(self, done: int, total: int) -> None:
        if not sys.stderr.isatty() or total <= 0:
            return
        text = f"\r    {done / 1e6:,.0f} of {total / 1e6:,.0f} MB ({done / total:.0%})"
        print(text, end="", file=sys.stderr, flush=True)
        self._open_line = True

    def _close_line(self) -> None:
        if self._open_line:
            print("\r\x1b[K", end="", file=sys.stderr)
        self._open_line = False
