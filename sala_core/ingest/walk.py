"""Find the files below the given paths, in a stable order, and say why others are skipped."""

import os
import re
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sala_core.errors import IngestError
from sala_core.ingest.document import Limits, SkippedFile
from sala_core.ingest.ignore import IgnoreRules
from sala_core.ingest.regular import describe_os_error, special_kind
from sala_core.ingest.safety import file_refusal, folder_refusal
from sala_core.ingest.sniff import is_book_folder
from sala_core.ingest.source_folder import holds_source

_NUMBER = re.compile(r"(\d+)")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


@dataclass(frozen=True, kw_only=True)
class FoundFile:
    """A regular file that is to be read, unless its content rules it out. path: absolute.

    Also an unpacked EPUB: a folder that is one book. is_source: found in a folder of source code.
    """

    name: str
    path: str
    num_bytes: int
    is_source: bool = False


def walk(paths: Sequence[Path], limits: Limits) -> Iterator[FoundFile | SkippedFile]:
    """Yield every file below `paths`, or why it is skipped.

    The order is that of `paths`; inside a folder files come before folders, both in natural order (`ch2` before
    `ch10`). Names are relative: the file's own name, or the folder's name and the path inside it. A skipped folder is
    one entry whose name ends in `/`. Raises IngestError at once, before the first entry, if a path does not exist.
    """
    roots = []
    for path, name in zip(paths, _root_names(paths), strict=True):
        try:
            roots.append((os.path.realpath(path, strict=True), name))
        except (OSError, ValueError) as error:
            raise IngestError(f"{path} cannot be found ({error}); check the path") from error
    return _walk_roots(roots, limits)


def _root_names(paths: Sequence[Path]) -> list[str]:
    """A name for each path: its last part, with a number if another path has the same."""
    taken: set[str] = set()
    names = []
    for path in paths:
        base = os.path.basename(os.path.abspath(path)) or "root"
        stem, suffix = os.path.splitext(base)
        name, number = base, 2
        while name in taken:
            name, number = f"{stem} ({number}){suffix}", number + 1
        taken.add(name)
        names.append(name)
    return names


def _walk_roots(roots: list[tuple[str, str]], limits: Limits) -> Iterator[FoundFile | SkippedFile]:
    """Yield the entries of all roots (path, name), each file once, at most `limits.max_files`."""
    seen: set[str] = set()
    num_files = 0
    for root, name in roots:
        entries = _folder_entries(root, name, limits) if os.path.isdir(root) else iter([_file(root, name, limits)])
        for entry in entries:
            if entry.path in seen:
                yield SkippedFile(name=entry.name, path=entry.path, reason="given twice")
                continue
            if len(roots) > 1:
                seen.add(entry.path)
            num_files += 1
            if num_files > limits.max_files:
                reason = f"this and all that follows: a reading takes at most {limits.max_files:,} files"
                yield SkippedFile(name=entry.name, path=entry.path, reason=reason)
                return
            yield entry


def _folder_entries(root: str, name: str, limits: Limits) -> Iterator[FoundFile | SkippedFile]:
    """Yield the entries below one folder. Not recursive, so that depth needs no stack."""
    pending: list[tuple[str, str, IgnoreRules, bool]] = [(root, name, IgnoreRules.above(root), False)]
    while pending:
        folder, prefix, rules, is_source = pending.pop()
        try:
            with os.scandir(folder) as scan:
                entries = sorted(scan, key=lambda entry: natural_key(entry.name))
        except OSError as error:
            yield _skipped(prefix + "/", folder, describe_os_error(error))
            continue
        if is_book_folder(folder, prefix):
            yield _book(folder, prefix, limits)
            continue
        if folder != root and (reason := folder_refusal(os.path.basename(folder), {e.name for e in entries})):
            yield _skipped(prefix + "/", folder, reason)
            continue
        rules = rules.inside(folder)
        is_source = is_source or holds_source(folder, {entry.name for entry in entries})
        subfolders = []
        for entry in entries:
            shown = f"{prefix}/{entry.name}"
            if entry.is_dir(follow_symlinks=False):
                if reason := rules.reason(entry.path, is_folder=True):
                    yield _skipped(shown + "/", entry.path, reason)
                else:
                    subfolders.append((entry.path, shown, rules, is_source))
            elif reason := _link_refusal(entry, root) or rules.reason(entry.path, is_folder=False):
                yield _skipped(shown, entry.path, reason)
            else:
                yield _file(entry.path, shown, limits, is_source=is_source)
        pending.extend(reversed(subfolders))


def _link_refusal(entry: os.DirEntry[str], root: str) -> str | None:
    """Why a link is not followed, or None if the entry is not a link."""
    if not entry.is_symlink():
        return None
    try:
        target = os.path.realpath(entry.path, strict=True)
    except (OSError, ValueError):
        return "a link that leads nowhere or in a circle"
    if os.path.commonpath([root, target]) != root:
        return "a link that leads out of the folder"
    return f"a link to {printable(os.path.relpath(target, root))}, which has its own entry"


def _file(path: str, name: str, limits: Limits, *, is_source: bool = False) -> FoundFile | SkippedFile:
    """Accept or skip a file by its kind, name, size and permissions. The file is not opened."""
    try:
        status = os.lstat(path)
    except OSError as error:
        return _skipped(name, path, describe_os_error(error))
    if kind := special_kind(status.st_mode):
        return _skipped(name, path, f"{kind}, not a file")
    reason = file_refusal(os.path.basename(path)) or file_refusal(os.path.basename(name))
    if not reason and status.st_size == 0:
        reason = "empty"
    if not reason and status.st_size > limits.max_container_bytes:
        reason = too_large(status.st_size, limits.max_container_bytes)
    if not reason and not stat.S_IMODE(status.st_mode) & 0o444:
        reason = "cannot be opened: permission denied"
    if reason:
        return _skipped(name, path, reason)
    return FoundFile(name=printable(name), path=path, num_bytes=status.st_size, is_source=is_source)


def _book(folder: str, name: str, limits: Limits) -> FoundFile | SkippedFile:
    """Accept or skip an unpacked EPUB by the size of its files."""
    num_bytes = 0
    for path, _, names in os.walk(folder):
        try:
            num_bytes += sum(os.lstat(os.path.join(path, file)).st_size for file in names)
        except OSError as error:
            return _skipped(name + "/", folder, describe_os_error(error))
    if num_bytes > limits.max_container_bytes:
        return _skipped(name + "/", folder, too_large(num_bytes, limits.max_container_bytes))
    return FoundFile(name=printable(name), path=folder, num_bytes=num_bytes)


def too_large(num_bytes: int, limit: int) -> str:
    """Return the reason shown for a file of `num_bytes` bytes over a limit of `limit` bytes."""
    return f"{num_bytes / 2**20:,.1f} MiB, over the limit of {limit / 2**20:,.1f} MiB"


def printable(name: str) -> str:
    """Return a file name for display and for the document header, without undecodable bytes or control characters."""
    return _CONTROL.sub("\ufffd", name.encode(errors="surrogateescape").decode(errors="replace"))


def natural_key(name: str) -> tuple[list[tuple[int, int, str]], str]:
    """Return a sort key that puts `ch2` before `ch10` and ignores case; the name itself breaks ties."""
    parts = _NUMBER.split(name.casefold())
    # \d matches only digits that int() accepts; a very long number sorts as text
    key = [(0, int(part), "") if index % 2 and len(part) < 20 else (1, 0, part) for index, part in enumerate(parts)]
    return key, name


def _skipped(name: str, path: str, reason: str) -> SkippedFile:
    return SkippedFile(name=printable(name), path=printable(path), reason=reason)
