"""A file that is to be read, and why another one is skipped by its kind, name, size or permissions."""

import os
import re
import stat
from dataclasses import dataclass

from sala_core.ingest.document import Limits, SkippedFile
from sala_core.ingest.folders.regular import describe_os_error, special_kind
from sala_core.ingest.folders.safety import file_refusal

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


@dataclass(frozen=True, kw_only=True, slots=True)
class FoundFile:
    """A regular file that is to be read, unless its content rules it out. path: absolute.

    Also an unpacked EPUB: a folder that is one book. is_source: found in a folder of source code. is_wanted: the user
    has asked for it, so it is read although it is generated. origin: the path as the user knows it, if that is another
    one: a file of an archive is read from a temporary folder.
    """

    name: str
    path: str
    num_bytes: int
    is_source: bool = False
    is_wanted: bool = False
    origin: str = ""

    @property
    def known_path(self) -> str:
        """The path as the user knows it, the same at each reading: for a file of an archive `/books.zip/ch1.txt`."""
        return self.origin or self.path


def accept_file(
    path: str, name: str, limits: Limits, *, is_source: bool = False, is_wanted: bool = False
) -> FoundFile | SkippedFile:
    """Accept or skip a file by its kind, name, size and permissions. The file is not opened.

    Args:
        path: absolute.
        name: as shown.
        limits: only `max_container_bytes` counts, because the format is not known yet.
        is_source, is_wanted: as in `FoundFile`.
    """
    try:
        status = os.lstat(path)
    except OSError as error:
        return skipped(name, path, describe_os_error(error))
    if kind := special_kind(status.st_mode):
        return skipped(name, path, f"{kind}, not a file")
    reason = file_refusal(os.path.basename(path)) or file_refusal(os.path.basename(name))
    if not reason and status.st_size == 0:
        reason = "empty"
    if not reason and status.st_size > limits.max_container_bytes:
        reason = too_large(status.st_size, limits.max_container_bytes)
    if not reason and not stat.S_IMODE(status.st_mode) & 0o444:
        reason = "cannot be opened: permission denied"
    if reason:
        return skipped(name, path, reason)
    return FoundFile(
        name=printable(name), path=path, num_bytes=status.st_size, is_source=is_source, is_wanted=is_wanted
    )


def accept_book(folder: str, name: str, limits: Limits) -> FoundFile | SkippedFile:
    """Accept or skip an unpacked EPUB by the size of its files."""
    num_bytes = 0
    for path, _, names in os.walk(folder):
        try:
            num_bytes += sum(os.lstat(os.path.join(path, file)).st_size for file in names)
        except OSError as error:
            return skipped(name + "/", folder, describe_os_error(error))
    if num_bytes > limits.max_container_bytes:
        return skipped(name + "/", folder, too_large(num_bytes, limits.max_container_bytes))
    return FoundFile(name=printable(name), path=folder, num_bytes=num_bytes)


def link_refusal(entry: os.DirEntry[str], root: str) -> str | None:
    """Return why a link is not followed, or None if the entry is not a link."""
    if not entry.is_symlink():
        return None
    try:
        target = os.path.realpath(entry.path, strict=True)
    except (OSError, ValueError):
        return "a link that leads nowhere or in a circle"
    if os.path.commonpath([root, target]) != root:
        return "a link that leads out of the folder"
    return f"a link to {printable(os.path.relpath(target, root))}, which has its own entry"


def skipped(name: str, path: str, reason: str) -> SkippedFile:
    """Return the record of a file, or of a folder whose name ends in `/`, that is not read."""
    return SkippedFile(name=printable(name), path=printable(path), reason=reason)


def too_large(num_bytes: int, limit: int) -> str:
    """Return the reason shown for a file of `num_bytes` bytes over a limit of `limit` bytes."""
    return f"{num_bytes / 2**20:,.1f} MiB, over the limit of {limit / 2**20:,.1f} MiB"


def printable(name: str) -> str:
    """Return a file name for display and for the document header, without undecodable bytes or control characters."""
    return _CONTROL.sub("\ufffd", name.encode(errors="surrogateescape").decode(errors="replace"))
