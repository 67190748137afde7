"""Files that are whole or absent: write a temporary file, fsync it, rename it, fsync the folder.

A database row that names a file is written after these steps.
"""

import errno
import os
import shutil
import stat
import sys
import uuid
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xxhash

from sala_core.errors import DiskFullError, LibraryError

TEMPORARY_SUFFIX = ".tmp"
READABLE_BY_ALL = 0o644
"""Permission bits of a model's files, which other programs and users may read."""

_WRITE_BYTES = 8 << 20
_FULL = (errno.ENOSPC, errno.EDQUOT)
_REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS)
_MIN_FREE_BYTES = 256 << 10


def new_id() -> str:
    """Return a fresh random identifier, 32 hexadecimal digits."""
    return uuid.uuid4().hex


@dataclass(frozen=True, kw_only=True)
class StagedFile:
    """A complete temporary file, fsynced but not yet renamed to `target`."""

    path: Path
    target: Path
    num_bytes: int
    checksum: str
    """xxh3-128 of the whole file, hexadecimal."""


@contextmanager
def stage_file(target: Path, pieces: Iterable[memoryview]) -> Iterator[StagedFile]:
    """Write `pieces` to a new temporary file (mode 0600) beside `target` and fsync it; `publish` renames it.

    The temporary file is deleted when the block ends, unless it was published. Raises DiskFullError if the disk or a
    quota is full, LibraryError for any other failed write or fsync.
    """
    temporary = target.parent / f".{new_id()}{TEMPORARY_SUFFIX}"
    digest = xxhash.xxh3_128()
    num_bytes = 0
    with ExitStack() as stack:
        try:
            descriptor = _open_exclusively(temporary)
            stack.callback(_forget, temporary)
            with os.fdopen(descriptor, "wb", buffering=0) as file:
                for piece in pieces:
                    num_bytes += piece.nbytes
                    digest.update(piece)
                    _write_all(file.fileno(), piece)
                _fsync(file.fileno())
        except OSError as error:
            raise storage_error(error, target, num_bytes) from error
        yield StagedFile(path=temporary, target=target, num_bytes=num_bytes, checksum=digest.hexdigest())


def publish(staged: Iterable[StagedFile], *, replaces: bool = False) -> None:
    """Rename staged files of one folder to their targets and fsync the folder.

    No row may name the targets yet: they are deleted again if the folder's fsync fails. Raises as `stage_file`.

    replaces: the targets take the place of earlier files, and stay then: each is one or the other, and whole.
    """
    done: list[StagedFile] = []
    try:
        for item in staged:
            os.replace(item.path, item.target)
            done.append(item)
        for folder in {item.target.parent for item in done}:
            sync_folder(folder)
    except OSError as error:
        for item in () if replaces else done:
            _forget(item.target)
        raise storage_error(error, item.target, item.num_bytes) from error


def write_file(target: Path, pieces: Iterable[memoryview], *, mode: int = 0o600) -> None:
    """Write one file, whole or not at all, in place of an earlier one. mode: its permission bits.

    If the folder's fsync fails, the file is deleted, unless it took the place of another. Raises as `stage_file`.
    """
    with stage_file(target, pieces) as staged:
        replaces = target.is_file()
        try:
            os.chmod(staged.path, mode)
        except OSError as error:
            raise storage_error(error, target, staged.num_bytes) from error
        publish([staged], replaces=replaces)


def read_whole(path: Path, num_bytes: int) -> memoryview:
    """Return a writable buffer with the file's bytes.

    The file is read into memory, not mapped: an unreadable sector then raises OSError instead of a signal that ends
    the process. Raises OSError, also for a symbolic link, a folder or a pipe of this name; EOFError if the file is not
    exactly `num_bytes` long. Nothing is allocated then.
    """
    with os.fdopen(open_regular(path), "rb", buffering=0) as file:
        actual = os.fstat(file.fileno()).st_size
        if actual != num_bytes:
            raise EOFError(f"{actual:,} bytes instead of {num_bytes:,}")
        buffer = np.empty(num_bytes, dtype=np.uint8).data
        done = 0
        while done < num_bytes:
            count = file.readinto(buffer[done:])
            if not count:
                raise EOFError(f"{done:,} bytes instead of {num_bytes:,}")
            done += count
    return buffer


def open_regular(path: Path) -> int:
    """Open a regular file for reading and return its descriptor. Never waits, as opening a pipe would.

    Raises OSError, also for a symbolic link, a folder, a pipe or a device of this name.
    """
    flags = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
    descriptor = os.open(path, flags | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0))
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is no regular file", str(path))
    return descriptor


def make_folder(folder: Path, mode: int) -> None:
    """Make a folder and those above it, durably, unless they are there. mode: permission bits. Raises OSError."""
    if not folder.is_dir():
        make_folder(folder.parent, mode)
        folder.mkdir(mode=mode, exist_ok=True)
        with suppress(PermissionError):  # a folder above can be one that may be entered and not read
            sync_folder(folder.parent)


def displace_folder(target: Path) -> None:
    """Move a folder that stands where a file belongs aside, so that the file can be written. Raises OSError.

    Any other object under the file's name is replaced by the file when it is renamed.
    """
    if target.is_dir() and not target.is_symlink():
        os.rename(target, target.with_name(f"{target.name}.displaced-{new_id()[:8]}"))


def checksum(data: memoryview | bytes) -> str:
    """Return the xxh3-128 of `data`, hexadecimal."""
    return xxhash.xxh3_128_hexdigest(data)


def format_bytes(num_bytes: int) -> str:
    """Return a size as text: `16.0 MiB`."""
    size = float(num_bytes)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def _open_exclusively(path: Path) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
    return os.open(path, flags, 0o600)


def _write_all(descriptor: int, piece: memoryview) -> None:
    flat = piece.cast("B")
    done = 0
    while done < len(flat):
        done += os.write(descriptor, flat[done : done + _WRITE_BYTES])


def _fsync(descriptor: int) -> None:
    if sys.platform == "darwin":
        import fcntl

        fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
    else:
        os.fsync(descriptor)


def sync_folder(folder: Path) -> None:
    """Make names in a folder durable: those of new and renamed files, and that deleted ones are gone. Raises OSError.

    Windows has no folder fsync; NTFS journals the rename itself.
    """
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        _fsync(descriptor)
    finally:
        os.close(descriptor)


def is_full(folder: Path) -> bool:
    """Whether the disk that holds `folder` has next to nothing free, for failures that do not say why."""
    try:
        return shutil.disk_usage(folder).free < _MIN_FREE_BYTES
    except OSError:
        return False


def storage_error(error: OSError, target: Path, num_bytes: int = 0) -> LibraryError:
    """Return the library's error for a failed system call on `target`: DiskFullError where the disk is full.

    num_bytes: how much had been written.
    """
    folder = target.parent
    if error.errno in _FULL:
        free = format_bytes(shutil.disk_usage(folder).free) if folder.is_dir() else "nothing"
        return DiskFullError(
            f"the disk is full: writing {target.name} stopped at {format_bytes(num_bytes)} and {free} is "
            f"free in {folder}; nothing was lost; delete sessions or other files and try again"
        )
    step = "check the folder's permissions" if error.errno in _REFUSED else "check the disk"
    return LibraryError(
        f"cannot write {target.name} in {folder}: {error.strerror or error}; nothing was lost; {step} and try again"
    )


def _forget(path: Path) -> None:
    """Delete a file of ours that nothing names. One that cannot be deleted now is collected later."""
    with suppress(OSError):
        path.unlink(missing_ok=True)
