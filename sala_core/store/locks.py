"""One writer for each session, across threads and processes.

The operating system holds the lock, so it ends with the process of its holder, even if that is killed. A small file
beside it names the holder; it serves only for the error message.
"""

import json
import os
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import BaseFileLock, FileLock, Timeout

from sala_core.disk.files import displace_folder, open_regular, storage_error
from sala_core.errors import SessionBusyError

_ID_CHARS = 32
_LIBRARY_LOCK = "library.lock"
_PATIENCE_S = 0.1
"""How long to wait for the lock: longer than `is_held` of another process takes to test it."""


@contextmanager
def library_lock(folder: Path, timeout_s: float) -> Iterator[None]:
    """Hold the lock of a whole library while it is opened or closed. Raises filelock's Timeout, OSError.

    folder: the library's. timeout_s: how long to wait for another process.
    """
    lock = FileLock(folder / "locks" / _LIBRARY_LOCK)
    lock.acquire(timeout=timeout_s)
    try:
        yield
    finally:
        _release(lock)


@contextmanager
def hold_lock(folder: Path, session_id: str, session_name: str) -> Iterator[None]:
    """Hold the session's lock during the block. Raises SessionBusyError at once if another holder has it.

    folder: where the lock files are. session_name: for the message.
    """
    path = folder / f"{session_id}.lock"
    lock = FileLock(path)
    try:
        displace_folder(path)
        lock.acquire(timeout=_PATIENCE_S, poll_interval=0.01)
    except Timeout:
        raise SessionBusyError(_describe(folder, session_id, session_name)) from None
    except OSError as error:
        raise storage_error(error, path) from error
    holder = _holder_file(folder, session_id)
    try:
        with suppress(OSError):
            holder.unlink(missing_ok=True)  # of one that was killed, or no file: opening a pipe would wait
            holder.write_text(json.dumps({"pid": os.getpid(), "since": time.time()}))
        yield
    finally:
        with suppress(OSError):
            holder.unlink(missing_ok=True)
        _release(lock)


def is_held(folder: Path, session_id: str) -> bool:
    """Whether any thread of any process holds the session's lock."""
    path = folder / f"{session_id}.lock"
    if not path.is_file():
        return False
    lock = FileLock(path)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        return True
    except OSError:  # not to be tested: as if it were held
        return True
    _release(lock)
    return False


def forget_unused_locks(folder: Path, session_ids: Collection[str]) -> None:
    """Delete the lock files of sessions that are not among `session_ids`, and the names of holders that were killed.

    Those of locks that are held stay.
    """
    ids = {path.stem for pattern in ("*.lock", "*.holder") for path in folder.glob(pattern)}
    for session_id in ids:
        if len(session_id) != _ID_CHARS or is_held(folder, session_id):
            continue
        if session_id in session_ids:
            with suppress(OSError):
                _holder_file(folder, session_id).unlink(missing_ok=True)
        else:
            forget_lock(folder, session_id)


def forget_lock(folder: Path, session_id: str) -> None:
    """Delete the lock files of a session that was deleted. On Windows a file that is still open stays."""
    for path in (folder / f"{session_id}.lock", _holder_file(folder, session_id)):
        with suppress(OSError):
            path.unlink(missing_ok=True)


def _release(lock: BaseFileLock) -> None:
    """Give a lock back. Where that fails it is tried once more; the system drops it with the process, at the latest."""
    try:
        lock.release()
    except OSError:
        with suppress(OSError):
            lock.release()


def _holder_file(folder: Path, session_id: str) -> Path:
    return folder / f"{session_id}.holder"


def _describe(folder: Path, session_id: str, session_name: str) -> str:
    """The message for a session that is in use, with what uses it and since when, where that is known."""
    try:
        with os.fdopen(open_regular(_holder_file(folder, session_id)), "rb") as file:
            holder = json.loads(file.read())
        pid, since = int(holder["pid"]), float(holder["since"])
    except (OSError, ValueError, KeyError, TypeError):
        return f"session {session_name!r} is in use by another window or command; wait until that is done, or stop it"
    who = "this program" if pid == os.getpid() else "another window or command"
    started = time.strftime("%H:%M:%S", time.localtime(since))
    return f"session {session_name!r} is in use by {who} since {started}; wait until that is done, or stop it"
