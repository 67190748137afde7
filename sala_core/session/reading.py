"""Reading files into a session: find what is new or changed, change the stream, prefill what is unread."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from sala_core.engine.memory_budget import check_budget, tokens_that_fit
from sala_core.errors import CorruptStateError, LibraryError
from sala_core.events import ReadPlan, ReadProgress, ReadReceipt
from sala_core.ingest import (
    TREE_MEDIA_TYPE,
    Document,
    EncodedDocument,
    FileChoice,
    Limits,
    SkippedFile,
    encode_document,
    prepare,
)
from sala_core.ingest.folders.choice import LEFT_OUT
from sala_core.ingest.load import PasswordOf, no_password
from sala_core.session.context import SessionContext
from sala_core.session.folders.new_stream import STABLE_TOKENS, Cost, Part, arrange, cost
from sala_core.session.folders.survey import Survey
from sala_core.session.planning.timing import catch_up
from sala_core.session.text_mending import load_text
from sala_core.store import DocumentRow, PartDraft, PartRow
from sala_core.store.states import StateStore
from sala_core.text.tokenizer import Tokenizer

Approve = Callable[[ReadPlan], bool]
"""Is shown what a reading will change and cost, and decides whether it is done."""


@dataclass(frozen=True, kw_only=True)
class ReadOrder:
    """What one reading does beside prefilling what is unread.

    paths: files and folders to read. remove: ids of documents to take out. drop_gone: take out texts whose files are
    not there any more. limits: bounds on the files; None for the defaults. choice: which files of a folder are wanted.
    is_chosen: the user has seen all files and chosen among them, so those that were once taken out are read again.
    password_of: called for encrypted files.
    """

    paths: tuple[Path, ...] = ()
    remove: tuple[str, ...] = ()
    drop_gone: bool = False
    limits: Limits | None = None
    choice: FileChoice = field(default_factory=FileChoice)
    is_chosen: bool = False
    password_of: PasswordOf = no_password


class Reading:
    """One call of `Session.read`, for one use."""

    def __init__(self, context: SessionContext, order: ReadOrder) -> None:
        self._context = context
        self._order = order
        self._parts = context.library.parts(context.session_id)
        self._documents = context.library.documents(context.session_id)
        self._survey = Survey(
            context.library.sources(context.session_id),
            self._documents,
            order.paths,
            uploads=context.library.folder / "uploads",
            is_whole=context.library.is_whole_document,
            take_up=order.is_chosen,
        )
        self._drafts: dict[str, PartDraft] = {}
        self._names: dict[str, str] = {}
        self._skipped: list[SkippedFile] = []
        self._warnings: list[str] = []
        self._files = self._pages = self._tokens = 0

    def run(self, should_stop: Callable[[], bool], approve: Approve | None) -> Iterator[ReadProgress | ReadReceipt]:
        """Read; the last event is the receipt. Nothing is changed if it stops during preparation.

        approve: asked before anything is changed; None agrees.
        """
        context, started = self._context, time.monotonic()
        yield from self._prepare(should_stop)
        self._parts = context.library.parts(context.session_id)  # questions may have been answered meanwhile
        tokens_read = tokens_reused = 0
        prepared, plan, is_declined = not should_stop(), ReadPlan(), False
        parts = self._new_parts() if prepared else []
        is_blank = all(part.kind == "system" for part in parts)  # nothing was stopped then: there is nothing to prefill
        if prepared and not (is_blank and list(parts) == self._parts):
            price = self._cost(parts)
            plan = self._plan(price)
            is_declined = approve is not None and not approve(plan)
            if not is_declined:
                self._change(parts, price)
                yield from catch_up(context, should_stop)
                tokens_read, tokens_reused = context.state.tokens_read, context.state.tokens_reused
                while not should_stop() and context.row.position < context.row.num_tokens:
                    yield from catch_up(context, should_stop)  # turns of questions that were answered meanwhile
                    tokens_read += context.state.tokens_read
        row = context.row
        yield ReadReceipt(
            files=self._files,
            pages=self._pages,
            tokens=self._tokens,
            tokens_read=tokens_read,
            tokens_reused=tokens_reused,
            seconds=time.monotonic() - started,
            skipped=(*self._skipped, *self._survey.passed_over),
            warnings=(*self._warnings, *self._survey.warnings, *context.take_warnings()),
            stopped=not is_declined and (not prepared or (not is_blank and row.position < row.num_tokens)),
            tokens_shared=context.state.tokens_shared if tokens_reused else 0,
            shared_with=context.state.shared_with if tokens_reused else "",
            plan=plan,
            is_declined=is_declined,
        )

    def _prepare(self, should_stop: Callable[[], bool]) -> Iterator[ReadProgress]:
        """Parse, tokenize and store the files that are new or have changed."""
        survey, order = self._survey, self._order
        if not order.paths:
            present = [row for row in self._documents if row.id not in order.remove]
            self._count(present)
            survey.remove([row for row in self._documents if row.id in order.remove])
            return
        again = True
        while again and not should_stop():
            tokenizer = self._context.engine.tokenizer
            for item in prepare(
                order.paths,
                tokenizer,
                self._limits(),
                should_stop,
                choice=order.choice,
                choose=survey.choose,
                password_of=order.password_of,
            ):
                if isinstance(item, SkippedFile):
                    if survey.attempt == 1:
                        self._skip(item)
                elif survey.attempt == 1 or item.document.path:
                    yield from self._add(item)
            again = survey.begin_retry()
        if not should_stop():
            survey.finish(self._skipped, drop_gone=order.drop_gone)
            known = {row.content_hash: row for row in self._documents}
            self._count([known[content_hash] for content_hash in survey.unchanged if content_hash in known])

    def _skip(self, item: SkippedFile) -> None:
        self._skipped.append(item)
        if item.reason == LEFT_OUT:
            self._survey.leave_out(item.name, item.path)

    def _limits(self) -> Limits:
        """The order's limits. One of several files that does not fit into memory is skipped; the others are read."""
        limits, paths = self._order.limits or Limits(), self._order.paths
        if len(paths) == 1 and not paths[0].is_dir():
            return limits
        fitting = tokens_that_fit(self._context.engine, state=self._context.state.state)
        return replace(limits, max_file_tokens=max(1, min(limits.max_file_tokens, fitting)))

    def _add(self, item: EncodedDocument) -> Iterator[ReadProgress]:
        """Store a document and count it."""
        context, document = self._context, item.document
        if not self._survey.add(document):
            return
        self._files += document.media_type != TREE_MEDIA_TYPE
        self._pages += len(document.page_starts)
        self._warnings += [f"{document.name}: {warning}" for warning in document.warnings]
        self._warnings += _replaced(document, context.engine.tokenizer)
        known = next((row for row in self._documents if _is_known(row, document)), None)
        if known is None or known.content_hash == document.content_hash:  # equal texts are stored once, and mended
            document_id = context.library.put_document(item, context.engine.tokenizer.fingerprint)
        if known is not None:
            self._tokens += self._lengths()[known.id]
        else:
            part = self._drafts.get(document.content_hash) or context.writer.document(item, document_id)
            self._drafts[document.content_hash] = part
            self._names[document.content_hash] = document.name
            self._tokens += len(part.token_ids)
        yield ReadProgress(
            phase="preparing",
            file=document.name,
            files_done=self._files,
            files_total=self._files,
            tokens_done=0,
            tokens_total=self._tokens,
            tokens_per_s=0.0,
            seconds_left=None,
        )

    def _count(self, rows: Sequence[DocumentRow]) -> None:
        """Count documents that are in the session as they are, once for each file."""
        lengths = self._lengths()
        self._files += sum(row.media_type != TREE_MEDIA_TYPE for row in rows)
        self._pages += sum(row.num_pages for row in rows)
        self._tokens += sum(lengths[row.id] for row in rows)
        if self._order.paths:
            self._warnings += [f"{row.name}: {warning}" for row in rows for warning in row.warnings]

    def _lengths(self) -> dict[str | None, int]:
        """Tokens that each document of the session takes in the stream, by its id."""
        return {part.document_id: part.end - part.start for part in self._parts}

    def _new_parts(self) -> list[Part]:
        """The session's whole stream, after this reading."""
        survey = self._survey
        ids = {row.content_hash: row.id for row in self._documents}
        in_place = {new for new in survey.replaced.values() if new is not None}
        changes: dict[str, PartDraft | None] = {}
        used: set[str] = set()
        for old, new in survey.replaced.items():
            draft = self._drafts.get(new) if new is not None and new not in used else None
            used |= {new} if new is not None else set()
            changes[ids[old]] = draft
        added = [draft for content_hash, draft in self._drafts.items() if content_hash not in in_place]
        return self._with_new_names(arrange(self._parts, changes, added))

    def _with_new_names(self, parts: list[Part]) -> list[Part]:
        """Give documents whose files have moved their new names, where they are read again anyway or it costs little.

        The name stands before the text, so everything behind it has to be read again.
        """
        changed = next((index for index, part in enumerate(parts) if part is not _at(self._parts, index)), len(parts))
        end = self._parts[-1].end if self._parts else 0
        rows = {row.id: row for row in self._documents}
        new_names = self._survey.new_names()
        renamed = []
        for index, part in enumerate(parts):
            row = rows.get(part.document_id or "")
            is_cheap = index >= changed or (isinstance(part, PartRow) and end - part.start <= STABLE_TOKENS)
            if row is None or row.content_hash not in new_names or not is_cheap:
                renamed.append(part)
            else:
                renamed.append(self._renamed(row, new_names[row.content_hash]) or part)
        return renamed

    def _renamed(self, row: DocumentRow, name: str) -> PartDraft | None:
        """A document under another name; None if that is not possible."""
        context = self._context
        try:
            encoded = context.library.load_document(row.id)
        except (LibraryError, CorruptStateError):
            return None
        content_hash = Document.hash_of(name, encoded.document.text)
        if content_hash in self._drafts or any(known.content_hash == content_hash for known in self._documents):
            return None
        encoded = replace(encoded, document=replace(encoded.document, name=name, content_hash=content_hash))
        document_id = context.library.put_document(encoded, row.tokenizer_fingerprint)
        self._survey.rename(row.content_hash, content_hash)
        return context.writer.document(encoded, document_id)

    def _cost(self, parts: Sequence[Part]) -> Cost:
        context, engine = self._context, self._context.engine
        store = StateStore(context.library, context.row.fingerprint)
        return cost(context.library, store, context.row, parts, chunk_tokens=engine.chunk_tokens)

    def _plan(self, price: Cost) -> ReadPlan:
        survey = self._survey
        in_place = set(survey.replaced.values())
        return ReadPlan(
            unchanged=len(survey.unchanged),
            new=tuple(name for content_hash, name in self._names.items() if content_hash not in in_place),
            changed=tuple(survey.names[old] for old, new in survey.replaced.items() if new is not None),
            moved=tuple(survey.moved),
            gone=tuple(survey.gone),
            removed=tuple(survey.names[old] for old, new in survey.replaced.items() if new is None),
            tokens=price.tokens,
            tokens_read=price.tokens_read,
            tokens_new=price.tokens_new,
        )

    def _change(self, parts: Sequence[Part], price: Cost) -> None:
        """Give the session its new stream, if it has one. Raises MemoryBudgetError before anything is changed."""
        context = self._context
        check_budget(context.engine, price.tokens, state=context.state.state)
        if list(parts) == self._parts:
            if self._survey.is_changed:
                context.library.put_sources(context.session_id, self._survey.sources)
            return
        context.library.change_stream(
            context.session_id, parts, self._survey.sources, head=price.head, position=price.position
        )


def _at(parts: Sequence[Part], index: int) -> Part | None:
    return parts[index] if index < len(parts) else None


def _is_known(row: DocumentRow, document: Document) -> bool:
    """Whether a document of the session is this one. A repository's tree stays as it was when it was first read."""
    if row.content_hash == document.content_hash:
        return True
    return document.media_type == row.media_type == TREE_MEDIA_TYPE and row.name == document.name


def _replaced(document: Document, tokenizer: Tokenizer) -> list[str]:
    """The warning about characters of a document that the tokenizer cannot write, if there are any."""
    note = tokenizer.note_of_replaced(tokenizer.unencodable(document.text))
    return [f"{document.name}: {note}"] if note else []


def retokenized_parts(context: SessionContext) -> list[PartDraft]:
    """The session's whole stream, made again from texts and messages by the tokenizer of the context's engine."""
    library, writer, tokenizer = context.library, context.writer, context.engine.tokenizer
    messages = {row.id: row for row in library.messages(context.session_id)}
    parts = [writer.system(context.row.system_prompt)]
    for part in library.parts(context.session_id):
        if part.document_id is not None:
            document = encode_document(load_text(context, part.document_id).document, tokenizer)
            context.state.warnings += _replaced(document.document, tokenizer)
            parts.append(writer.document(document, library.put_document(document, tokenizer.fingerprint)))
        elif part.message_id is not None:
            message = messages[part.message_id]
            write = writer.past_question if part.kind == "user" else writer.written_answer
            parts.append(write(message.text, message.id))
    return parts
