"""Counts the tokens of files before they are read, without storing anything in the library."""

import xxhash

from sala_core.ingest import (
    TREE_MEDIA_TYPE,
    EncodedDocument,
    FoundFile,
    SkippedFile,
    prepare,
    walk,
)
from sala_core.session.folders.survey import Survey
from sala_core.session.planning.measured import Count, Measured
from sala_core.session.planning.records import CountOrder, PlannedFile, PlannedState
from sala_core.session.stream import StreamWriter
from sala_core.store import Library

_VERSION = 1
"""Of what the parsers make of a file. A new one makes kept counts worthless."""


def count_files(library: Library, writer: StreamWriter, order: CountOrder, measured: Measured) -> tuple[str, ...]:
    """Count the tokens of each file, as its reading will have them. Contents that were counted before are not opened.

    Returns the names of the session's files that are not in their folders any more. It ends early when
    `order.should_stop()` is true.

    Args:
        library: what is known already.
        writer: puts texts into a stream, with the model's tokenizer.
        order: what is counted, and who is told.
        measured: keeps the counts.

    Raises IngestError for a path that does not exist.
    """
    return _Counting(library, writer, order, measured).run()


class _Counting:
    """One call of `count_files`."""

    def __init__(self, library: Library, writer: StreamWriter, order: CountOrder, measured: Measured) -> None:
        self._writer, self._order, self._measured = writer, order, measured
        known = order.session_id
        documents = library.documents(known) if known else []
        self._lengths = {part.document_id: part.end - part.start for part in library.parts(known)} if known else {}
        self._ids = {row.content_hash: row.id for row in documents}
        self._trees = {row.name for row in documents if row.media_type == TREE_MEDIA_TYPE}
        self._survey = Survey(
            library.sources(known) if known else [],
            documents,
            order.paths,
            uploads=library.folder / "uploads",
            is_whole=lambda document_id: True,
            take_up=True,
        )
        self._found: dict[str, tuple[FoundFile, str, PlannedState, str]] = {}
        self._skipped: list[SkippedFile] = []
        self._locked: set[str] = set()
        self._done = self._total = 0

    def run(self) -> tuple[str, ...]:
        order = self._order
        entries = walk(order.paths, order.limits, order.choice, open_archives=False)
        for entry in entries:
            if order.should_stop():
                return ()
            self._total += entry.num_bytes if isinstance(entry, FoundFile) else 0
        prepared = prepare(
            order.paths,
            self._writer.tokenizer,
            order.limits,
            order.should_stop,
            choice=order.choice,
            choose=self._choose,
            password_of=self._password_of,
            is_sole_file_skipped=True,
        )
        for item in prepared:
            self._take(item)
        if order.should_stop():
            return ()
        self._measured.forget_oldest()
        self._survey.finish(self._skipped, drop_gone=False)
        return tuple(self._survey.gone)

    def _password_of(self, name: str) -> str | None:
        self._locked.add(name)
        return self._order.password_of(name)

    def _choose(self, file: FoundFile) -> FoundFile | None:
        """Count a file without opening it if it is known; otherwise return it, to be opened."""
        num_known = len(self._survey.unchanged)
        chosen = self._survey.choose(file)
        if chosen is None:
            known = self._survey.unchanged[num_known] if len(self._survey.unchanged) > num_known else ""
            num_tokens = self._lengths.get(self._ids.get(known), 0)
            self._report(PlannedFile(name=file.name, state="known", num_tokens=num_tokens, num_bytes=file.num_bytes))
            return None
        file_hash, old = self._survey.opened(file.known_path)
        state: PlannedState = "new"
        if old is not None:
            state = "removed" if old.status == "removed" else "changed" if old.content_hash in self._ids else "new"
        key = self._key(file, file_hash)
        count = self._measured.count(key) if key else None
        self._found[file.known_path] = (file, key, state, old.content_hash if old is not None else "")
        if count is None:
            return chosen
        self._report_count(file.known_path, count, chosen.name)
        return None

    def _key(self, file: FoundFile, file_hash: str) -> str:
        """What a count depends on: bytes, format (by name and folder), tokenizer, parsers. "" for an unreadable one."""
        if not file_hash:
            return ""
        about = f"{file.name.rpartition('/')[2]}\0{file.is_source}\0{file.is_wanted}\0{'/' in file.name}\0{_VERSION}"
        return f"{file_hash}:{xxhash.xxh3_64_hexdigest(about)}:{self._writer.tokenizer.fingerprint[:16]}"

    def _take(self, item: EncodedDocument | SkippedFile) -> None:
        if isinstance(item, SkippedFile):
            self._skipped.append(item)
            state: PlannedState = "locked" if item.is_locked else "skipped"
            num_bytes = self._found[item.path][0].num_bytes if item.path in self._found else 0
            self._report(PlannedFile(name=item.name, state=state, num_bytes=num_bytes, reason=item.reason))
            return
        document = item.document
        if document.media_type == TREE_MEDIA_TYPE:
            is_known = document.name in self._trees
            num_tokens = item.num_tokens + self._writer.num_around(document.name)
            state = "known" if is_known else "new"
            self._report(PlannedFile(name=document.name, state=state, num_tokens=num_tokens, is_made=True))
            return
        count = Count(num_tokens=item.num_tokens, num_pages=len(document.page_starts))
        key = self._found[document.path][1]
        if key and document.name not in self._locked:  # a later reading needs the password again
            self._measured.put_count(key, count)
        self._report_count(document.path, count, document.name)

    def _report_count(self, path: str, count: Count, name: str) -> None:
        file, key, state, content_hash = self._found[path]
        num_tokens = count.num_tokens + self._writer.num_around(name)
        self._report(
            PlannedFile(
                name=file.name,
                state=state,
                num_tokens=num_tokens,
                num_bytes=file.num_bytes,
                num_pages=count.num_pages,
                content_hash=content_hash,
                file_hash=key.partition(":")[0],
            )
        )

    def _report(self, file: PlannedFile) -> None:
        self._done += file.num_bytes
        self._order.report(file)
        self._order.progress(min(self._done, self._total), self._total)
