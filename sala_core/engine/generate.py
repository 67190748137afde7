"""Decoding of an answer: tokens, drafts copied from the text, verbatim quotations, and text that may be shown."""

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor

from sala_core.engine.decode import MAX_PASS_TOKENS, Decoder
from sala_core.engine.sampling import Sampler, SamplingParams, StopMatcher
from sala_core.engine.speculation import DraftIndex, DraftLength
from sala_core.evidence.verbatim import Quoting
from sala_core.model.forward import AttentionTrace, SalaModel
from sala_core.model.state import SalaState
from sala_core.text.thinking import Piece, ThinkSplitter
from sala_core.text.tokenizer import Tokenizer

FinishReason = Literal["stop", "length", "stop_string"]

_GROW_TOKENS = 2048
"""Rows that the KV cache grows by when an answer does not fit."""


@dataclass(frozen=True, kw_only=True)
class Token:
    """Text that may be shown. id: the token just added to the state; None for text that was held back until now."""

    id: int | None
    text: str
    thinking: bool


@dataclass(frozen=True, kw_only=True)
class Finished:
    """The end of an answer.

    ids: the answer's tokens. They are in the state; an end-of-sequence token is not. passes: forward passes of the
    model, fewer than tokens where drafts were accepted.
    """

    reason: FinishReason
    ids: tuple[int, ...]
    passes: int = field(default=0, compare=False)


class Answering:
    """The decoding of one answer."""

    def __init__(
        self,
        model: SalaModel,
        state: SalaState,
        sampler: Sampler,
        streamer: "TextStreamer",
        *,
        ends: frozenset[int],
        trace: AttentionTrace | None,
        drafts: DraftIndex | None,
        quoting: Quoting | None,
    ) -> None:
        """Prepare an answer after a prompt that is prefilled.

        Args:
            model: computes the tokens.
            state: holds the prompt; advances by the answer.
            sampler: chooses the tokens, at most `sampler.params.max_tokens`.
            streamer: turns tokens into text.
            ends: tokens that end an answer.
            trace: the answer's attention is added to it.
            drafts: all tokens of the state. None: no drafts.
            quoting: chooses what follows a quotation mark. Needs `trace`. None: the model writes quotations itself.
        """
        self._model, self._state, self._sampler, self._streamer = model, state, sampler, streamer
        self._ends, self._trace, self._drafts, self._quoting = ends, trace, drafts, quoting
        self._max_tokens = sampler.params.max_tokens
        self._ids: list[int] = []
        self._passes = 0
        self._decoder: Decoder | None = None
        self._draft_length = DraftLength()
        self._quotation: list[int] = []  # tokens of an open quotation that are still to be emitted

    def answer(
        self, hidden: Tensor, should_stop: Callable[[], bool], decoder: Callable[[], Decoder]
    ) -> Iterator[Token | Finished]:
        """Decode until an end token, a stop string or the length limit.

        hidden: [1, D], of the prompt's last token. decoder: returns one that fits the state's present buffers.
        Whenever the iterator is closed, the state holds the prompt and the tokens yielded.
        """
        pending = self._sampler.sample(self._model.logits(hidden)[0])
        reason: FinishReason = "length"
        try:
            while len(self._ids) < self._max_tokens:
                if should_stop():
                    return
                if pending in self._ends:
                    reason = "stop"
                    break
                run = self._fitting_decoder(decoder)
                if self._opens_quotation(pending):
                    self._quotation = self._next_quotation(pending)
                pending = yield from (self._quote if self._quotation else self._decode_step)(run, pending)
                if self._streamer.stopped:
                    reason = "stop_string"
                    break
        finally:
            self._collect_trace()
        yield from self._streamer.flush()
        yield Finished(reason=reason, ids=tuple(self._ids), passes=self._passes)

    def _decode_step(self, decoder: Decoder, pending: int) -> Generator[Token, None, int]:
        """Emit `pending` and the accepted tokens of a draft. Returns the token that follows."""
        draft = self._draft(pending)
        chosen = decoder.step(self._state, [pending, *draft], self._sampler)
        accepted = next((n for n, token in enumerate(draft) if token != chosen[n]), len(draft))
        self._draft_length.learn(len(draft), accepted)
        yield from self._emit([pending, *draft[:accepted]])
        self._sampler.accept(chosen[: accepted + 1])
        return chosen[accepted]

    def _quote(self, decoder: Decoder, pending: int) -> Generator[Token, None, int]:
        """Emit `pending` and the next tokens of the quotation, untraced. Returns the token that follows."""
        limit = min(MAX_PASS_TOKENS, self._max_tokens - len(self._ids)) - 1
        quoted, self._quotation = self._quotation[:limit], self._quotation[limit:]
        chosen = decoder.step(self._state, [pending, *quoted], self._sampler)
        if self._drafts is not None:
            self._drafts.extend([pending])
        yield from self._emit([pending, *quoted])
        decoder.discard_trace()  # tokens of a quotation attend to its source, and to whatever resembles it
        following = self._quotation.pop(0) if self._quotation else chosen[-1]
        self._sampler.accept([*quoted, following])
        return following

    def _opens_quotation(self, pending: int) -> bool:
        return self._quoting is not None and not self._quotation and self._quoting.opens_quotation(pending)

    def _next_quotation(self, opening: int) -> list[int]:
        """The tokens to emit after the quotation mark `opening`; [] where the model writes on by itself."""
        assert self._quoting is not None
        assert self._trace is not None, "quotations are ranked by the trace"
        self._collect_trace()
        return self._quoting.continuation(opening, self._trace)

    def _emit(self, tokens: list[int]) -> Iterator[Token]:
        """Yield tokens of the last pass, up to a stop string. The state then holds those that were yielded."""
        emitted = 0
        try:
            for token in tokens:
                emitted += 1
                yield from self._streamer.push(token)
                if self._streamer.stopped:
                    break
        finally:
            self._ids += tokens[:emitted]
            assert self._decoder is not None
            self._decoder.confirm(self._state, emitted)
            if self._drafts is not None:
                self._drafts.extend(tokens[1:emitted])

    def _draft(self, pending: int) -> list[int]:
        """Tokens that may follow `pending`, without any that ends an answer."""
        if self._drafts is None:
            return []
        self._drafts.extend([pending])
        left = self._max_tokens - len(self._ids) - 1
        draft = self._drafts.propose(min(self._draft_length.tokens, left))
        return draft[: next((n for n, token in enumerate(draft) if token in self._ends), len(draft))]

    def _fitting_decoder(self, decoder: Callable[[], Decoder]) -> Decoder:
        """The decoder for the next pass: a new one after the state's buffers had to grow."""
        state = self._state
        too_small = state.capacity is not None and state.position + MAX_PASS_TOKENS > state.capacity
        if too_small:
            state.reserve(state.position + min(self._max_tokens - len(self._ids), _GROW_TOKENS) + MAX_PASS_TOKENS)
        if too_small or self._decoder is None:
            self._collect_trace()
            self._decoder = decoder()
        self._passes += 1
        return self._decoder

    def _collect_trace(self) -> None:
        if self._decoder is not None and self._trace is not None:
            self._decoder.collect(self._trace, self._state)


class TextStreamer:
    """Turns token ids into text that may be shown: whole characters, no part of a stop string, thinking marked."""

    def __init__(self, tokenizer: Tokenizer | None, params: SamplingParams, splitter: ThinkSplitter | None) -> None:
        """splitter: separates thinking from the answer. None: all text is answer."""
        self._decoder = tokenizer.stream_decoder() if tokenizer else None
        self._stops = StopMatcher(params.stop)
        self._splitter = splitter

    @property
    def stopped(self) -> bool:
        """Whether a stop string was found."""
        return self._stops.stopped

    def push(self, token: int) -> Iterator[Token]:
        """At least one Token, the first with the id."""
        text = self._stops.push(self._decoder.push(token) if self._decoder else "")
        pieces = self._split(text)
        head = pieces[0] if pieces else Piece(text="", thinking=False)
        yield Token(id=token, text=head.text, thinking=head.thinking)
        for piece in pieces[1:]:
            yield Token(id=None, text=piece.text, thinking=piece.thinking)

    def flush(self) -> Iterator[Token]:
        """Text that was held back until the end."""
        held = "" if self.stopped else self._stops.push(self._decoder.flush() if self._decoder else "")
        pieces = self._split(held + self._stops.flush())
        for piece in pieces + (self._splitter.flush() if self._splitter else []):
            yield Token(id=None, text=piece.text, thinking=piece.thinking)

    def _split(self, text: str) -> list[Piece]:
        if self._splitter:
            return self._splitter.push(text)
        return [Piece(text=text, thinking=False)] if text else []
