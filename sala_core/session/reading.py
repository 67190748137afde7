"""Reading files into a session: parse and tokenize them, append them to the stream, prefill what is unread."""

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from sala_core.engine.memory_budget import check_budget
from sala_core.events import ReadProgress, ReadReceipt
from sala_core.ingest import Document, EncodedDocument, Limits, SkippedFile, encode_document, prepare
from sala_core.session.context import SessionContext
from sala_core.store import PartDraft
from sala_core.text.tokenizer import Tokenizer


class Reading:
    """One call of `Session.read`, for one use."""

    def __init__(self, context: SessionContext, limits: Limits | None) -> None:
        """limits: bounds on the files; None for the defaults."""
        self._context = context
        self._limits = limits
        self._parts: list[PartDraft] = []
        self._skipped: list[SkippedFile] = []
        self._warnings: list[str] = []
        self._files = self._pages = self._tokens = 0

    def run(self, paths: Sequence[Path], should_stop: Callable[[], bool]) -> Iterator[ReadProgress | ReadReceipt]:
        """Read; the last event is the receipt. Nothing is appended to the stream if it stops during preparation."""
        context, started = self._context, time.monotonic()
        yield from self._prepare(paths, should_stop)
        tokens_read = tokens_reused = 0
        prepared = not should_stop()
        if prepared:
            new_tokens = sum(len(part.token_ids) for part in self._parts)
            check_budget(context.engine, context.row.num_tokens + new_tokens, state=context.state.state)
            context.library.append_parts(context.session_id, self._parts)
            yield from context.state.catch_up(should_stop)
            tokens_read, tokens_reused = context.state.tokens_read, context.state.tokens_reused
        row = context.row
        yield ReadReceipt(
            files=self._files,
            pages=self._pages,
            tokens=self._tokens,
            tokens_read=tokens_read,
            tokens_reused=tokens_reused,
            seconds=time.monotonic() - started,
            skipped=tuple(self._skipped),
            warnings=(*self._warnings, *context.take_warnings()),
            stopped=not prepared or row.position < row.num_tokens,
        )

    def _prepare(self, paths: Sequence[Path], should_stop: Callable[[], bool]) -> Iterator[ReadProgress]:
        """Parse, tokenize and store the files, and collect the parts that are new to the session."""
        lengths = self._part_lengths()
        if not paths:
            documents = self._context.library.documents(self._context.session_id)
            self._files, self._pages = len(documents), sum(row.num_pages for row in documents)
            self._tokens = sum(lengths.values())
            return
        for item in prepare(paths, self._context.engine.tokenizer, self._limits, should_stop):
            if isinstance(item, SkippedFile):
                self._skipped.append(item)
            else:
                yield self._add(item, lengths)

    def _add(self, item: EncodedDocument, lengths: dict[str, int]) -> ReadProgress:
        """Store a document and count it. lengths: as `_part_lengths`; a new document is added."""
        context, document = self._context, item.document
        self._files += 1
        self._pages += len(document.page_starts)
        self._warnings += [f"{document.name}: {warning}" for warning in document.warnings]
        self._warnings += _replaced(document, context.engine.tokenizer)
        document_id = context.library.put_document(item, context.engine.tokenizer.fingerprint)
        if document.content_hash not in lengths:
            part = context.writer.document(item, document_id)
            lengths[document.content_hash] = len(part.token_ids)
            self._parts.append(part)
        self._tokens += lengths[document.content_hash]
        return ReadProgress(
            phase="preparing",
            file=document.name,
            files_done=self._files,
            files_total=self._files,
            tokens_done=0,
            tokens_total=self._tokens,
            tokens_per_s=0.0,
            seconds_left=None,
        )

    def _part_lengths(self) -> dict[str, int]:
        """Tokens that each document of the session takes in the stream, by its content hash."""
        context = self._context
        lengths = {part.document_id: part.end - part.start for part in context.library.parts(context.session_id)}
        return {row.content_hash: lengths[row.id] for row in context.library.documents(context.session_id)}


def _replaced(document: Document, tokenizer: Tokenizer) -> list[str]:
    """The warning about characters of a document that the tokenizer cannot write, if there are any."""
    note = tokenizer.note_of_replaced(tokenizer.unencodable(document.text))
    return [f"{document.name}: {note}"] if note else []


def retokenized_parts(context: SessionContext) -> list[PartDraft]:
    """The session's whole stream, made again from texts and messages by the tokenizer of the context's engine."""
    library, writer, tokenizer = context.library, context.writer, context.engine.tokenizer
    messages = {row.id: row for row in library.messages(context.session_id)}
    parts = [writer.system()]
    for part in library.parts(context.session_id):
        if part.document_id is not None:
            document = encode_document(library.load_document(part.document_id).document, tokenizer)
            context.state.warnings += _replaced(document.document, tokenizer)
            parts.append(writer.document(document, library.put_document(document, tokenizer.fingerprint)))
        elif part.message_id is not None:
            message = messages[part.message_id]
            write = writer.past_question if part.kind == "user" else writer.written_answer
            parts.append(write(message.text, message.id))
    return parts
