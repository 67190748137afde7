"""The library's folder: private to its owner, a reserve of disk space, and never an empty database beside files."""

import os
import stat
from contextlib import suppress
from pathlib import Path

from sala_core.disk.files import make_folder, storage_error
from sala_core.errors import LibraryDamagedError, LibraryError

DATABASE = "library.db"
RECORDS = "sessions"
FOLDERS = ("states", "documents", RECORDS, "locks")
_OWN_NAMES = (*FOLDERS, "uploads", "logs", "recovered")
_RESERVE = "library.reserve"
_RESERVE_BYTES = (1 << 20, 1 << 18)
"""What deleting writes before it frees anything: the journal of one transaction. The smaller one where the disk has
no room for the larger one."""
_SHARED = stat.S_IRWXG | stat.S_IRWXO


def prepare_folder(folder: Path) -> None:
    """Make the library's folders, and the database's file, readable by their owner only.

    Raises LibraryError if that is not possible, or if the folder is open to other users and holds files that are not
    the library's: those would be hidden from them. Raises LibraryDamagedError where the database is missing although
    there are files that belong to it. Raises OSError.
    """
    is_new = not (folder / DATABASE).exists()
    if is_new and _is_open_to_others(folder) and (foreign := _foreign(folder)):
        raise LibraryError(
            f"{folder} can be read by other users (mode {folder.stat().st_mode & 0o777:o}) and holds {foreign}, which "
            "is not part of a library; choose an empty folder, or first run: chmod 700 on it"
        )
    refuse_lost_database(folder)
    for path in (folder, *(folder / name for name in FOLDERS)):
        make_folder(path, 0o700)
        _make_private(path, 0o700)
    if is_new:
        with suppress(FileExistsError):
            os.close(os.open(folder / DATABASE, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    for path in folder.glob(f"{DATABASE}*"):
        with suppress(FileNotFoundError):
            _make_private(path, 0o600)


def refuse_lost_database(folder: Path) -> None:
    """Raise LibraryDamagedError where the database is missing, empty or no file, although there are files of it."""
    database = folder / DATABASE
    if (database.exists() or database.is_symlink()) and not database.is_file():
        raise LibraryDamagedError(f"{database} is no regular file; `repair` moves it aside and makes the database anew")
    counts = {name: count for name in FOLDERS[:3] if (count := _count(folder / name))}
    if counts and (not database.exists() or database.stat().st_size == 0):
        there = ", ".join(f"{count:,} files in {name}" for name, count in counts.items())
        raise LibraryDamagedError(
            f"{database} is missing or empty, but its files are there ({there}); nothing was changed; `repair` makes "
            "the database anew from them, or choose another --library"
        )


def can_write(folder: Path) -> bool:
    """Whether the library in `folder` can be changed by this process. True where there is none."""
    if not os.path.exists(folder / DATABASE):  # also where the folder may not be entered, which opening then reports
        return True
    return all(os.access(path, os.W_OK) for path in (folder, folder / DATABASE))


def make_reserve(folder: Path) -> None:
    """Set disk space aside, which `free_reserve` gives back. Does nothing where the disk is full."""
    target, temporary = folder / _RESERVE, folder / f"{_RESERVE}.tmp"
    for num_bytes in () if target.exists() else _RESERVE_BYTES:
        try:
            temporary.write_bytes(bytes(num_bytes))
            os.chmod(temporary, 0o600)
            os.replace(temporary, target)
            return
        except OSError:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)


def free_reserve(folder: Path) -> bool:
    """Give the disk space that was set aside back; return whether there was any."""
    try:
        (folder / _RESERVE).unlink()
    except OSError:
        return False
    return True


def _make_private(path: Path, mode: int) -> None:
    if os.name == "nt" or path.is_symlink() or not path.stat().st_mode & _SHARED:
        return
    try:
        os.chmod(path, mode)
    except OSError as error:
        raise LibraryError(
            f"{path} can be read by other users and its mode cannot be changed ({error.strerror}); its owner has to "
            f"run: chmod {mode:o}"
        ) from storage_error(error, path)


def _is_open_to_others(folder: Path) -> bool:
    return os.name != "nt" and folder.is_dir() and bool(folder.stat().st_mode & _SHARED)


def _foreign(folder: Path) -> str:
    """The name of something in the folder that no library has, or ""."""
    names = (path.name for path in folder.iterdir())
    return next((name for name in names if name not in _OWN_NAMES and not name.startswith("library.")), "")


def _count(folder: Path) -> int:
    """How many files a folder has, without those that a crash left half-written."""
    try:
        return sum(not path.name.startswith(".") for path in folder.iterdir())
    except OSError:
        return 0
