"""A dropped folder, laid out on disk from the browser's listing, to find out which files the browser has to send.

Every listed file gets a placeholder without content. The walk of a reading then goes over the placeholders. The browser
sends only the files that the walk would open. The reading later walks the same tree, so its receipt lists everything
that was left out, with the reason, as for a folder read in place.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from app import wording
from sala_core.errors import DiskFullError, LibraryError, UploadError
from sala_core.ingest import FoundFile, Limits, walk

MAX_ENTRIES = 200_000
MAX_RULES_BYTES = 1 << 20
FILES = "files"
_RESERVED_BYTES = 256 << 20
_MAX_PATH_BYTES = 3072
_FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))
_WINDOWS_FORBIDDEN = frozenset('\\:*?"<>|')
_WINDOWS_DEVICES = frozenset(
    ("con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(10)))
)


@dataclass(frozen=True, kw_only=True)
class Listing:
    """What a browser says a drop contains. Paths are relative, with forward slashes."""

    files: Sequence[tuple[str, int]]
    """(path, size in bytes)."""
    folders: Sequence[str] = ()
    """Folders that the browser did not enter."""
    rules: Sequence[tuple[str, str]] = ()
    """(path, text) of the ignore files."""

    @property
    def tops(self) -> list[str]:
        """The names at the top level, in the given order."""
        paths = (*(path for path, _ in self.files), *self.folders)
        return list(dict.fromkeys(path.split("/", 1)[0] for path in paths))


def lay_out(listing: Listing, area: Path, limits: Limits) -> None:
    """Create folders, placeholders and ignore files in `area/files`. `area` must be an empty folder.

    An empty `area/.git` keeps out the ignore rules of a repository that contains the library. Raises UploadError for a
    path that could lead out of the folder, or for two paths that are the same file here; DiskFullError; LibraryError.
    """
    home, created = area / FILES, set[PurePosixPath]()
    if len(listing.files) + len(listing.folders) > MAX_ENTRIES:
        raise UploadError(f"more than {MAX_ENTRIES:,} files; type the folder's path instead")
    if not listing.files and not listing.folders:
        raise UploadError("there is no file in it")
    with disk_errors():
        (area / ".git").mkdir()
        home.mkdir()
        for folder in listing.folders:
            _make_folder(home, PurePosixPath(*parts_of(folder)), created)
        for path, size in listing.files:
            parts = parts_of(path)
            _make_folder(home, PurePosixPath(*parts[:-1]), created)
            with home.joinpath(*parts).open("xb") as file:
                file.truncate(_placeholder_bytes(size, limits))
        for path, text in listing.rules:
            parts = parts_of(path)
            if parts[-1] != ".gitignore" and parts[-3:] != [".git", "info", "exclude"]:
                raise UploadError(f"{path[:200]!r} is not a file of ignore rules")
            _make_folder(home, PurePosixPath(*parts[:-1]), created)
            home.joinpath(*parts).write_bytes(text.encode(errors="replace")[:MAX_RULES_BYTES])


def files_to_send(listing: Listing, area: Path, limits: Limits) -> set[int]:
    """Return the indices of the files that a reading would open, judged by name, size and ignore rules."""
    home = Path(os.path.realpath(area)) / FILES
    indices = {str(home.joinpath(*path.split("/"))): index for index, (path, _) in enumerate(listing.files)}
    entries = walk([home / name for name in listing.tops], limits, open_archives=False)
    found = {entry.path for entry in entries if isinstance(entry, FoundFile)}
    folders = tuple(path + os.sep for path in found if path not in indices)  # an unpacked EPUB is found as one book
    return {index for path, index in indices.items() if path in found or path.startswith(folders)}


def check_room(area: Path, num_bytes: int) -> None:
    """Raise DiskFullError if the disk of `area` has no room for `num_bytes`."""
    free = shutil.disk_usage(area).free
    if num_bytes + _RESERVED_BYTES > free:
        raise DiskFullError(
            f"{wording.size(num_bytes)} would be copied and {wording.size(free)} is free on the library's disk; "
            "free some space, or type the folder's path: then nothing is copied"
        )


def parts_of(path: str) -> list[str]:
    """Split a path into its names.

    Raises UploadError for a path that could lead out of the folder, or that this system cannot store.
    """
    shown = path[:200].encode(errors="replace").decode()
    parts = path.split("/")
    try:
        sizes = [len(part.encode()) for part in parts]
    except UnicodeEncodeError:
        raise UploadError(f"{shown!r} is not written in Unicode; rename it, or type the folder's path") from None
    if any(part in ("", ".", "..") or "\0" in part for part in parts):
        raise UploadError(f"{shown!r} is not a path of a file in a folder")
    if max(sizes) > 255 or sum(sizes) + len(sizes) > _MAX_PATH_BYTES:
        raise UploadError(f"{shown[:80]}… is too long a path; type the folder's path instead")
    if os.name == "nt" and any(map(_is_invalid_on_windows, parts)):
        raise UploadError(f"{shown!r} cannot be a file's name on Windows; type the folder's path instead")
    return parts


def _is_invalid_on_windows(part: str) -> bool:
    return (
        part[-1] in ". "
        or part.split(".")[0].lower() in _WINDOWS_DEVICES
        or any(char in _WINDOWS_FORBIDDEN or char < " " for char in part)
    )


def _placeholder_bytes(size: int, limits: Limits) -> int:
    """Return the size of a placeholder, as the walk needs it: 0 for an empty file, the real size for one too large.

    The placeholders are sparse files, so the real size takes no room on disk.
    """
    return size if size > limits.max_container_bytes else min(size, 1)


def _make_folder(home: Path, folder: PurePosixPath, created: set[PurePosixPath]) -> None:
    if folder not in created:
        home.joinpath(*folder.parts).mkdir(parents=True, exist_ok=True)
        created.add(folder)


@contextmanager
def disk_errors() -> Iterator[None]:
    """Turn an OSError of the block into a DiskFullError, UploadError or LibraryError."""
    try:
        yield
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        name = Path(error.filename or "").name
        raise UploadError(f"two of the files would be {name!r} here; type the folder's path instead") from error
    except OSError as error:
        if error.errno in _FULL:
            raise DiskFullError(
                "the library's disk is full; nothing was read. Free some space, or type the folder's path: then "
                "nothing is copied"
            ) from error
        raise LibraryError(f"a file could not be kept: {error.strerror or error}") from error
