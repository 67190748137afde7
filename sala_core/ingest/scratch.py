"""Private temporary folders, which are removed even if the program that made them was killed."""

import contextlib
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from sala_core.errors import IngestError

_PREFIX = "sala-reading-"
_LOCK = ".lock"


@contextmanager
def private_folder(parent: Path | None = None) -> Iterator[Path]:
    """Make an empty folder that only this user can enter, and remove it with all that is in it after the block.

    A lock beside it is held as long as the process lives. So a later call, also of another process, sees which folders
    nobody uses any more, and removes them first. parent: where it is made; None for the system's folder of temporary
    files. Raises IngestError if no folder can be made.
    """
    parent = parent or Path(tempfile.gettempdir())
    remove_abandoned(parent)
    folder = parent / f"{_PREFIX}{secrets.token_hex(16)}"
    lock = FileLock(f"{folder}{_LOCK}", mode=0o600)
    try:
        parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock.acquire(blocking=False)  # before the folder exists, so that no other process takes it for abandoned
        folder.mkdir(mode=0o700)
    except (OSError, Timeout) as error:
        lock.release()
        raise IngestError(f"no temporary folder can be made in {folder.parent} ({error}); set TMPDIR") from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        lock.release()
        _remove_lock(folder)


def remove_abandoned(parent: Path) -> None:
    """Remove the private folders in `parent` that killed processes of this user have left."""
    with contextlib.suppress(OSError), os.scandir(parent) as scan:
        for entry in scan:
            if entry.name.startswith(_PREFIX) and entry.is_dir(follow_symlinks=False) and _is_own(entry):
                _remove_if_abandoned(Path(entry.path))


def _remove_if_abandoned(folder: Path) -> None:
    lock = FileLock(f"{folder}{_LOCK}", mode=0o600)
    try:
        lock.acquire(blocking=False)
    except (OSError, Timeout):
        return
    shutil.rmtree(folder, ignore_errors=True)
    lock.release()
    _remove_lock(folder)


def _remove_lock(folder: Path) -> None:
    with contextlib.suppress(OSError):
        os.unlink(f"{folder}{_LOCK}")


def _is_own(entry: os.DirEntry[str]) -> bool:
    return not hasattr(os, "getuid") or entry.stat(follow_symlinks=False).st_uid == os.getuid()
