"""The output of pip or uv: one line per package for the user, all of it in a log file. Standard library only."""

import re
import sys
import time
from collections import deque
from pathlib import Path
from types import TracebackType

_TAIL_LINES = 15
_WHEEL = re.compile(r"(?P<name>[A-Za-z0-9_.]+?)-(?P<version>\d[^-]*)(-[^/]*\.whl|\.tar\.gz|\.zip)")
_FETCH = re.compile(r"\s*(?P<verb>Downloading|Using cached|Processing) (?P<file>\S+)(?: \((?P<size>\d[^)]+)\))?")
_UV_FETCH = re.compile(r"Downloading (?P<name>[A-Za-z0-9_.-]+) \((?P<size>\d[^)]+)\)")
_UV_STEP = re.compile(r"(?P<verb>Resolved|Installed) (?P<count>\d+) packages? in .*")
_PROGRESS = re.compile(r"Progress (\d+) of (\d+)")


class InstallLog:
    """Takes the lines of pip or uv one by one. Writes all of them to a file, the important ones in short to stderr."""

    def __init__(self, file: Path) -> None:
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
        """Take one line of the output, without its newline."""
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
        """Print the last lines of the output to stderr."""
        self._close_line()
        for line in self._tail:
            print(f"  | {line}", file=sys.stderr)

    def _shown(self, line: str) -> str:
        """Return what the user sees of a line; empty for most lines."""
        if line.startswith("Installing collected packages: "):
            num_packages = line.count(",") + 1
            return f"unpacking {num_packages} package{'s' if num_packages > 1 else ''}"
        if found := _UV_FETCH.fullmatch(line):
            return f"downloading {found['name']} ({found['size']})"
        if found := _UV_STEP.fullmatch(line):
            verb = "needed" if found["verb"] == "Resolved" else "installed"
            return f"{found['count']} package{'s' if found['count'] != '1' else ''} {verb}"
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
