"""Whether a file is still the one that was read: by size and time where they can tell, otherwise by its bytes."""

import os
import stat
import time
from dataclasses import dataclass

import xxhash

from sala_core.ingest.folders.regular import open_regular

_SETTLED_NS = 2_000_000_000
"""A file changed less than this before it was read could change again within the same tick of the file system's clock;
FAT counts in steps of two seconds."""
_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True, kw_only=True)
class FileState:
    """What the file system tells of a file or folder. Times are in nanoseconds since 1970."""

    num_bytes: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    is_readable: bool
    """Whether anybody may read it."""
    seen_ns: int
    is_folder: bool = False

    @property
    def trusted_mtime_ns(self) -> int:
        """The time of the last change, by which a later change shows; -1 where it would not show for sure."""
        if self.is_folder:  # a file that is put back into it may be older than all others
            return -1
        return self.mtime_ns if self.seen_ns - max(self.mtime_ns, self.ctime_ns) > _SETTLED_NS else -1

    def is_same(self, other: "FileState") -> bool:
        """Whether the file was not touched between the two."""
        mine, theirs = ((state.num_bytes, state.mtime_ns, state.ctime_ns, state.inode) for state in (self, other))
        return mine == theirs


def state_of(path: str) -> FileState:
    """Return the state of a file, without following a link; of a folder, with all that is in it.

    Raises OSError.
    """
    status = os.lstat(path)
    is_folder = stat.S_ISDIR(status.st_mode)
    inside = [os.lstat(file) for file in _files_in(path)] if is_folder else []
    return FileState(
        num_bytes=sum(each.st_size for each in inside) if is_folder else status.st_size,
        mtime_ns=max(each.st_mtime_ns for each in [status, *inside]),
        ctime_ns=max(each.st_ctime_ns for each in [status, *inside]),
        inode=status.st_ino,
        is_readable=bool(status.st_mode & 0o444),
        seen_ns=time.time_ns(),
        is_folder=is_folder,
    )


def is_gone(path: str) -> bool:
    """Whether nothing stands at a path of this machine. An address, or a place in an archive, is never gone."""
    try:
        os.lstat(path)
    except FileNotFoundError:
        return os.path.isabs(path)
    except OSError:
        return False
    return False


def hash_of(path: str) -> str:
    """Return the xxh3-128 of a file's bytes, hexadecimal; of a folder, of the names and bytes in it.

    Raises OSError; IngestError for anything else, such as a link.
    """
    digest = xxhash.xxh3_128()
    for file in _files_in(path) if os.path.isdir(path) and not os.path.islink(path) else [path]:
        if file != path:
            digest.update(os.path.relpath(file, path).encode(errors="surrogateescape") + b"\0")
        with open_regular(file) as opened:
            while block := opened.read(_BLOCK_BYTES):
                digest.update(block)
    return digest.hexdigest()


def _files_in(folder: str) -> list[str]:
    return sorted(os.path.join(place, name) for place, _, names in os.walk(folder) for name in names)
