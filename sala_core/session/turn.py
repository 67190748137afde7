"""One turn of a session: prefill the question, decode the answer, find its evidence, save both."""

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache, partial
from itertools import takewhile

import numpy as np

from sala_core.disk.files import new_id
from sala_core.engine.decode import drafts_gain
from sala_core.engine.generate import Finished, Token
from sala_core.engine.memory_budget import HEADROOM_TOKENS
from sala_core.engine.sampling import SamplingParams
from sala_core.engine.speculation import DraftIndex
from sala_core.errors import CorruptStateError
from sala_core.events import Answer, Evidence, PromptProgress
from sala_core.evidence.attention_cells import attention_cells
from sala_core.evidence.finding import DocumentFinder
from sala_core.evidence.places import DocumentSpan, find_evidence
from sala_core.evidence.searched import FoundAnswer, SearchedDocument, searched_documents
from sala_core.evidence.verbatim import Quoting
from sala_core.evidence.verify import verify_quotations
from sala_core.ingest import SourceMap
from sala_core.model.forward import AttentionTrace
from sala_core.model.state import Mark, SalaState
from sala_core.session.answer_text import AnswerText
from sala_core.session.context import SessionContext
from sala_core.session.folders.staleness import stale_notes
from sala_core.session.stream import document_spans
from sala_core.session.text_mending import load_text
from sala_core.store import MessageDraft, MessageRow, PartDraft

_CACHED_SOURCE_MAPS = 32


class Turn:
    """A question and its answer, for one use. The session's state is at the end of its stream."""

    def __init__(
        self,
        context: SessionContext,
        question: str,
        sampling: SamplingParams | None,
        *,
        instead_of: str | None = None,
        num_tokens: int | None = None,
    ) -> None:
        """Prepare the turn.

        Args:
            context: the session.
            question: its text.
            sampling: None for the model's defaults.
            instead_of: id of the turn of which this is another version; the state is where that one begins.
            num_tokens: of the session's stream, for a turn while a reading goes on: the state is somewhere before that,
                and is the same afterwards. The turn is stored behind all documents. A model that only finds searches
                all of them; another one knows what it has read. None for any other turn.
        """
        self._context = context
        self._instead_of = instead_of
        self._num_tokens = num_tokens
        self._message = MessageDraft(role="user", text=question)
        self._asked = question
        self._sampling = sampling or context.engine.sampling_defaults
        self._prompt = context.writer.question(question, self._message.id, think=self._sampling.think)
        self._start = _state_of(context).position
        self._trace = AttentionTrace()
        self._found: FoundAnswer | None = None

    @cached_property
    def _sources(self) -> "Sources":
        return Sources(self._context, self._start, searched_to=self._num_tokens)

    def run(self, should_stop: Callable[[], bool]) -> Generator[PromptProgress | Token | Answer, None, bool]:
        """Stream the answer and save the turn. Returns False if it was stopped before a word was written.

        Nothing is saved then, nor if the generator is closed early; the state in memory is further than the library.
        """
        context, prompt_tokens = self._context, len(self._prompt.token_ids)
        longest = self._sampling.max_new_tokens(thinks=context.engine.thinks)
        context.state.make_room(prompt_tokens + min(longest, HEADROOM_TOKENS))
        opened = AnswerText(is_thinking=context.engine.chat.opens_thinking(self._sampling.think))
        decoded = _Decoded(started=time.monotonic(), content=opened)
        drafts = self._drafts()
        if drafts is not None:
            drafts.extend(self._prompt.token_ids)
        before = _state_of(context).mark()
        for event in self._generate(drafts, should_stop):
            decoded.add(event)
            if not isinstance(event, Finished):
                yield event
        decoded.ended = time.monotonic()
        if _state_of(context).position < self._start + prompt_tokens or decoded.is_void:
            return False
        answer_id = new_id()
        answer = self._answer(decoded)
        self._drop_copies(decoded, before)
        part = self._end_message(decoded, answer_id, drafts)
        self._save(part, answer, answer_id)
        yield answer
        return True

    def _drafts(self) -> DraftIndex | None:
        """The index that drafts come from; None where they gain nothing, or no token is decoded."""
        context = self._context
        return context.state.drafts() if drafts_gain(context.engine.model) and not self._sampling.finds else None

    def _generate(
        self, drafts: DraftIndex | None, should_stop: Callable[[], bool]
    ) -> Iterator[PromptProgress | Token | Finished]:
        """The engine's events. drafts: all tokens up to the end of the question; the answer's are added to it."""
        if self._sampling.finds:
            return self._find(should_stop)
        state, engine = _state_of(self._context), self._context.engine
        blocks = quoting = None
        if self._sampling.verbatim:
            spans, source_map = self._sources.spans, self._sources.source_map
            quoting = Quoting(engine.tokenizer, spans, self._start, engine.model.layout, source_map)
            blocks = engine.look_up(state, self._asked, self._trace)
        return engine.generate(
            state,
            self._prompt.token_ids,
            self._sampling,
            blocks=blocks,
            trace=self._trace,
            should_stop=should_stop,
            drafts=drafts,
            quoting=quoting,
        )

    def _find(self, should_stop: Callable[[], bool]) -> Iterator[PromptProgress | Token | Finished]:
        """The events of a model that only finds: it reads the question and the answer, and decodes nothing."""
        context, state = self._context, _state_of(self._context)
        engine, prompt = context.engine, self._prompt.token_ids
        blocks = engine.look_up(state, self._asked, self._trace)
        finder = DocumentFinder(self._sources.searched())
        self._found = found = finder.answer(self._asked, before=self._turn_before())
        for done, _ in engine.read(state, prompt, blocks=blocks):
            yield PromptProgress(tokens_done=done, tokens_total=len(prompt))
            if should_stop():
                return
        text = min((found.text.partition(stop)[0] for stop in self._sampling.stop), key=len, default=found.text)
        ids = engine.tokenizer.encode_content(text).tolist()
        is_whole = len(ids) <= self._sampling.max_tokens
        if not is_whole:
            text = engine.tokenizer.decode(ids[: self._sampling.max_tokens])
            text = text[: text.rfind(" ")] if " " in text else text
            ids = engine.tokenizer.encode_content(text).tolist()
        for _ in engine.read(state, ids):
            pass
        for i, each in enumerate(ids):
            yield Token(id=each, text="" if i else text, thinking=False)
        yield Finished(reason="stop" if is_whole else "length", ids=tuple(ids))

    def _turn_before(self) -> str:
        """The question before this one, "" if there is none."""
        before = messages_before(self._context, self._instead_of)
        return next((message.text for message in reversed(before) if message.role == "user"), "")

    def _drop_copies(self, decoded: "_Decoded", before: Mark) -> None:
        """Read the turn again without the copies at its end, so that later turns do not take up the loop.

        before: of the state before the turn.
        """
        if decoded.end is None or not decoded.end.repeated_tokens:
            return
        text, ids, end = decoded.content.text, decoded.ids, decoded.end
        first = len(ids) - end.repeated_tokens
        wanted = len(decoded.content.without_copies(end.repeated_chars)) - (len(text) - end.repeated_chars)
        decode, copies = self._context.engine.tokenizer.decode, ids[first:]
        shown = next((n for n in range(len(copies)) if len(decode(copies[:n])) >= wanted), len(copies))
        decoded.ids = ids[: first + shown]
        before.rewind()
        for _ in self._context.engine.read(_state_of(self._context), [*self._prompt.token_ids, *decoded.ids]):
            pass

    def _end_message(self, decoded: "_Decoded", answer_id: str, drafts: DraftIndex | None) -> PartDraft:
        """Prefill the tokens that end the answer's message, and add them to `drafts`. Returns the whole message.

        They also close thinking that was stopped, so that later turns follow a message as the model knows them.
        """
        closing = self._context.engine.chat.thinking_end.tolist() if decoded.content.is_thinking else []
        part = self._context.writer.answer([*decoded.ids, *closing], answer_id)
        rest = part.token_ids[len(decoded.ids) :]
        for _ in self._context.engine.read(_state_of(self._context), rest):
            pass
        if drafts is not None:
            drafts.extend(rest)
        return part

    def _answer(self, decoded: "_Decoded") -> Answer:
        context, spans, source_map = self._context, self._sources.spans, self._sources.source_map
        content, end = decoded.content, decoded.end
        text = content.without_copies(end.repeated_chars if end else 0).strip()
        if self._found is not None:
            evidence, quotations = self._found.evidence, self._found.quotations
        else:
            evidence = find_evidence(self._trace, spans, self._start, context.engine.model.layout, source_map)
            quotations = verify_quotations(text, by_evidence(spans, evidence), source_map)
        shown = {item.document_id for item in evidence} | {item.document_id for item in quotations}
        return Answer(
            text=text,
            thinking=content.thinking.strip(),
            evidence=evidence,
            quotations=quotations,
            tokens_reused=context.state.tokens_reused,
            tokens_read=context.state.tokens_read + len(self._prompt.token_ids),
            tokens_generated=len(decoded.ids),
            seconds_load=context.state.load_s,
            seconds_prefill=context.state.read_s + (decoded.first or decoded.ended) - decoded.started,
            seconds_decode=decoded.ended - (decoded.first or decoded.ended),
            finish_reason=end.reason if end else "stopped",
            model=context.engine.name,
            warnings=(*context.take_warnings(), *stale_notes(context.library, context.session_id, shown)),
            think=self._sampling.think,
            thinking_budget=self._sampling.thinking_budget if context.engine.thinks else None,
            tokens_thinking=decoded.tokens_thinking,
            seconds_thinking=content.thinking_s,
            thinking_end=end.thinking_end if end else "open" if content.is_thinking else "",
            document_tokens_read=context.state.document_tokens_read if self._instead_of else None,
            read_so_far=(self._start, self._num_tokens) if self._num_tokens and self._found is None else None,
            confidence=self._found.confidence if self._found is not None else None,
            attention_map=attention_cells(self._trace, spans, self._start, context.engine.model.layout),
        )

    def _save(self, part: PartDraft, answer: Answer, answer_id: str) -> None:
        """Store the state, then commit both messages and their tokens in one transaction.

        A turn during a reading is only appended to the stream: the reading prefills it once all documents are read.
        """
        message = MessageDraft(
            id=answer_id,
            role="assistant",
            text=answer.text,
            thinking=answer.thinking,
            status="stopped" if answer.finish_reason == "stopped" else "done",
            evidence=answer.evidence,
            stats=answer.stats,
        )
        parts, context = [self._prompt, part], self._context
        if self._num_tokens is not None:
            context.library.append_turn(context.session_id, parts, [self._message, message])
            return
        ids = np.concatenate([each.token_ids for each in parts])
        name, end = context.state.save_run(self._start, ids, keep=True, commit=False)
        context.library.commit_turn(
            context.session_id, parts, [self._message, message], name, end, instead_of=self._instead_of
        )


def messages_before(context: SessionContext, turn_id: str | None) -> list[MessageRow]:
    """The shown messages before a turn; all of them for None."""
    messages = context.library.messages(context.session_id)
    return list(takewhile(lambda message: message.id != turn_id, messages))


def _state_of(context: SessionContext) -> SalaState:
    state = context.state.state
    assert state is not None
    return state


class Sources:
    """The documents of a session: where they stand in the stream, and their source maps."""

    def __init__(self, context: SessionContext, end: int, *, searched_to: int | None = None) -> None:
        """Find out what stands where; nothing is loaded yet.

        Args:
            context: the session.
            end: how many tokens are read. `spans` go so far.
            searched_to: end of the tokens whose texts are searched, which needs no model: all of them, while they are
                read. `known` goes so far. None for `end`.
        """
        library, session_id = context.library, context.session_id
        spans = document_spans(library.parts(session_id), library.documents(session_id))
        self.spans = _before(spans, end)
        self.known = self.spans if searched_to is None else _before(spans, searched_to)
        # of a function, not of a method: an object that held its own method would keep the state until Python looks
        # for cycles, long after the session is closed
        self.source_map: Callable[[str], SourceMap | None] = lru_cache(_CACHED_SOURCE_MAPS)(partial(_load_map, context))

    def searched(self) -> list[SearchedDocument]:
        """The known documents, each as far as it is known."""
        return searched_documents(self.known, self.source_map)


def _before(spans: Sequence[DocumentSpan], end: int) -> list[DocumentSpan]:
    """The documents that begin before a token, cut there."""
    return [replace(span, end=min(span.end, end)) for span in spans if span.start < end]


def _load_map(context: SessionContext, document_id: str) -> SourceMap | None:
    """A document's source map; None, and a warning, where its stored text is damaged."""
    try:
        encoded = load_text(context, document_id)
    except CorruptStateError as error:
        context.state.warnings.append(str(error))
        return None
    return SourceMap.of(encoded)


@dataclass(kw_only=True)
class _Decoded:
    """What the engine has reported of an answer. Times are of the monotonic clock, in seconds."""

    started: float
    first: float | None = None
    """When the first token came."""
    ended: float = 0.0
    content: AnswerText
    ids: list[int] = field(default_factory=list)
    tokens_thinking: int = 0
    end: Finished | None = None
    """None where the answer was stopped."""

    @property
    def is_void(self) -> bool:
        """Whether it was stopped before anything was written: there is nothing to keep."""
        return self.end is None and not self.content.text.strip() and not self.content.thinking.strip()

    def add(self, event: PromptProgress | Token | Finished) -> None:
        """Take in an event of `Engine.generate`."""
        if isinstance(event, Token):
            self.first = self.first or time.monotonic()
            if event.id is not None:
                self.ids.append(event.id)
                if self.content.is_thinking or event.thinking:
                    self.tokens_thinking = len(self.ids)
            self.content.add(event)
        elif isinstance(event, Finished):
            self.end = event


def by_evidence(spans: Sequence[DocumentSpan], evidence: Sequence[Evidence]) -> list[DocumentSpan]:
    """The documents that the evidence names, then the others."""
    named = {item.document_id for item in evidence}
    return sorted(spans, key=lambda span: span.document_id not in named)
