"""The lock that lets only one process install at a time. Standard library only."""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

_POLL_S = 0.3


class InstallLock:
    """An exclusive lock between processes on one file, as a context manager. The system frees it if the holder dies."""

    def __init__(self, file: Path, *, on_wait: Callable[[], None]) -> None:
        """Open or create `file`. Raises OSError.

        on_wait: called once if another process holds the lock.
        """
        self._handle = file.open("a+b")
        self._on_wait = on_wait

    def __enter__(self) -> "InstallLock":
        waiting = False
        while not _try_lock(self._handle.fileno()):
            if not waiting:
                self._on_wait()
            waiting = True
            time.sleep(_POLL_S)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._handle.close()


def _try_lock(descriptor: int) -> bool:
    """Try once to take the lock. It ends when the descriptor is closed."""
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
