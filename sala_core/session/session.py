"""One session, open for writing: read files into it, ask it, hand it to another model."""

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from sala_core.engine.engine import Engine
from sala_core.engine.generate import Finished, PromptProgress, Token
from sala_core.engine.memory_budget import ROOM_TOKENS, check_budget
from sala_core.engine.sampling import SamplingParams
from sala_core.errors import CorruptStateError, SessionNotFoundError, StateMismatchError
from sala_core.events import Answer, Evidence, ReadProgress, ReadReceipt
from sala_core.evidence.places import DocumentSpan, find_evidence
from sala_core.evidence.verbatim import Quoting
from sala_core.evidence.verify import verify_quotations
from sala_core.ingest import Limits, SkippedFile, SourceMap, encode_document, prepare
from sala_core.model.forward import AttentionTrace
from sala_core.session.state import SessionState
from sala_core.session.stream import StreamWriter, document_spans
from sala_core.store import Library, MessageDraft, PartDraft, SessionRow

Stop = Callable[[], bool]
_SOURCE_MAPS = 32  # documents whose text and map stay in memory


def _never() -> bool:
    return False


class Session:
    """Holds the session's lock until it is closed. Use as a context manager.

    `state` may be kept and given to a later Session of the same session, so that nothing is loaded twice.
    """

    def __init__(
        self,
        library: Library,
        engine: Engine,
        row: SessionRow,
        lock: ExitStack,
        state: SessionState | None = None,
    ) -> None:
        self._library = library
        self._engine = engine
        self._id = row.id
        self._lock = lock
        self._writer = StreamWriter(engine.tokenizer, engine.chat)
        self.state = state or SessionState(library, engine, row.id)
        if row.num_tokens == 0:
            library.reset_session(
                row.id, model=engine.name, fingerprint=engine.fingerprint, parts=[self._writer.system()]
            )

    @classmethod
    def open(
        cls,
        library: Library,
        engine: Engine,
        name: str,
        *,
        create: bool = False,
        state: SessionState | None = None,
    ) -> Self:
        """Open a session by name or id. create: make it if there is none.

        Raises SessionNotFoundError, SessionBusyError (another process or thread has it open).
        """
        try:
            row = library.session(name)
        except SessionNotFoundError:
            if not create:
                raise
            row = library.create_session(name, model=engine.name, fingerprint=engine.fingerprint)
        with ExitStack() as stack:
            row = stack.enter_context(library.lock_session(row.id))
            session = cls(library, engine, row, stack, state)
            session._lock = stack.pop_all()
            return session

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the lock back, once all that was read is written."""
        self.state.settle()
        self._lock.close()

    @property
    def row(self) -> SessionRow:
        """The session as the library has it now."""
        return self._library.session(self._id)

    @property
    def sampling_defaults(self) -> SamplingParams:
        """How the model would have its answers chosen."""
        return self._engine.sampling_defaults

    def read(
        self, paths: Sequence[Path], *, should_stop: Stop = _never, limits: Limits | None = None
    ) -> Iterator[ReadProgress | ReadReceipt]:
        """Read files and folders into the session; the last event is the receipt.

        Files that the session has already, by name and text, are not read twice: the same call again continues a
        reading that was stopped or killed. With no paths it continues whatever is unread. Raises IngestError for a
        path that does not exist, StateMismatchError, DiskFullError, MemoryBudgetError.
        """
        self._check_model()
        started = time.monotonic()
        batch = _Batch()
        yield from self._prepare(paths, should_stop, limits, batch)
        tokens_read = tokens_reused = 0
        prepared = not should_stop()
        if prepared:
            new_tokens = sum(len(part.token_ids) for part in batch.parts)
            check_budget(self._engine, self.row.num_tokens + new_tokens, state=self.state.state)
            self._library.append_parts(self._id, batch.parts)
            yield from self.state.catch_up(should_stop)
            tokens_read, tokens_reused = self.state.tokens_read, self.state.tokens_reused
        row = self.row
        yield ReadReceipt(
            files=batch.files,
            pages=batch.pages,
            tokens=batch.tokens,
            tokens_read=tokens_read,
            tokens_reused=tokens_reused,
            seconds=time.monotonic() - started,
            skipped=tuple(batch.skipped),
            warnings=(*batch.warnings, *self._take_warnings()),
            stopped=not prepared or row.position < row.num_tokens,
        )

    def ask(
        self, question: str, sampling: SamplingParams | None = None, *, should_stop: Stop = _never
    ) -> Iterator[ReadProgress | PromptProgress | Token | Answer]:
        """Ask and stream the answer; the last event is the Answer, saved by then.

        What is unread is read first. When `should_stop()` turns true the answer ends there and is kept, with
        finish_reason "stopped"; if not even the question was read by then, there is no Answer. Closing the iterator
        leaves the session as it was before the question. Raises StateMismatchError, DiskFullError, MemoryBudgetError,
        and ValueError for an empty question.
        """
        if not question.strip():
            raise ValueError("the question is empty")
        self._check_model()
        yield from self.state.catch_up(should_stop)
        if self.state.state is None or should_stop():
            return
        saved = False
        try:
            saved = yield from self._turn(question, sampling, should_stop)
        finally:
            if not saved:
                self.state.forget()

    def reset(self) -> None:
        """Hand the session to this engine's model; its next reading or question reads everything again.

        The tokens stored are used where the tokenizer is the same, and made anew from texts and messages otherwise.
        """
        documents = self._library.documents(self._id)
        own = self._engine.tokenizer.fingerprint
        same = all(row.tokenizer_fingerprint == own for row in documents) and bool(documents)
        self._library.reset_session(
            self._id,
            model=self._engine.name,
            fingerprint=self._engine.fingerprint,
            parts=None if same else self._rewritten(),
        )
        self.state.forget()
        self._library.collect_garbage()

    def _check_model(self) -> None:
        row = self.row
        if row.fingerprint != self._engine.fingerprint:
            raise StateMismatchError(
                f"session {row.name!r} was read by the model {row.model!r} in another version, number format or --kv "
                f"than the {self._engine.name!r} of now, so its saved state does not fit; start as it was then, or let "
                f"this one read it again with: read {row.name!r} --again"
            )

    def _prepare(
        self, paths: Sequence[Path], should_stop: Stop, limits: Limits | None, batch: "_Batch"
    ) -> Iterator[ReadProgress]:
        known = self._known_tokens()
        if not paths:
            documents = self._library.documents(self._id)
            batch.files, batch.pages = len(documents), sum(row.num_pages for row in documents)
            batch.tokens = sum(known.values())
            return
        for item in prepare(paths, self._engine.tokenizer, limits, should_stop):
            if isinstance(item, SkippedFile):
                batch.skipped.append(item)
                continue
            document = item.document
            batch.files += 1
            batch.pages += len(document.page_starts)
            batch.warnings += [f"{document.name}: {warning}" for warning in document.warnings]
            document_id = self._library.put_document(item, self._engine.tokenizer.fingerprint)
            if document.content_hash not in known:
                part = self._writer.document(item, document_id)
                known[document.content_hash] = len(part.token_ids)
                batch.parts.append(part)
            batch.tokens += known[document.content_hash]
            yield ReadProgress(
                phase="preparing",
                file=document.name,
                files_done=batch.files,
                files_total=batch.files,
                tokens_done=0,
                tokens_total=batch.tokens,
                tokens_per_s=0.0,
                seconds_left=None,
            )

    def _known_tokens(self) -> dict[str, int]:
        """How many tokens each document of the session takes in the stream, by its content hash."""
        lengths = {part.document_id: part.end - part.start for part in self._library.parts(self._id)}
        return {row.content_hash: lengths[row.id] for row in self._library.documents(self._id)}

    def _turn(
        self, question: str, sampling: SamplingParams | None, should_stop: Stop
    ) -> Generator[PromptProgress | Token | Answer, None, bool]:
        """One turn; returns whether it was saved."""
        state = self.state.state
        assert state is not None
        base, trace = state.position, AttentionTrace()
        asked, said = MessageDraft(role="user", text=question), MessageDraft(role="assistant", text="")
        prompt = self._writer.question(question, asked.id)
        chosen = sampling or self.sampling_defaults
        self.state.make_room(len(prompt.token_ids) + min(chosen.max_tokens, ROOM_TOKENS))
        turn, sources = _Turn(started=time.monotonic()), self._sources()
        lookup = self.state.drafts()
        lookup.extend(prompt.token_ids)
        for event in self._engine.generate(
            state,
            prompt.token_ids,
            sampling,
            trace=trace,
            should_stop=should_stop,
            lookup=lookup,
            quoting=self._quoting(sources, base) if chosen.verbatim else None,
        ):
            turn.take(event)
            if not isinstance(event, Finished):
                yield event
        turn.ended = time.monotonic()
        if state.position < base + len(prompt.token_ids):
            return False
        answer_part = self._writer.answer(turn.ids, said.id)
        rest = answer_part.token_ids[len(turn.ids) :]
        for _ in self._engine.read(state, rest):
            pass
        lookup.extend(rest)
        answer = self._answer(turn, trace, base, len(prompt.token_ids), sources)
        stats = {key: value for key, value in answer.to_json().items() if key not in ("text", "thinking", "evidence")}
        said = MessageDraft(
            id=said.id,
            role="assistant",
            text=answer.text,
            thinking=answer.thinking,
            status="stopped" if turn.reason == "stopped" else "done",
            evidence=[item.to_json() for item in answer.evidence],
            stats=stats,
        )
        self._save_turn(base, [prompt, answer_part], [asked, said])
        yield answer
        return True

    def _save_turn(self, base: int, parts: list[PartDraft], messages: list[MessageDraft]) -> None:
        ids = np.concatenate([part.token_ids for part in parts])
        name, end = self.state.save_run(base, ids, keep=True, commit=False)
        self._library.commit_turn(self._id, parts, messages, name, end)

    def _sources(self) -> "_Sources":
        spans = document_spans(self._library.parts(self._id), self._library.documents(self._id))
        return _Sources(spans=spans, source_map=lru_cache(_SOURCE_MAPS)(self._source_map))

    def _quoting(self, sources: "_Sources", turn_start: int) -> Quoting:
        engine = self._engine
        return Quoting(engine.tokenizer, sources.spans, turn_start, engine.model.layout, sources.source_map)

    def _answer(
        self, turn: "_Turn", trace: AttentionTrace, base: int, prompt_tokens: int, sources: "_Sources"
    ) -> Answer:
        text = turn.text.strip()
        evidence = find_evidence(trace, sources.spans, base, self._engine.model.layout, sources.source_map)
        quotations = verify_quotations(text, _likely_first(sources.spans, evidence), sources.source_map)
        return Answer(
            text=text,
            thinking=turn.thinking.strip(),
            evidence=evidence,
            quotations=quotations,
            tokens_reused=self.state.tokens_reused,
            tokens_read=self.state.tokens_read + prompt_tokens,
            tokens_generated=len(turn.ids),
            seconds_load=self.state.load_s,
            seconds_prefill=(turn.first or turn.ended) - turn.started,
            seconds_decode=turn.ended - (turn.first or turn.ended),
            finish_reason=turn.reason,
            model=self._engine.name,
            warnings=tuple(self._take_warnings()),
        )

    def _source_map(self, document_id: str) -> SourceMap | None:
        """A document's map; None, and a warning, where its stored text is damaged."""
        try:
            encoded = self._library.load_document(document_id)
        except CorruptStateError as error:
            self.state.warnings.append(str(error))
            return None
        return SourceMap(encoded.document.text, encoded.document.page_starts, encoded.token_starts)

    def _rewritten(self) -> list[PartDraft]:
        """The whole stream, made anew by this engine's tokenizer."""
        messages = {row.id: row for row in self._library.messages(self._id)}
        fresh = [self._writer.system()]
        for part in self._library.parts(self._id):
            if part.document_id is not None:
                encoded = self._library.load_document(part.document_id)
                again = encode_document(encoded.document, self._engine.tokenizer)
                document_id = self._library.put_document(again, self._engine.tokenizer.fingerprint)
                fresh.append(self._writer.document(again, document_id))
            elif part.message_id is not None:
                message = messages[part.message_id]
                write = self._writer.question if part.kind == "user" else self._writer.written_answer
                fresh.append(write(message.text, message.id))
        return fresh

    def _take_warnings(self) -> list[str]:
        taken, self.state.warnings = self.state.warnings, []
        return taken


@dataclass(kw_only=True)
class _Batch:
    """What one call of `read` has prepared."""

    parts: list[PartDraft] = field(default_factory=list)
    skipped: list[SkippedFile] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    files: int = 0
    pages: int = 0
    tokens: int = 0


@dataclass(frozen=True, kw_only=True)
class _Sources:
    """The documents of a session: where they stand in the stream, and their maps by id."""

    spans: list[DocumentSpan]
    source_map: Callable[[str], SourceMap | None]


@dataclass(kw_only=True)
class _Turn:
    """An answer while it is written. Times are of the monotonic clock."""

    started: float
    first: float | None = None
    ended: float = 0.0
    ids: list[int] = field(default_factory=list)
    text: str = ""
    thinking: str = ""
    reason: str = "stopped"

    def take(self, event: PromptProgress | Token | Finished) -> None:
        """Note what an event of the engine says."""
        if isinstance(event, Token):
            self.first = self.first or time.monotonic()
            if event.id is not None:
                self.ids.append(event.id)
            if event.thinking:
                self.thinking += event.text
            else:
                self.text += event.text
        elif isinstance(event, Finished):
            self.reason = event.reason


def _likely_first(spans: Sequence[DocumentSpan], evidence: Sequence[Evidence]) -> list[DocumentSpan]:
    """Documents that the evidence names first, then the others."""
    named = {item.document_id for item in evidence}
    return sorted(spans, key=lambda span: span.document_id not in named)
