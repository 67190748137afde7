"""One turn of a session whose answer an engine elsewhere writes. Its quotations are checked here, word for word."""

from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from sala_core.disk.files import new_id
from sala_core.engine.generate import Token
from sala_core.engine.memory_budget import HEADROOM_TOKENS
from sala_core.errors import EngineFailedError, SalaError
from sala_core.events import Answer, PromptProgress, ReadProgress
from sala_core.evidence.attention_cells import attention_cells
from sala_core.evidence.verify import unverified_quotations, verify_quotations
from sala_core.remote.engine import EngineAnswer, EngineSettings, RemoteEngine, Written
from sala_core.session.answer_text import AnswerText
from sala_core.session.context import SessionContext
from sala_core.session.folders.staleness import stale_notes
from sala_core.session.planning.timing import catch_up
from sala_core.session.remote.text import ReadText
from sala_core.session.turn import Sources, by_evidence
from sala_core.stopping import never
from sala_core.store import MessageDraft, PartDraft


@dataclass(frozen=True, kw_only=True)
class Writer:
    """An engine elsewhere, and what the user has set for its answers."""

    engine: RemoteEngine
    settings: EngineSettings = field(default_factory=EngineSettings)


class WrittenTurn:
    """A question and the answer of an engine elsewhere, for one use. The state is at the end of the session's stream.

    The turn is stored at once when the answer has ended, and the model here reads it afterwards as any other tokens: a
    program that is killed between the two loses nothing.
    """

    def __init__(
        self,
        context: SessionContext,
        question: str,
        writer: Writer,
        *,
        instead_of: str | None = None,
        num_tokens: int | None = None,
        is_aside: bool = False,
    ) -> None:
        """Prepare the turn.

        Args:
            context: the session.
            question: its text.
            writer: who answers.
            instead_of, num_tokens: as `sala_core.session.turn.Turn` takes them.
            is_aside: whether it follows no other turn, and is not stored.
        """
        self._context, self._writer = context, writer
        self._instead_of, self._num_tokens, self._is_aside = instead_of, num_tokens, is_aside
        self._message = MessageDraft(role="user", text=question)
        assert context.state.state is not None
        self._start = context.state.state.position
        self._content = AnswerText()

    @cached_property
    def _sources(self) -> Sources:
        return Sources(self._context, self._start, searched_to=self._num_tokens)

    @cached_property
    def _text(self) -> ReadText:
        sources, question = self._sources, self._message.text
        return ReadText(self._context, question, sources, self._instead_of, is_aside=self._is_aside)

    def run(
        self, should_stop: Callable[[], bool]
    ) -> Generator[ReadProgress | PromptProgress | Token | Answer, None, bool]:
        """Stream the answer and store the turn. Returns False if it was stopped before a word was written.

        Raises EngineError; nothing is stored then, and the state is where it was.
        """
        self._context.state.make_room(HEADROOM_TOKENS)
        end = yield from self._written(should_stop)
        if end is None or not (self._content.text.strip() or self._content.thinking.strip()):
            if end is not None and end.finish_reason != "stopped":
                raise EngineFailedError(f"{end.written_by.engine} has written nothing; ask again, or choose another")
            return False
        answer = self._answer(end)
        if not self._is_aside:
            yield from self._store(answer)
        yield answer
        return True

    def _written(
        self, should_stop: Callable[[], bool]
    ) -> Generator[ReadProgress | PromptProgress | Token, None, EngineAnswer | None]:
        end = None
        note = self._writer.engine.note_before(self._text)
        events = self._writer.engine.ask(self._text, self._message.text, self._writer.settings, should_stop=should_stop)
        for event in events:
            if isinstance(event, Written):
                token = Token(id=None, text=event.text, thinking=event.thinking)
                self._content.add(token)
                yield token
            elif isinstance(event, EngineAnswer):
                end = event
            else:
                yield replace(event, note=note) if isinstance(event, PromptProgress) and note else event
        return end

    def _answer(self, end: EngineAnswer) -> Answer:
        context, sources = self._context, self._sources
        text, evidence = self._content.text.strip(), end.passages or end.evidence
        quotations = end.quotations or verify_quotations(text, by_evidence(sources.known, evidence), sources.source_map)
        num_quoted = len(quotations) + len(unverified_quotations(text, quotations))
        shown = {item.document_id for item in evidence} | {item.document_id for item in quotations}
        written_by = replace(end.written_by, quotations_found=len(quotations), quotations_checked=num_quoted)
        thinking_s = self._content.thinking_s
        return Answer(
            text=text,
            thinking=self._content.thinking.strip(),
            evidence=evidence,
            quotations=quotations,
            tokens_reused=written_by.tokens_reused or 0,
            tokens_read=written_by.tokens_again or 0,
            tokens_generated=end.tokens_generated,
            seconds_load=context.state.load_s,
            seconds_prefill=end.seconds_prefill,
            seconds_decode=end.seconds_decode,
            finish_reason=end.finish_reason,
            model=written_by.engine,
            warnings=(
                *end.warnings,
                *context.take_warnings(),
                *stale_notes(context.library, context.session_id, shown),
            ),
            think=self._writer.settings.think,
            seconds_thinking=thinking_s,
            thinking_end="" if thinking_s is None else "open" if self._content.is_thinking else "model",
            document_tokens_read=context.state.document_tokens_read if self._instead_of else None,
            attention_map=attention_cells(self._text.trace, sources.spans, self._start, context.engine.model.layout),
            confidence=end.confidence,
            written_by=written_by,
        )

    def _store(self, answer: Answer) -> Generator[ReadProgress, None, None]:
        """Commit both messages and their tokens; then read them here, unless a reading goes on, which will do that."""
        message = MessageDraft(
            id=new_id(),
            role="assistant",
            text=answer.text,
            thinking=answer.thinking,
            status="stopped" if answer.finish_reason == "stopped" else "done",
            evidence=answer.evidence,
            stats=answer.stats,
        )
        context, messages = self._context, [self._message, message]
        asked = context.writer.past_question(self._message.text, self._message.id)
        parts = [asked, context.writer.written_answer(answer.text, message.id)]
        if self._instead_of is not None:
            self._commit_version(parts, messages)
            return
        context.library.append_turn(context.session_id, parts, messages)
        if self._num_tokens is None:
            try:
                with closing(catch_up(context, never)) as events:  # type: ignore[type-var]
                    yield from events
            except SalaError:
                return  # the turn is stored; the next question reads it, or says why it cannot

    def _commit_version(self, parts: list[PartDraft], messages: list[MessageDraft]) -> None:
        """Store another version of a turn. The state is where that one begins, and no stream leads on from there, so
        the state after the new one is stored with it."""
        context = self._context
        state = context.state.state
        assert state is not None
        ids = np.concatenate([part.token_ids for part in parts])
        for _ in context.engine.read(state, ids):
            pass
        name, end = context.state.save_run(self._start, ids, keep=True, commit=False)
        context.library.commit_turn(context.session_id, parts, messages, name, end, instead_of=self._instead_of)
