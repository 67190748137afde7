"""From a prompt that has been read to an answer: tokens, drafts that copy what was read, text that may be shown."""

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

_ROOM_TOKENS = 2048


@dataclass(frozen=True, kw_only=True)
class PromptProgress:
    """Tokens of the prompt read so far."""

    tokens_done: int
    tokens_total: int


@dataclass(frozen=True, kw_only=True)
class Token:
    """Text that may be shown. `id` is the token just added to the state; None for text that was held back."""

    id: int | None
    text: str
    thinking: bool


@dataclass(frozen=True, kw_only=True)
class Finished:
    """The end of an answer: `ids` are in the state, an end-of-sequence token is not. passes: of the model over the
    answer's tokens, fewer than them where drafts held."""

    reason: FinishReason
    ids: tuple[int, ...]
    passes: int = field(default=0, compare=False)


class Answering:
    """The writing of one answer."""

    def __init__(
        self,
        model: SalaModel,
        state: SalaState,
        sampler: Sampler,
        writer: "TextStreamer",
        *,
        ends: frozenset[int],
        max_tokens: int,
        trace: AttentionTrace | None,
        lookup: DraftIndex | None,
        quoting: Quoting | None = None,
    ) -> None:
        """ends: tokens that end an answer. lookup: all tokens of the state, if drafts are to be copied from them.
        quoting: what may follow a quotation mark, if not all may; needs the trace."""
        self._model, self._state, self._sampler, self._writer = model, state, sampler, writer
        self._ends, self._max_tokens, self._trace, self._lookup = ends, max_tokens, trace, lookup
        self._made: list[int] = []
        self._passes = 0
        self._decoder: Decoder | None = None
        self._lengths = DraftLength()
        self._quoting = quoting
        self._settled: list[int] = []  # tokens of a quotation that are still to be said

    def answer(
        self, hidden: Tensor, should_stop: Callable[[], bool], decoder: Callable[[], Decoder]
    ) -> Iterator[Token | Finished]:
        """hidden: [1, D], of the prompt's last token. decoder: gives one that fits the state as it is.

        The state holds the prompt and the tokens yielded, whenever this is closed.
        """
        pending = self._sampler.sample(self._model.logits(hidden)[0])
        reason: FinishReason = "length"
        try:
            while len(self._made) < self._max_tokens:
                if should_stop():
                    return
                if pending in self._ends:
                    reason = "stop"
                    break
                run = self._decode(decoder)
                if self._quotes(pending):
                    self._settled = self._quotation(pending)
                pending = yield from (self._quote if self._settled else self._decode_step)(run, pending)
                if self._writer.stopped:
                    reason = "stop_string"
                    break
        finally:
            self._collect()
        yield from self._writer.flush()
        yield Finished(reason=reason, ids=tuple(self._made), passes=self._passes)

    def _decode_step(self, decoder: Decoder, pending: int) -> Generator[Token, None, int]:
        """Say `pending` and what a draft of the model's own words holds; returns the token to be said next."""
        draft = self._draft(pending)
        chosen = decoder.step(self._state, [pending, *draft], self._sampler)
        held = next((n for n, token in enumerate(draft) if token != chosen[n]), len(draft))
        self._lengths.learn(len(draft), held)
        yield from self._emit([pending, *draft[:held]])
        self._sampler.accept(chosen[: held + 1])
        return chosen[held]

    def _quote(self, decoder: Decoder, pending: int) -> Generator[Token, None, int]:
        """Say `pending` and more of the quotation, whose looks do not count; returns the token to be said next."""
        left = min(MAX_PASS_TOKENS, self._max_tokens - len(self._made)) - 1
        said, self._settled = self._settled[:left], self._settled[left:]
        chosen = decoder.step(self._state, [pending, *said], self._sampler)
        if self._lookup is not None:
            self._lookup.extend([pending])
        yield from self._emit([pending, *said])
        decoder.discard_trace()  # they look at what they quote, and at all that is like it
        after = self._settled.pop(0) if self._settled else chosen[-1]
        self._sampler.accept([*said, after])
        return after

    def _quotes(self, pending: int) -> bool:
        return self._quoting is not None and not self._settled and self._quoting.opens_quotation(pending)

    def _quotation(self, opening: int) -> list[int]:
        """What follows a quotation mark that is about to be said."""
        assert self._quoting is not None
        assert self._trace is not None, "quotations are chosen by the trace"
        self._collect()
        return self._quoting.continuation(opening, self._trace)

    def _emit(self, tokens: list[int]) -> Iterator[Token]:
        """Yield tokens of the last pass, up to a stop string; the state then holds those that were yielded."""
        said = 0
        try:
            for token in tokens:
                said += 1
                yield from self._writer.push(token)
                if self._writer.stopped:
                    break
        finally:
            self._made += tokens[:said]
            assert self._decoder is not None
            self._decoder.confirm(self._state, said)
            if self._lookup is not None:
                self._lookup.extend(tokens[1:said])

    def _draft(self, pending: int) -> list[int]:
        """Tokens that may follow `pending`; none that ends an answer."""
        if self._lookup is None:
            return []
        self._lookup.extend([pending])
        left = self._max_tokens - len(self._made) - 1
        draft = self._lookup.propose(min(self._lengths.tokens, left))
        return draft[: next((n for n, token in enumerate(draft) if token in self._ends), len(draft))]

    def _decode(self, decoder: Callable[[], Decoder]) -> Decoder:
        """The decoder for the next pass; another one where the state had to grow for it."""
        state = self._state
        short = state.capacity is not None and state.position + MAX_PASS_TOKENS > state.capacity
        if short:
            state.reserve(state.position + min(self._max_tokens - len(self._made), _ROOM_TOKENS) + MAX_PASS_TOKENS)
        if short or self._decoder is None:
            self._collect()
            self._decoder = decoder()
        self._passes += 1
        return self._decoder

    def _collect(self) -> None:
        if self._decoder is not None and self._trace is not None:
            self._decoder.collect(self._trace, self._state)


class TextStreamer:
    """From token ids to text that may be shown: whole characters, nothing of a stop string, thinking told apart."""

    def __init__(self, tokenizer: Tokenizer | None, params: SamplingParams, splitter: ThinkSplitter | None) -> None:
        """splitter: tells thinking from the answer; None: all is answer."""
        self._decoder = tokenizer.stream_decoder() if tokenizer else None
        self._stops = StopMatcher(params.stop)
        self._splitter = splitter

    @property
    def stopped(self) -> bool:
        """Whether a stop string has been written."""
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
