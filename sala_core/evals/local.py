"""A model of ours as the one that is asked: each reading is read once, and every question goes on from its state."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np

from sala_core.engine.engine import Engine
from sala_core.engine.generate import Finished, PromptProgress, Token
from sala_core.engine.memory_budget import check_budget
from sala_core.engine.sampling import SamplingParams
from sala_core.evals.records import EvidenceRank, Question, Reading, Reply
from sala_core.evidence.places import DocumentSpan, find_evidence
from sala_core.evidence.verbatim import Quoting
from sala_core.ingest import SourceMap
from sala_core.model.forward import AttentionTrace
from sala_core.model.state import SalaState
from sala_core.text.chat_template import Role
from sala_core.text.prompt import document_header

_FIRST_PLACES = 5
_SHORT_CHARS = 4096  # counts of texts up to so long are remembered: conversations repeat theirs while they are fitted
_ID = "text"


class LocalModel:
    """An engine that reads a document as the program does: system message, document, question; greedy answers."""

    def __init__(self, engine: Engine, *, max_tokens: int | None = None, verbatim: bool | None = None) -> None:
        """max_tokens: of every answer; None takes what each task gives. verbatim: whether quotations are word for word;
        None: as the model has it. Raises TokenizerError without a template, ModelError."""
        self.engine = engine
        self.name = engine.name
        self.max_tokens = max_tokens
        self.verbatim = engine.sampling_defaults.verbatim if verbatim is None else verbatim
        self._tokenizer, self._chat = engine.tokenizer, engine.chat
        self._short_tokens = lru_cache(1 << 14)(self._count)
        turns: tuple[Role, ...] = ("system", "user", "assistant")
        self._around = {role: len(self._chat.message(role, np.zeros(0, np.int32))) for role in turns}

    def identity(self) -> dict[str, str]:
        """What samples are bound to."""
        quotations = {"quotations": "verbatim"} if self.verbatim else {}
        return {"model": self.name, "fingerprint": self.engine.fingerprint, **quotations}

    def text_tokens(self, text: str) -> int:
        """Tokens of a text alone."""
        return self._short_tokens(text) if len(text) <= _SHORT_CHARS else self._count(text)

    def first_tokens(self, text: str, num_tokens: int) -> str:
        """The text of the first tokens of `text`."""
        return self._tokenizer.decode(self._tokenizer.encode_content(text)[:num_tokens])

    def count(self, reading: Reading) -> int:
        """Tokens of the prompt with its longest question."""
        total = self._around["system"] + self.text_tokens(reading.system)
        for message in reading.messages:
            total += self._around[message.role] + self.text_tokens(message.text)
            total += self.text_tokens(document_header(message.document)) if message.document else 0
        longest = max(self.text_tokens(question.text) for question in reading.questions)
        return total + self._around["user"] + longest + len(self._chat.generation_prompt())

    def answers(
        self, reading: Reading, questions: Sequence[Question], should_stop: Callable[[], bool]
    ) -> Iterator[PromptProgress | Reply]:
        """Read, then answer each of the questions from the same state. Ends early where it is asked to stop.

        Raises MemoryBudgetError.
        """
        ids, body, token_starts = self._prompt(reading)
        check_budget(self.engine, len(ids) + max(q.max_tokens for q in questions))
        state, started = self.engine.new_state(), time.monotonic()
        state.reserve(len(ids))
        for done, _ in self.engine.read(state, ids):
            yield PromptProgress(tokens_done=done, tokens_total=len(ids))
            if should_stop():
                return
        read_s = time.monotonic() - started
        here = state.mark()
        document = reading.document
        lines = SourceMap(document.text, (), token_starts) if document else None
        for question in questions:
            trace = AttentionTrace() if lines else None
            span = DocumentSpan(document_id=_ID, name=_ID, start=body, end=body + len(token_starts))
            quoting = self._quoting(span, state.position, lines) if lines and self.verbatim else None
            reply = self._answer(state, question, trace, quoting, should_stop)
            here.rewind()
            if reply is None:
                return
            seen = None
            if trace and lines and question.needles:
                seen = self._seen(trace, span, state.position, lines, question)
            yield replace(reply, read_s=read_s, seen=seen)
            read_s = 0.0

    def _answer(
        self,
        state: SalaState,
        question: Question,
        trace: AttentionTrace | None,
        quoting: Quoting | None,
        should_stop: Callable[[], bool],
    ) -> Reply | None:
        asked = self._chat.message("user", self._tokenizer.encode_content(question.text))
        prompt = np.concatenate([asked, self._chat.generation_prompt()])
        before, started, text = state.position, time.monotonic(), ""
        sampling = SamplingParams(temperature=0, max_tokens=self.max_tokens or question.max_tokens)
        for event in self.engine.generate(
            state, prompt, sampling, trace=trace, should_stop=should_stop, quoting=quoting
        ):
            if isinstance(event, Token) and not event.thinking:
                text += event.text
            elif isinstance(event, Finished):
                return Reply(
                    text=text.strip(),
                    reason=event.reason,
                    prompt_tokens=before + len(prompt),
                    answer_tokens=len(event.ids),
                    seconds=time.monotonic() - started,
                    read_s=0.0,
                )
        return None

    def _quoting(self, span: DocumentSpan, turn_start: int, lines: SourceMap) -> Quoting:
        return Quoting(self._tokenizer, [span], turn_start, self.engine.model.layout, lambda _: lines)

    def _seen(
        self, trace: AttentionTrace, span: DocumentSpan, asked_at: int, lines: SourceMap, question: Question
    ) -> EvidenceRank:
        places = find_evidence(trace, [span], asked_at, self.engine.model.layout, lambda _: lines)
        wanted = [lines.place_of_chars(start, end) for start, end in question.needles]
        held = [
            {i for i, place in enumerate(wanted) if p.line_start <= place.line_end and p.line_end >= place.line_start}
            for p in places
        ]
        rank = next((i for i, found in enumerate(held, 1) if found), None)
        first = set().union(*held[:_FIRST_PLACES])
        return EvidenceRank(rank=rank, share=len(first) / len(wanted))

    def _prompt(self, reading: Reading) -> tuple[np.ndarray, int, np.ndarray]:
        """(ids of all messages, where the document's text begins, the character where each of its tokens begins)."""
        parts = [self._chat.message("system", self._tokenizer.encode_content(reading.system))]
        body, starts = 0, np.zeros(0, np.int64)
        for message in reading.messages:
            head = np.zeros(0, np.int32)
            if message.document:
                head = self._tokenizer.encode_content(document_header(message.document))
            ids, offsets = self._tokenizer.encode_content_with_offsets(message.text)
            if message.document:
                before = sum(map(len, parts))
                body, starts = before + len(self._chat.message_prefix(message.role)) + len(head), offsets
            parts.append(self._chat.message(message.role, np.concatenate([head, ids])))
        return np.concatenate(parts), body, starts

    def _count(self, text: str) -> int:
        return len(self._tokenizer.encode_content(text))
