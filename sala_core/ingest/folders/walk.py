"""Find the files below the given paths, in a stable order, and say why others are skipped."""

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from sala_core.errors import IngestError
from sala_core.ingest.document import Limits, SkippedFile
from sala_core.ingest.folders.archives import MAX_NESTING, is_archive, unpacked
from sala_core.ingest.folders.choice import LEFT_OUT, FileChoice
from sala_core.ingest.folders.found import FoundFile, accept_book, accept_file, link_refusal, printable, skipped
from sala_core.ingest.folders.ignore import IgnoreRules
from sala_core.ingest.folders.order import natural_key, reading_key
from sala_core.ingest.folders.regular import describe_os_error
from sala_core.ingest.folders.safety import folder_refusal, is_never_read
from sala_core.ingest.folders.source_folder import holds_source, is_collection
from sala_core.ingest.folders.tree import FileTree, file_tree
from sala_core.ingest.parser_process import ParserProcess
from sala_core.ingest.sniff import is_book_folder

Entry = FoundFile | SkippedFile | FileTree
DEFAULT_CHOICE = FileChoice()


def walk(
    paths: Sequence[Path], limits: Limits, choice: FileChoice = DEFAULT_CHOICE, *, open_archives: bool = True
) -> Iterator[FoundFile | SkippedFile]:
    """Yield every file below `paths`, or why it is skipped.

    The order is that of `paths`. Inside a folder files come before folders, both in natural order (`ch2` before
    `ch10`); a repository is in the order of `reading_key`. Names are relative: the file's own name, or the folder's
    name and the path inside it. A skipped folder is one entry whose name ends in `/`.

    Args:
        paths: files and folders.
        limits: bounds on files and archives.
        choice: what the user wants read, or left out.
        open_archives: yield the files of an archive, which exist only until the next entry is asked for. Otherwise the
            archive itself is an entry.

    Raises IngestError at once, before the first entry, if a path does not exist.
    """
    entries = find(paths, limits, choice, open_archives=open_archives)
    return (entry for entry in entries if not isinstance(entry, FileTree))


def find(
    paths: Sequence[Path],
    limits: Limits,
    choice: FileChoice = DEFAULT_CHOICE,
    *,
    parser: ParserProcess | None = None,
    open_archives: bool = True,
) -> Iterator[Entry]:
    """Yield what `walk` yields, and the tree of each repository before its files.

    Args:
        paths, limits, choice, open_archives: as for `walk`.
        parser: unpacks archives; None for one that ends with the iterator.

    Raises as `walk`, and ReadingStoppedError from the parser.
    """
    roots = []
    for path, name in zip(paths, _root_names(paths), strict=True):
        try:
            roots.append((os.path.realpath(path, strict=True), name))
        except (OSError, ValueError) as error:
            raise IngestError(f"{path} cannot be found ({error}); check the path") from error
    return _Walk(limits, choice, parser, open_archives=open_archives).entries(roots)


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


@dataclass(frozen=True, kw_only=True, slots=True)
class _Folder:
    """A folder to enter. name: as shown; inner: its path below the root, "" for the root."""

    path: str
    name: str
    inner: str
    rules: IgnoreRules
    is_source: bool = False
    in_project: bool = False
    """Inside a repository, whose files are put in order together."""
    only_included: bool = False
    """It is not read, except for what `FileChoice.include` names."""

    def child(self, name: str) -> tuple[str, str]:
        """(shown name, path below the root) of an entry."""
        return f"{self.name}/{name}", f"{self.inner}/{name}" if self.inner else name


class _Walk:
    """One walk, for one use."""

    def __init__(
        self, limits: Limits, choice: FileChoice, parser: ParserProcess | None, *, open_archives: bool
    ) -> None:
        self._limits, self._choice, self._parser = limits, choice, parser
        self._open_archives = open_archives

    def entries(self, roots: list[tuple[str, str]]) -> Iterator[Entry]:
        """Yield the entries of all roots (path, name), each file once, at most `limits.max_files`."""
        seen: set[str] = set()
        num_files = 0
        with ExitStack() as stack:
            if self._parser is None and self._open_archives:
                self._parser = stack.enter_context(ParserProcess(self._limits))
            for root, name in roots:
                for entry in self._opened(self._root(root, name), 0):
                    if isinstance(entry, FileTree):
                        yield entry
                        continue
                    known = entry.known_path if isinstance(entry, FoundFile) else entry.path
                    if known in seen:
                        yield SkippedFile(name=entry.name, path=known, reason="given twice")
                        continue
                    if len(roots) > 1:
                        seen.add(known)
                    num_files += 1
                    if num_files > self._limits.max_files:
                        reason = f"this and all that follows: a reading takes at most {self._limits.max_files:,} files"
                        yield SkippedFile(name=entry.name, path=known, reason=reason)
                        return
                    yield entry

    def _root(self, root: str, name: str) -> Iterator[Entry]:
        if not os.path.isdir(root):
            if printable(name) in self._choice.left_out:
                return iter([skipped(name, root, LEFT_OUT)])
            return iter([accept_file(root, name, self._limits, is_wanted=self._choice.everything)])
        return self._below(_Folder(path=root, name=name, inner="", rules=IgnoreRules.above(root)), root)

    def _opened(self, entries: Iterator[Entry], nesting: int) -> Iterator[Entry]:
        """The entries, with the files of each archive in its place. nesting: archives around them."""
        for entry in entries:
            if not (self._open_archives and isinstance(entry, FoundFile) and is_archive(entry)):
                yield entry
            elif nesting >= MAX_NESTING:
                yield skipped(entry.name, entry.path, f"an archive inside {MAX_NESTING} others; unpack it to read it")
            else:
                yield from self._archive(entry, nesting)

    def _archive(self, file: FoundFile, nesting: int) -> Iterator[Entry]:
        assert self._parser is not None
        try:
            with unpacked(file, self._parser) as (path, refused):
                folder = _Folder(path=path, name=file.name, inner="", rules=IgnoreRules.only_global(path))
                for entry in self._opened(self._below(folder, path), nesting + 1):
                    yield _from_archive(entry, file, path)
                for name, reason in refused:
                    yield _from_archive(skipped(f"{file.name}/{name}", path, reason), file, path)
        except IngestError as error:
            yield skipped(file.name, file.path, str(error))

    def _below(self, top: _Folder, root: str) -> Iterator[Entry]:
        """Yield the entries below one folder. Not recursive, so that depth needs no stack."""
        pending = [top]
        while pending:
            folder = pending.pop()
            try:
                with os.scandir(folder.path) as scan:
                    entries = sorted(scan, key=lambda entry: natural_key(entry.name))
            except OSError as error:
                yield skipped(folder.name + "/", folder.path, describe_os_error(error))
                continue
            names = {entry.name for entry in entries}
            if is_book_folder(folder.path, folder.name):
                if printable(folder.name) in self._choice.left_out:
                    yield skipped(folder.name, folder.path, LEFT_OUT)
                    continue
                yield accept_book(folder.path, folder.name, self._limits)
                continue
            if folder is not top and (reason := self._refusal(folder, names)):
                yield skipped(folder.name + "/", folder.path, reason)
                if is_never_read(os.path.basename(folder.path)) or not self._choice.leads_to_included(folder.inner):
                    continue
                folder = replace(folder, only_included=True)
            is_source = folder.is_source or holds_source(folder.path, names)
            if is_source and not folder.in_project and not is_collection(folder.path, names):
                yield from self._project(replace(folder, is_source=True, in_project=True), root)
                continue
            inside = replace(folder, rules=folder.rules.inside(folder.path), is_source=is_source)
            subfolders: list[_Folder] = []
            yield from self._in_folder(inside, entries, root, subfolders)
            pending.extend(reversed(subfolders))

    def _project(self, folder: _Folder, root: str) -> Iterator[Entry]:
        """A repository: its tree, then its files in reading order."""
        found = list(islice(self._below(folder, root), self._limits.max_files + 1))
        files = [entry for entry in found if not isinstance(entry, FileTree)]
        start = len(printable(folder.name)) + 1
        files.sort(key=lambda entry: reading_key(entry.name[start:] or entry.name))
        shown = [entry.name[start:] for entry in files if isinstance(entry, FoundFile)]
        if len(shown) > 1:
            yield file_tree(printable(folder.name), shown)
        yield from files

    def _in_folder(
        self, folder: _Folder, entries: list[os.DirEntry[str]], root: str, subfolders: list[_Folder]
    ) -> Iterator[FoundFile | SkippedFile]:
        """Yield the files of a folder, and what is skipped in it; append the folders to enter to `subfolders`."""
        choice = self._choice
        for entry in entries:
            shown, inner = folder.child(entry.name)
            is_folder = entry.is_dir(follow_symlinks=False)
            is_included = choice.includes(inner, is_folder=is_folder)
            leads = is_folder and choice.leads_to_included(inner)
            if folder.only_included and not is_included and not leads:
                continue
            ignored = None if choice.everything else folder.rules.reason(entry.path, is_folder=is_folder)
            ignored = None if is_included else ignored
            if reason := choice.exclusion(inner, is_folder=is_folder) or ignored:
                yield skipped(shown + "/" * is_folder, entry.path, reason)
            if is_folder and (not reason or (ignored and leads)):
                only_included = not is_included and (folder.only_included or reason is not None)
                inside = replace(folder, path=entry.path, name=shown, inner=inner, only_included=only_included)
                subfolders.append(inside)
            elif reason or is_folder:
                continue
            elif reason := link_refusal(entry, root):
                yield skipped(shown, entry.path, reason)
            elif choice.left_out and printable(shown) in choice.left_out:
                yield skipped(shown, entry.path, LEFT_OUT)
            else:
                is_wanted = choice.everything or is_included
                yield accept_file(entry.path, shown, self._limits, is_source=folder.is_source, is_wanted=is_wanted)

    def _refusal(self, folder: _Folder, names: set[str]) -> str | None:
        """Why a folder below a root is not entered, or None. A pattern of `include` lifts all but the safety rules."""
        base = os.path.basename(folder.path)
        reason = folder_refusal(base, names)
        is_lifted = not is_never_read(base) and self._choice.includes(folder.inner, is_folder=True)
        return None if is_lifted else reason


def _from_archive(entry: Entry, archive: FoundFile, folder: str) -> Entry:
    """The entry with the path that the user knows: the archive's, and the path inside it."""
    if isinstance(entry, FileTree):
        return entry
    known = entry.known_path if isinstance(entry, FoundFile) else entry.path
    inside = known.removeprefix(folder)
    path = archive.known_path + (inside if inside.startswith(os.sep) else "")
    return replace(entry, origin=path) if isinstance(entry, FoundFile) else replace(entry, path=path)
