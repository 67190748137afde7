"""One turn of a session: prefill the question, decode the answer, find its evidence, save both."""

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache

import numpy as np

from sala_core.disk.files import new_id
from sala_core.engine.generate import Finished, Token
from sala_core.engine.memory_budget import HEADROOM_TOKENS
from sala_core.engine.sampling import SamplingParams
from sala_core.engine.speculation import DraftIndex
from sala_core.errors import CorruptStateError
from sala_core.events import Answer, Evidence, PromptProgress
from sala_core.evidence.places import DocumentSpan, find_evidence
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
from sala_core.store import MessageDraft, PartDraft

_CACHED_SOURCE_MAPS = 32


class Turn:
    """A question and its answer, for one use. The session's state is at the end of its stream."""

    def __init__(self, context: SessionContext, question: str, sampling: SamplingParams | None) -> None:
        """sampling: None for the model's defaults."""
        self._context = context
        self._message = MessageDraft(role="user", text=question)
        self._sampling = sampling or context.engine.sampling_defaults
        self._prompt = context.writer.question(question, self._message.id, think=self._sampling.think)
        self._start = _state_of(context).position
        self._trace = AttentionTrace()

    @cached_property
    def _sources(self) -> "_Sources":
        return _Sources(self._context)

    def run(self, should_stop: Callable[[], bool]) -> Generator[PromptProgress | Token | Answer, None, bool]:
        """Stream the answer and save the turn. Returns False if the question was not prefilled to its end.

        Nothing is saved then, nor if the generator is closed early; the state in memory is further than the library.
        """
        context, prompt_tokens = self._context, len(self._prompt.token_ids)
        longest = self._sampling.max_new_tokens(thinks=context.engine.thinks)
        context.state.make_room(prompt_tokens + min(longest, HEADROOM_TOKENS))
        opened = AnswerText(is_thinking=context.engine.chat.opens_thinking(self._sampling.think))
        decoded = _Decoded(started=time.monotonic(), content=opened)
        drafts = context.state.drafts()
        drafts.extend(self._prompt.token_ids)
        before = _state_of(context).mark()
        for event in self._generate(drafts, should_stop):
            decoded.add(event)
            if not isinstance(event, Finished):
                yield event
        decoded.ended = time.monotonic()
        if _state_of(context).position < self._start + prompt_tokens:
            return False
        answer_id = new_id()
        answer = self._answer(decoded)
        self._drop_copies(decoded, before)
        part = self._end_message(decoded, answer_id, drafts)
        self._save(part, answer, answer_id)
        yield answer
        return True

    def _generate(
        self, drafts: DraftIndex, should_stop: Callable[[], bool]
    ) -> Iterator[PromptProgress | Token | Finished]:
        """The engine's events. drafts: all tokens up to the end of the question; the answer's are added to it."""
        state, engine = _state_of(self._context), self._context.engine
        blocks = quoting = None
        if self._sampling.verbatim:
            spans, source_map = self._sources.spans, self._sources.source_map
            quoting = Quoting(engine.tokenizer, spans, self._start, engine.model.layout, source_map)
            blocks = engine.look_up(state, self._message.text, self._trace)
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

    def _end_message(self, decoded: "_Decoded", answer_id: str, drafts: DraftIndex) -> PartDraft:
        """Prefill the tokens that end the answer's message, and add them to `drafts`. Returns the whole message.

        They also close thinking that was stopped, so that later turns follow a message as the model knows them.
        """
        closing = self._context.engine.chat.thinking_end.tolist() if decoded.content.is_thinking else []
        part = self._context.writer.answer([*decoded.ids, *closing], answer_id)
        rest = part.token_ids[len(decoded.ids) :]
        for _ in self._context.engine.read(_state_of(self._context), rest):
            pass
        drafts.extend(rest)
        return part

    def _answer(self, decoded: "_Decoded") -> Answer:
        context, spans, source_map = self._context, self._sources.spans, self._sources.source_map
        content, end = decoded.content, decoded.end
        text = content.without_copies(end.repeated_chars if end else 0).strip()
        evidence = find_evidence(self._trace, spans, self._start, context.engine.model.layout, source_map)
        quotations = verify_quotations(text, _by_evidence(spans, evidence), source_map)
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
            seconds_prefill=(decoded.first or decoded.ended) - decoded.started,
            seconds_decode=decoded.ended - (decoded.first or decoded.ended),
            finish_reason=end.reason if end else "stopped",
            model=context.engine.name,
            warnings=(*context.take_warnings(), *stale_notes(context.library, context.session_id, shown)),
            think=self._sampling.think,
            thinking_budget=self._sampling.thinking_budget if context.engine.thinks else None,
            tokens_thinking=decoded.tokens_thinking,
            seconds_thinking=content.thinking_s,
            thinking_end=end.thinking_end if end else "open" if content.is_thinking else "",
        )

    def _save(self, part: PartDraft, answer: Answer, answer_id: str) -> None:
        """Store the state, then commit both messages and their tokens in one transaction."""
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
        ids = np.concatenate([each.token_ids for each in parts])
        name, end = context.state.save_run(self._start, ids, keep=True, commit=False)
        context.library.commit_turn(context.session_id, parts, [self._message, message], name, end)


def _state_of(context: SessionContext) -> SalaState:
    state = context.state.state
    assert state is not None
    return state


class _Sources:
    """The documents of a session: where they stand in the stream, and their source maps."""

    def __init__(self, context: SessionContext) -> None:
        self._context = context
        library, session_id = context.library, context.session_id
        self.spans = document_spans(library.parts(session_id), library.documents(session_id))
        self.source_map: Callable[[str], SourceMap | None] = lru_cache(_CACHED_SOURCE_MAPS)(self._load)

    def _load(self, document_id: str) -> SourceMap | None:
        """A document's source map; None, and a warning, where its stored text is damaged."""
        try:
            encoded = load_text(self._context, document_id)
        except CorruptStateError as error:
            self._context.state.warnings.append(str(error))
            return None
        document = encoded.document
        return SourceMap(document.text, document.page_starts, encoded.token_starts, media_type=document.media_type)


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


def _by_evidence(spans: Sequence[DocumentSpan], evidence: Sequence[Evidence]) -> list[DocumentSpan]:
    """The documents that the evidence names, then the others."""
    named = {item.document_id for item in evidence}
    return sorted(spans, key=lambda span: span.document_id not in named)
