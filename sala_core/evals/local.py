"""The evaluated model in this process: each reading is prefilled once, and every question starts from its state."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np

from sala_core.disk.files import new_id
from sala_core.engine.engine import Engine
from sala_core.engine.generate import Finished, Token
from sala_core.engine.memory_budget import check_budget
from sala_core.engine.sampling import SamplingParams
from sala_core.evals.records import EvidenceRank, Question, Reading, Reply
from sala_core.events import PromptProgress
from sala_core.evidence.finding import DocumentFinder
from sala_core.evidence.places import DocumentSpan, find_evidence
from sala_core.evidence.searched import SearchedDocument
from sala_core.evidence.verbatim import Quoting
from sala_core.ingest import SourceMap
from sala_core.model.forward import AttentionTrace
from sala_core.model.state import SalaState
from sala_core.text.chat_template import Role
from sala_core.text.prompt import document_header

_FIRST_PLACES = 5
_CACHED_CHARS = 4096  # token counts of texts up to this size are cached: fitting a conversation recounts its messages
_DOCUMENT_ID = "text"


class LocalModel:
    """An engine with the program's own prompt: system message, document, question. Answers are greedy."""

    def __init__(
        self,
        engine: Engine,
        *,
        max_tokens: int | None = None,
        verbatim: bool | None = None,
        think: bool | None = None,
    ) -> None:
        """Wrap a loaded model.

        Args:
            engine: the model.
            max_tokens: limit of every answer, without its thinking; None takes each task's own.
            verbatim: whether quotations are copied word for word from the document. None: as the program answers, that
                is by the model's default, and with the finder for a model that only finds.
            think: whether the model thinks before it answers; None as the model has it.

        Raises TokenizerError if the model has no chat template, SettingsError for thinking that it cannot do,
        ModelError.
        """
        self.engine = engine
        self.name = engine.name
        self.max_tokens = max_tokens
        self.verbatim = engine.sampling_defaults.verbatim if verbatim is None else verbatim
        self.finds = verbatim is None and self.verbatim and engine.sampling_defaults.only_quotes
        self.think = think
        self._tokenizer, self._chat = engine.tokenizer, engine.chat
        self._generation_prompt = self._chat.generation_prompt(think)
        self._cached_tokens = lru_cache(1 << 14)(self._count)
        roles: tuple[Role, ...] = ("system", "user", "assistant")
        self._template_tokens = {role: len(self._chat.message(role, np.zeros(0, np.int32))) for role in roles}

    def identity(self) -> dict[str, str]:
        """The settings that name the model. Samples of other ones are not mixed with these."""
        quotations = {"quotations": "found" if self.finds else "verbatim"} if self.verbatim else {}
        thinking = {"thinking": "on" if self.think else "off"} if self.think is not None and self._chat.thinks else {}
        return {"model": self.name, "fingerprint": self.engine.fingerprint, **quotations, **thinking}

    def text_tokens(self, text: str) -> int:
        """Tokens of a text alone."""
        return self._cached_tokens(text) if len(text) <= _CACHED_CHARS else self._count(text)

    def first_tokens(self, text: str, num_tokens: int) -> str:
        """The text of the first `num_tokens` tokens of `text`."""
        return self._tokenizer.decode(self._tokenizer.encode_content(text)[:num_tokens])

    def count(self, reading: Reading) -> int:
        """Tokens of the prompt with its longest question."""
        total = self._template_tokens["system"] + self.text_tokens(reading.system)
        for message in reading.messages:
            total += self._template_tokens[message.role] + self.text_tokens(message.text)
            total += self.text_tokens(document_header(message.document)) if message.document else 0
        longest = max(self.text_tokens(question.text) for question in reading.questions)
        return total + self._template_tokens["user"] + longest + len(self._generation_prompt)

    def answers(
        self, reading: Reading, questions: Sequence[Question], should_stop: Callable[[], bool]
    ) -> Iterator[PromptProgress | Reply]:
        """Prefill the reading, then answer each question from the same state.

        Ends early once `should_stop` returns true. Raises MemoryBudgetError.
        """
        ids, text_start, token_starts = self._prompt(reading)
        longest = max(self._sampling(question).max_new_tokens(thinks=self._chat.thinks) for question in questions)
        check_budget(self.engine, len(ids) + longest)
        state, started = self.engine.new_state(), time.monotonic()
        state.reserve(len(ids))
        for done, _ in self.engine.read(state, ids):
            yield PromptProgress(tokens_done=done, tokens_total=len(ids))
            if should_stop():
                return
        read_s = time.monotonic() - started
        fork = state.mark()
        document = reading.document
        source_map = SourceMap(document.text, (), token_starts) if document else None
        span = DocumentSpan(
            document_id=_DOCUMENT_ID, name=_DOCUMENT_ID, start=text_start, end=text_start + len(token_starts)
        )
        if source_map is not None and self.finds:
            searched = SearchedDocument(
                document_id=new_id(), name=_DOCUMENT_ID, num_tokens=len(token_starts), lines=lambda: source_map
            )
            yield from self._found(searched, questions, len(ids), read_s, should_stop)
            return
        for question in questions:
            trace = AttentionTrace() if source_map else None
            quoting = self._quoting(span, state.position, source_map) if source_map and self.verbatim else None
            reply = self._answer(state, question, trace, quoting, should_stop)
            fork.rewind()
            if reply is None:
                return
            evidence = None
            if trace and source_map and question.needles:
                evidence = self._evidence_rank(trace, span, state.position, source_map, question)
            yield replace(reply, read_s=read_s, evidence=evidence)
            read_s = 0.0

    def _answer(
        self,
        state: SalaState,
        question: Question,
        trace: AttentionTrace | None,
        quoting: Quoting | None,
        should_stop: Callable[[], bool],
    ) -> Reply | None:
        message = self._chat.message("user", self._tokenizer.encode_content(question.text))
        prompt = np.concatenate([message, self._generation_prompt])
        position, started, text = state.position, time.monotonic(), ""
        sampling = self._sampling(question)
        blocks = self.engine.look_up(state, question.text, trace) if trace and quoting else None
        for event in self.engine.generate(
            state, prompt, sampling, blocks=blocks, trace=trace, should_stop=should_stop, quoting=quoting
        ):
            if isinstance(event, Token) and not event.thinking:
                text += event.text
            elif isinstance(event, Finished):
                return Reply(
                    text=text.strip(),
                    reason=event.reason,
                    prompt_tokens=position + len(prompt),
                    answer_tokens=len(event.ids),
                    seconds=time.monotonic() - started,
                    read_s=0.0,
                )
        return None

    def _found(
        self,
        document: SearchedDocument,
        questions: Sequence[Question],
        position: int,
        read_s: float,
        should_stop: Callable[[], bool],
    ) -> Iterator[Reply]:
        """The replies of a model that only finds, as the program gives them."""
        finder, source_map = DocumentFinder([document]), document.lines()
        assert source_map is not None
        for question in questions:
            if should_stop():
                return
            started = time.monotonic()
            found = finder.answer(question.text)
            places = [(item.line_start, item.line_end) for item in found.evidence]
            yield Reply(
                text=found.text,
                reason="stop",
                prompt_tokens=position + self.text_tokens(question.text),
                answer_tokens=self.text_tokens(found.text),
                seconds=time.monotonic() - started,
                read_s=read_s,
                evidence=_rank_of_needles(places, source_map, question) if question.needles else None,
            )
            read_s = 0.0

    def _sampling(self, question: Question) -> SamplingParams:
        return SamplingParams(temperature=0, max_tokens=self.max_tokens or question.max_tokens, think=self.think)

    def _quoting(self, span: DocumentSpan, turn_start: int, source_map: SourceMap) -> Quoting:
        return Quoting(self._tokenizer, [span], turn_start, self.engine.model.layout, lambda _: source_map)

    def _evidence_rank(
        self, trace: AttentionTrace, span: DocumentSpan, turn_start: int, source_map: SourceMap, question: Question
    ) -> EvidenceRank:
        """Compare the lines of the ranked places with the lines of the needles. `turn_start`: the question's token."""
        places = find_evidence(trace, [span], turn_start, self.engine.model.layout, lambda _: source_map)
        return _rank_of_needles([(item.line_start, item.line_end) for item in places], source_map, question)

    def _prompt(self, reading: Reading) -> tuple[np.ndarray, int, np.ndarray]:
        """(token ids of all messages, token where the document's text starts, first character of each of its tokens).

        Without a document the last two are 0 and empty.
        """
        parts = [self._chat.message("system", self._tokenizer.encode_content(reading.system))]
        text_start, token_starts = 0, np.zeros(0, np.int64)
        for message in reading.messages:
            header = np.zeros(0, np.int32)
            if message.document:
                header = self._tokenizer.encode_content(document_header(message.document))
            ids, offsets = self._tokenizer.encode_content_with_offsets(message.text)
            if message.document:
                position = sum(map(len, parts)) + len(self._chat.message_prefix(message.role))
                text_start, token_starts = position + len(header), offsets
            parts.append(self._chat.message(message.role, np.concatenate([header, ids])))
        return np.concatenate(parts), text_start, token_starts

    def _count(self, text: str) -> int:
        return len(self._tokenizer.encode_content(text))


def _rank_of_needles(places: Sequence[tuple[int, int]], source_map: SourceMap, question: Question) -> EvidenceRank:
    """Where the question's needles are among ranked places. places: first and last line of each."""
    needles = [source_map.place_of_chars(start, end) for start, end in question.needles]
    hits = [
        {i for i, needle in enumerate(needles) if first <= needle.line_end and last >= needle.line_start}
        for first, last in places
    ]
    rank = next((i for i, needles_here in enumerate(hits, 1) if needles_here), None)
    in_first = set().union(*hits[:_FIRST_PLACES])
    return EvidenceRank(rank=rank, share=len(in_first) / len(needles))
