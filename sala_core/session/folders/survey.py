"""Compares files with what a session has read of them: which are as they were, new, changed, moved or gone."""

import os
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sala_core.errors import IngestError
from sala_core.ingest import Document, FoundFile, SkippedFile
from sala_core.session.folders.file_state import FileState, hash_of, is_gone, state_of
from sala_core.store import DocumentRow, SourceRow

MAX_ATTEMPTS = 3
"""How often a file is read that changes while it is read."""


@dataclass(frozen=True, kw_only=True)
class _Opened:
    """A file that is being read. key: its path in the session. path: where it is now. old: what the session knows."""

    key: str
    path: str
    old: SourceRow | None
    state: FileState
    file_hash: str


class Survey:
    """One comparison, for one use. `choose` is for `prepare`; `finish` ends it, and the results are complete.

    sources: the session's files afterwards. unchanged: content hashes of documents that need not be read, one for each
    file. replaced: content hash of the old text -> that of the new one, None where the old one only goes. moved, gone,
    warnings: for the user. names: of the documents that `replaced` names.
    """

    def __init__(
        self,
        sources: Sequence[SourceRow],
        documents: Sequence[DocumentRow],
        paths: Sequence[Path],
        *,
        uploads: Path,
        is_whole: Callable[[str], bool],
        take_up: bool = False,
    ) -> None:
        """Begin with what the library knows.

        Args:
            sources, documents: of the session.
            paths: what is to be read, as the user named it.
            uploads: folder of files that came through the browser; their paths mean nothing.
            is_whole: whether the stored text of a document, by its id, is undamaged.
            take_up: read files again that the user once removed or left out: this time each file was chosen.
        """
        self._documents: Mapping[str, DocumentRow] = {row.content_hash: row for row in documents}
        self._before = list(sources)
        self._rows = {source.path: source for source in sources}
        self._roots = [os.path.realpath(path) for path in paths]
        self._uploads = os.path.realpath(uploads) + os.sep
        self._is_whole = is_whole
        self._take_up = take_up
        self._by_name: dict[str, list[SourceRow]] = defaultdict(list)
        self._by_hash: dict[str, list[SourceRow]] = defaultdict(list)
        for source in (*sources, *self._unknown_origins()):
            self._by_name[source.name].append(source)
            self._by_hash[source.file_hash].append(source)
        self._seen: set[str] = set()
        self._opened: dict[str, _Opened] = {}
        self._retry: set[str] | None = None
        self._unsteady: set[str] = set()
        self.attempt = 1
        self.unchanged: list[str] = []
        self.replaced: dict[str, str | None] = {}
        self.names: dict[str, str] = {}
        self.moved: list[str] = []
        self.gone: list[str] = []
        self.passed_over: list[SkippedFile] = []
        self.warnings: list[str] = []

    @property
    def sources(self) -> list[SourceRow]:
        """The session's files, by path."""
        return [self._rows[path] for path in sorted(self._rows)]

    @property
    def is_changed(self) -> bool:
        """Whether `sources` differs from what the library knows."""
        return self.sources != sorted(self._before, key=lambda source: source.path)

    @property
    def has_news(self) -> bool:
        """Whether a file has another text, place or status than the library knows."""
        known, found = (
            {(row.path, row.content_hash, row.status) for row in rows} for rows in (self._before, self.sources)
        )
        return known != found

    def new_names(self) -> dict[str, str]:
        """Content hash -> new name, of unchanged documents whose files have moved since they were read."""
        names: dict[str, set[str]] = defaultdict(set)
        for source in self._rows.values():
            names[source.content_hash].add(source.name)
        return {
            row.content_hash: min(names[row.content_hash])
            for row in self._documents.values()
            if row.content_hash in names and row.name not in names[row.content_hash]
        }

    def rename(self, old_hash: str, new_hash: str) -> None:
        """The document of moved files is now another one: the same text under the new name."""
        for source in list(self._rows.values()):
            if source.content_hash == old_hash:
                self._rows[source.path] = replace(source, content_hash=new_hash)

    def choose(self, file: FoundFile) -> FoundFile | None:
        """Whether, and under which name, a file has to be read."""
        origin = file.origin or file.path
        if self._retry is not None and origin not in self._retry:
            return None
        key = file.name if origin.startswith(self._uploads) else origin
        old = self._match(key, file.name)
        is_asked_for = self._take_up or (old is not None and old.is_upload) or origin in self._roots
        if old is not None and old.status == "removed" and not is_asked_for:
            reason = "was removed from this session; read it by its own path to take it up again"
            self.passed_over.append(SkippedFile(name=file.name, path=origin, reason=reason))
            self._seen.add(old.path)
            return None
        try:
            state = state_of(file.path)
            same, file_hash = self._compare(old, state, file.path)
        except (OSError, IngestError):
            return file  # the attempt to read it tells why it cannot be read
        if same and old is not None:
            self._keep(replace(old, path=key, root=self._root_of(origin)), state, file_hash, old.path)
            return None
        if old is None and (moved := self._moved(file, file_hash)) is not None:
            self.moved.append(f"{moved.name} -> {file.name}")
            row = replace(moved, path=key, root=self._root_of(origin), name=file.name)
            self._keep(row, state, file_hash, moved.path)
            return None
        self._opened[origin] = _Opened(key=key, path=file.path, old=old, state=state, file_hash=file_hash)
        return replace(file, name=old.name) if old is not None else file

    def opened(self, path: str) -> tuple[str, SourceRow | None]:
        """The hash of a file that `choose` has chosen, "" if it could not be read, and what the session knows of it.

        path: as the user knows it.
        """
        opened = self._opened.get(path)
        return (opened.file_hash, opened.old) if opened is not None else ("", None)

    def leave_out(self, name: str, path: str) -> None:
        """Remember that the user does not want a file of a folder. One that was read before stays as it is."""
        if path not in self._rows and not path.startswith(self._uploads):
            self._rows[path] = SourceRow(
                path=path,
                root=self._root_of(path),
                name=name,
                content_hash="",
                num_bytes=0,
                mtime_ns=-1,
                file_hash="",
                status="removed",
            )
        self._seen.add(path)

    def add(self, document: Document) -> bool:
        """Take in a document that was read. Returns False if its file changed meanwhile, and has to be read again."""
        opened = self._opened.pop(document.path, None)
        if opened is None:
            return True  # it has no file of its own
        try:
            is_steady = state_of(opened.path).is_same(opened.state)
        except OSError:
            is_steady = False
        if not is_steady and self.attempt < MAX_ATTEMPTS:
            self._unsteady.add(document.path)
            return False
        if not is_steady:
            self.warnings.append(f"{document.name}: changed while it was read; read it again")
        old, new_hash = opened.old, document.content_hash
        changes = old.num_changes if old is not None else 0
        if old is not None and old.content_hash != new_hash and old.content_hash in self._documents:
            self.replaced[old.content_hash] = new_hash
            changes += 1
        row = SourceRow(
            path=opened.key,
            root=self._root_of(document.path),
            name=document.name,
            content_hash=new_hash,
            num_bytes=opened.state.num_bytes,
            mtime_ns=opened.state.trusted_mtime_ns if is_steady else -1,
            file_hash=opened.file_hash if is_steady else "",
            num_changes=changes,
        )
        self._put(row, old.path if old is not None else row.path)
        return True

    def begin_retry(self) -> bool:
        """Choose only the files that changed while they were read. Returns whether there are any."""
        self.attempt += 1
        self._retry, self._unsteady = self._unsteady, set()
        return bool(self._retry)

    def finish(self, skipped: Sequence[SkippedFile], *, drop_gone: bool) -> None:
        """Judge the session's files below the named folders that were not found, or not read.

        Args:
            skipped: files that were not read, and why.
            drop_gone: take out the texts of files that are gone.
        """
        reasons = {item.path: item.reason for item in skipped}
        for source in [row for row in self._rows.values() if self._is_missing(row)]:
            reason = reasons.get(source.path, "")
            fate = self._fate(source)
            if fate == "unreadable":
                self._rows[source.path] = replace(source, status="unreadable")
                self.warnings.append(f"{source.name}: {reason or 'cannot be opened'}; its earlier text stays")
            elif fate == "changed":
                self._drop(source)
                why = reason or "it is left out now"
                self.warnings.append(f"{source.name}: has changed and is not read ({why}); its earlier text is removed")
            elif drop_gone:
                self._drop(source)
            else:
                self._rows[source.path] = replace(source, status="gone")
                self.gone.append(source.name)
        live = {row.content_hash for row in self._rows.values() if row.status != "removed"}
        for old in [old for old in self.replaced if old in live]:
            del self.replaced[old]  # another file still has this text
        self.names = {old: self._documents[old].name for old in self.replaced}

    def remove(self, rows: Sequence[DocumentRow]) -> None:
        """Take documents out, and remember that the user did."""
        hashes = {row.content_hash for row in rows}
        for source in list(self._rows.values()):
            if source.content_hash in hashes:
                self._rows[source.path] = replace(source, status="removed", file_hash="", mtime_ns=-1)
        self.replaced |= dict.fromkeys(hashes)
        self.names = {row.content_hash: row.name for row in rows}

    def _unknown_origins(self) -> list[SourceRow]:
        """For each document of an early version of the program a row without a path."""
        known = {row.content_hash for row in self._rows.values()}
        return [
            SourceRow(
                path="", root="", name=row.name, content_hash=row.content_hash, num_bytes=0, mtime_ns=-1, file_hash=""
            )
            for row in self._documents.values()
            if row.content_hash not in known
        ]

    def _match(self, key: str, name: str) -> SourceRow | None:
        """The session's file that this one is: by its path, or by its name where one of the paths is unknown."""
        if key in self._rows:
            return self._rows[key]
        named = [source for source in self._by_name[name] if source.path not in self._seen or not source.path]
        if key != name:
            named = [source for source in named if source.is_upload]
        return named[0] if len(named) == 1 else None

    def _compare(self, old: SourceRow | None, state: FileState, path: str) -> tuple[bool, str]:
        """Whether a file is as it was when it was read, and its hash. Raises OSError, IngestError."""
        row = self._documents.get(old.content_hash) if old is not None else None
        is_dated = old is not None and (old.mtime_ns, old.num_bytes) == (state.mtime_ns, state.num_bytes)
        if old is not None and row is not None and is_dated and self._is_whole(row.id):
            return True, old.file_hash
        file_hash = hash_of(path)
        same = old is not None and row is not None and file_hash == old.file_hash and self._is_whole(row.id)
        return same, file_hash

    def _moved(self, file: FoundFile, file_hash: str) -> SourceRow | None:
        """The session's file that has this one's bytes and kind, and is not there any more."""
        suffix = os.path.splitext(file.name)[1]
        for source in self._by_hash[file_hash]:
            if source.path in self._seen or source.is_upload or source.status == "removed":
                continue
            is_kind = os.path.splitext(source.name)[1] == suffix
            if is_kind and source.content_hash in self._documents and is_gone(source.path):
                return source
        return None

    def _keep(self, row: SourceRow, state: FileState, file_hash: str, old_path: str) -> None:
        """Note that a file's text is in the session as it is."""
        self.unchanged.append(row.content_hash)
        trusted = state.trusted_mtime_ns
        row = replace(row, status="present", num_bytes=state.num_bytes, mtime_ns=trusted, file_hash=file_hash)
        self._put(row, old_path)

    def _put(self, row: SourceRow, old_path: str) -> None:
        self._rows.pop(old_path, None)
        self._rows[row.path] = row
        self._seen |= {row.path, old_path} - {""}

    def _drop(self, source: SourceRow) -> None:
        del self._rows[source.path]
        if source.content_hash in self._documents:
            self.replaced[source.content_hash] = None

    def _is_missing(self, source: SourceRow) -> bool:
        if source.is_upload or source.path in self._seen or source.status == "removed":
            return False
        return any(source.path == root or source.path.startswith(root.rstrip(os.sep) + os.sep) for root in self._roots)

    def _fate(self, source: SourceRow) -> str:
        """ "gone", "changed" or "unreadable". What is there and unchanged, but left out by a rule, counts as gone."""
        try:
            state = state_of(source.path)
            if not state.is_readable:
                return "unreadable"
            if state.num_bytes == source.num_bytes and state.mtime_ns == source.mtime_ns:
                return "gone"
            if not source.file_hash:
                return "unreadable"
            return "gone" if hash_of(source.path) == source.file_hash else "changed"
        except (FileNotFoundError, NotADirectoryError, IngestError):
            return "gone"  # also where a link or a folder took its place
        except OSError:
            return "unreadable"

    def _root_of(self, path: str) -> str:
        """The named file or folder that holds `path`; "" for what came through the browser."""
        if path.startswith(self._uploads):
            return ""
        return next(
            (root for root in self._roots if path == root or path.startswith(root.rstrip(os.sep) + os.sep)), path
        )
