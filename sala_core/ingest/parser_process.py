"""The parent side of the parser process: start it, ask it, kill it if it takes too long or too much memory."""

import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

from sala_core.errors import PasswordError, UnreadableError
from sala_core.ingest.document import Limits
from sala_core.ingest.parsers.result import Parsed
from sala_core.ingest.sniff import Kind
from sala_core.ingest.time_budget import TimeBudget
from sala_core.stopping import never

_PARSERS = Path(__file__).parent / "parsers"
# The child imports the package `parsers` alone, from its path. To import `sala_core.ingest.parsers` would also load
# its parents, and with them most of the program.
_BOOTSTRAP = (
    "import sys, types; package = types.ModuleType('parsers'); package.__path__ = [sys.argv[1]]; "
    "sys.modules['parsers'] = package; from parsers.child import main; main(int(sys.argv[2]))"
)
_POLL_S = 0.1
_MAX_HEADER_BYTES = 64 << 20


class ReadingStoppedError(Exception):
    """The caller asked to stop while a file was read."""


class _Reply:
    """The child's reply to one request. header: None if the child has died."""

    def __init__(self, header: dict[str, Any] | None, text: bytes) -> None:
        self.header = header
        self.text = text


class _Child:
    """One parser process, and a thread that reads its replies, because a pipe has no portable timeout."""

    def __init__(self, limits: Limits) -> None:
        command = [sys.executable, "-I", "-c", _BOOTSTRAP, str(_PARSERS), str(limits.max_parse_memory_bytes)]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )
        self.num_files = 0
        self.replies: queue.SimpleQueue[_Reply] = queue.SimpleQueue()
        self._max_text_bytes = limits.max_file_bytes
        self._reader = threading.Thread(target=self._read_replies, name="parser replies", daemon=True)
        self._reader.start()

    def send(self, request: dict[str, str | int | float]) -> None:
        """Send one request. If the child has died, its reply is missing."""
        assert self.process.stdin is not None
        self.num_files += 1
        try:
            self.process.stdin.write(json.dumps(request).encode() + b"\n")
            self.process.stdin.flush()
        except (BrokenPipeError, OSError):
            self.process.kill()

    def end(self) -> None:
        """Kill the process, then wait for it and for the thread."""
        self.process.kill()
        self.process.wait()
        self._reader.join()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            try:
                pipe.close()
            except BrokenPipeError:
                continue

    def num_bytes(self) -> int:
        """Return the resident memory of the process, 0 if it has ended."""
        try:
            return int(psutil.Process(self.process.pid).memory_info().rss)
        except psutil.Error:
            return 0

    def _read_replies(self) -> None:
        assert self.process.stdout is not None
        while reply := self._read_reply():
            self.replies.put(reply)
        self.replies.put(_Reply(None, b""))

    def _read_reply(self) -> _Reply | None:
        """One whole reply, or None if the output ends or is malformed."""
        output = self.process.stdout
        assert output is not None
        line = output.readline(_MAX_HEADER_BYTES)
        try:
            header = json.loads(line)
            num_bytes = int(header["num_bytes"])
        except (ValueError, KeyError, TypeError, RecursionError):
            return None
        if not 0 <= num_bytes <= self._max_text_bytes:
            return None
        text = output.read(num_bytes)
        return _Reply(header, text) if len(text) == num_bytes else None


class ParserProcess:
    """Parses PDF, EPUB and HTML files in a child process. One child parses many files; if it dies, a new one starts."""

    def __init__(self, limits: Limits, should_stop: Callable[[], bool] = never) -> None:
        self._limits = limits
        self._should_stop = should_stop
        self._budget = TimeBudget(limits)
        self._child: _Child | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the child; the next `parse` starts another one."""
        if self._child:
            self._child.end()
            self._child = None

    def parse(self, path: str, kind: Kind, password: str | None = None) -> Parsed:
        """Return the text of one file.

        password: of an encrypted one; it goes to the child through its pipe, and nowhere else. Raises IngestError with
        the reason if the file cannot be read, takes too long or too much memory, or crashes the child; PasswordError if
        it is encrypted and the password is missing or wrong; ReadingStoppedError if `should_stop` returns True.
        """
        request: dict[str, str | int] = {"kind": kind.value}
        header, text = self._exchange(path, request if password is None else request | {"password": password})
        page_starts = tuple(int(start) for start in header["page_starts"])
        return Parsed(text=text.decode(), page_starts=page_starts, warnings=tuple(header["warnings"]))

    def unpack(self, path: str, target: str) -> tuple[tuple[str, str], ...]:
        """Unpack an archive into the empty folder `target`.

        Returns (name, reason) of the members that are not unpacked; a name of "" stands for the archive. Raises as
        `parse`; then the folder may hold a part of the archive.
        """
        limits = self._limits
        request: dict[str, str | int] = {
            "kind": "application/x-archive",
            "target": target,
            "max_archive_bytes": limits.max_archive_bytes,
            "max_member_bytes": limits.max_container_bytes,
            "max_members": limits.max_files,
            "max_ratio": limits.max_archive_ratio,
        }
        _, text = self._exchange(path, request)
        return tuple((str(name), str(reason)) for name, reason in json.loads(text))

    def _exchange(self, path: str, request: dict[str, str | int]) -> tuple[dict[str, Any], bytes]:
        """(header, text) of the reply to one request. A child that dies is replaced. Raises as `parse`."""
        while True:
            child = self._child = self._child or _Child(self._limits)
            header, text = self._ask(child, path, request)
            if header.get("is_final") or header.get("is_dead"):
                self.close()
                if child.num_files > 1 and "target" not in request:
                    # earlier files may be the cause, by what they left in memory: retry in a new child
                    continue
                raise UnreadableError(self._end_reason(header))
            if error := header.get("error"):
                raise (PasswordError if header.get("is_locked") else UnreadableError)(str(error))
            return header, text

    def _end_reason(self, header: dict[str, Any]) -> str:
        """Why the file has ended the child, for the user."""
        if header.get("memory"):
            limit = self._limits.max_parse_memory_bytes / 2**20
            return f"reading it takes more memory than the limit of {limit:,.0f} MiB"
        return "reading it made the parser fail: the file is probably damaged"

    def _ask(self, child: _Child, path: str, request: dict[str, str | int]) -> tuple[dict[str, Any], bytes]:
        """(header, text) of the child's reply; `is_dead` if there was none. Watches time, memory and `should_stop`."""
        limits = self._limits
        child.send(
            {
                **request,
                "path": path,
                "max_text_bytes": limits.max_file_bytes,
                "max_unpacked_bytes": limits.max_unpacked_bytes,
                "max_cpu_s": int(limits.max_parse_s) + 2,
                "max_ocr_s": limits.max_ocr_s,
            }
        )
        num_bytes = _num_bytes(path)
        max_s = self._budget.seconds_for(num_bytes)
        started = time.monotonic()
        deadline = started + max_s
        last_deadline = deadline + limits.max_ocr_s
        while True:
            try:
                reply = child.replies.get(timeout=min(_POLL_S, max(0.0, deadline - time.monotonic())))
                if not (reply.header and reply.header.get("is_progress")):
                    return (reply.header, reply.text) if reply.header else ({"is_dead": True}, b"")
                deadline = min(time.monotonic() + limits.max_parse_s, last_deadline)
            except queue.Empty:
                pass
            if self._should_stop():
                self.close()
                raise ReadingStoppedError
            if time.monotonic() > deadline:
                self.close()
                self._budget.waste(num_bytes, time.monotonic() - started)
                raise UnreadableError(f"reading it took more than {max_s:g} s, the limit for a file of its size")
            if child.num_bytes() > limits.max_parse_memory_bytes:
                return {"is_dead": True, "memory": True}, b""


def _num_bytes(path: str) -> int:
    """Size of a file; of all files below it for a folder (an unpacked EPUB)."""
    if not os.path.isdir(path):
        return os.path.getsize(path) if os.path.exists(path) else 0
    files = (os.path.join(folder, name) for folder, _, names in os.walk(path) for name in names)
    return sum(os.lstat(file).st_size for file in files if os.path.lexists(file))
