"""Open regular files only: no FIFO that blocks, no device, no link that has replaced the file."""

import os
import stat
from pathlib import Path
from typing import BinaryIO

from sala_core.errors import IngestError

_FLAGS = (
    os.O_RDONLY
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_NOCTTY", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_BINARY", 0)
)

_KINDS = {
    stat.S_IFIFO: "a pipe (FIFO)",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFLNK: "a link",
    stat.S_IFDIR: "a folder",
}


def special_kind(mode: int) -> str | None:
    """Return what a file with this `st_mode` is, in words, or None for a regular file."""
    if stat.S_ISREG(mode):
        return None
    return _KINDS.get(stat.S_IFMT(mode), "a special file")


def describe_os_error(error: OSError) -> str:
    """Return the reason shown for a file or folder that the system cannot open."""
    if isinstance(error, PermissionError):
        return "cannot be opened: permission denied"
    return f"cannot be read: {error.strerror or error}"


def open_regular(path: str | Path) -> BinaryIO:
    """Open a regular file for reading, unbuffered. If the path itself is a link, it is not followed.

    Raises IngestError for anything but a regular file, and OSError as `os.open` does.
    """
    mode = os.lstat(path).st_mode
    if kind := special_kind(mode):
        raise IngestError(f"{kind}, not a file")
    fd = os.open(path, _FLAGS)
    try:
        if kind := special_kind(os.fstat(fd).st_mode):
            raise IngestError(f"{kind}, not a file")
        return os.fdopen(fd, "rb", buffering=0)
    except BaseException:
        os.close(fd)
        raise


def read_regular(path: str | Path, max_bytes: int) -> bytes:
    """Return at most the first `max_bytes` bytes of a regular file. Raises as `open_regular` does."""
    blocks: list[bytes] = []
    left = max_bytes
    with open_regular(path) as file:
        while left and (block := file.read(min(left, 1 << 20))):
            blocks.append(block)
            left -= len(block)
    return b"".join(blocks)
