"""Decoding of an answer: thinking and its limit, drafts copied from the text, verbatim quotations, loops, and text."""

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor

from sala_core.engine.decode import MAX_PASS_TOKENS, Decoder
from sala_core.engine.repetition import RepetitionDetector
from sala_core.engine.sampling import Sampler, SamplingParams, StopMatcher
from sala_core.engine.speculation import DraftIndex, DraftLength
from sala_core.evidence.verbatim import Quoting
from sala_core.model.forward import AttentionTrace, SalaModel
from sala_core.model.state import SalaState
from sala_core.text.thinking import CLOSE_TAG, Piece, ThinkSplitter
from sala_core.text.tokenizer import Tokenizer

FinishReason = Literal["stop", "length", "stop_string", "repetition"]

ThinkingEnd = Literal["", "model", "budget", "repetition", "open"]
"""Who ended the thinking: the model, its limit, or the rule against loops. "open": nothing did, it goes on to the end.
"": there was none."""

_GROW_TOKENS = 2048
"""Rows that the KV cache grows by when an answer does not fit."""


@dataclass(frozen=True, kw_only=True)
class Token:
    """Text that may be shown. id: the token just added to the state; None for text that was held back until now.

    thinking: whether it belongs to the thinking; for a token without text, whether thinking goes on after it.
    """

    id: int | None
    text: str
    thinking: bool


@dataclass(frozen=True, kw_only=True)
class Finished:
    """The end of an answer.

    ids: the answer's tokens, with its thinking. They are in the state; an end-of-sequence token is not.
    thinking_tokens: how many of them are thinking, with its tags. repeated_tokens, repeated_chars: with reason
    "repetition", how many of the last tokens, and characters of the answer, only repeat what is before them. passes:
    forward passes of the model, fewer than tokens where drafts were accepted.
    """

    reason: FinishReason
    ids: tuple[int, ...]
    thinking_tokens: int = 0
    thinking_end: ThinkingEnd = ""
    repeated_tokens: int = 0
    repeated_chars: int = 0
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
        thinking_end: Sequence[int],
        trace: AttentionTrace | None,
        drafts: DraftIndex | None,
        quoting: Quoting | None,
    ) -> None:
        """Prepare an answer after a prompt that is prefilled.

        Args:
            model: computes the tokens.
            state: holds the prompt; advances by the answer.
            sampler: chooses the tokens, at most `sampler.params.max_tokens` after the thinking.
            streamer: turns tokens into text.
            ends: tokens that end an answer.
            thinking_end: tokens that end a block of thinking where its limit is reached.
            trace: the answer's attention is added to it, without that of its thinking.
            drafts: all tokens of the state. None: no drafts.
            quoting: chooses what follows a quotation mark. Needs `trace`. None: the model writes quotations itself.
        """
        self._model, self._state, self._sampler, self._streamer = model, state, sampler, streamer
        self._ends, self._trace, self._drafts, self._quoting = ends, trace, drafts, quoting
        self._params, self._closing = sampler.params, list(thinking_end)
        self._ids: list[int] = []
        self._passes = 0
        self._decoder: Decoder | None = None
        self._draft_length = DraftLength()
        self._forced: list[int] = []  # tokens that are emitted next, whatever the model would choose
        self._is_forced = False  # whether the pending token is the last of these
        self._follows_quotation = False  # whether the pending token is the model's first one after a quotation
        self._answer_start = 0  # number of tokens before the answer itself: those of its thinking
        self._thinking_end: ThinkingEnd = ""
        self._detector = RepetitionDetector()
        self._repeated = 0  # last tokens that only repeat what is before them
        self._chars: list[int] = []  # characters of the answer that were shown before each token

    def answer(
        self, hidden: Tensor, should_stop: Callable[[], bool], decoder: Callable[[], Decoder]
    ) -> Iterator[Token | Finished]:
        """Decode until an end token, a stop string, a loop or the length limit.

        Thinking that reaches its limit, loops, or meets an end token is closed by `thinking_end`, and the answer
        follows.

        hidden: [1, D], of the prompt's last token. decoder: returns one that fits the state's present buffers.
        Whenever the iterator is closed, the state holds the prompt and the tokens yielded.
        """
        pending = self._sampler.sample(self._model.logits(hidden)[0])
        reason: FinishReason = "length"
        try:
            while self._room > 0:
                if should_stop():
                    return
                if self._thinking_must_end(pending):
                    pending = self._end_thinking()
                elif pending in self._ends:
                    reason = "stop"
                    break
                opens = self._opens_quotation(pending)
                if self._follows_quotation and self._params.only_quotes and not opens:
                    reason = "stop"
                    break
                run = self._fitting_decoder(decoder)
                if opens:
                    self._forced = self._next_quotation(pending)
                self._follows_quotation = False
                forces = self._forced or self._is_forced
                pending = yield from (self._force if forces else self._decode_step)(run, pending)
                if self._streamer.stopped:
                    reason = "stop_string"
                    break
                if self._repeated and not self._streamer.thinking:
                    reason = "repetition"
                    break
        finally:
            self._settle_trace()
        yield from self._streamer.flush()
        yield self._finished(reason)

    @property
    def _room(self) -> int:
        """How many tokens the next pass may emit; 0 at the end of the answer. Thinking does not end by a limit here."""
        if self._streamer.thinking:
            left = max(1, self._params.thinking_budget - len(self._ids))
            return min(left, self._params.max_tokens + 1)  # a draft may go on into the answer
        left = self._params.max_tokens - (len(self._ids) - self._answer_start)
        return max(1 if self._streamer.in_open_tag else 0, left)

    def _thinking_must_end(self, pending: int) -> bool:
        """Whether the thinking has to be closed before `pending`."""
        if self._forced or not self._streamer.thinking:
            return False
        spent = len(self._ids) - self._params.thinking_budget
        over = spent >= (len(CLOSE_TAG) if self._streamer.in_close_tag else 0)  # let the model write its own tag
        if over or self._repeated or pending in self._ends:
            self._thinking_end = "repetition" if self._repeated else "budget" if over else "model"
            return True
        return False

    def _end_thinking(self) -> int:
        """Have the tokens emitted that close the thinking. Returns the first of them."""
        first, *self._forced = self._closing
        return first

    def _decode_step(self, decoder: Decoder, pending: int) -> Generator[Token, None, int]:
        """Emit `pending` and the accepted tokens of a draft. Returns the token that follows."""
        draft = self._draft(pending)
        chosen = decoder.step(self._state, [pending, *draft], self._sampler)
        accepted = next((n for n, token in enumerate(draft) if token != chosen[n]), len(draft))
        self._draft_length.learn(len(draft), accepted)
        thought = self._streamer.thinking
        emitted = yield from self._emit([pending, *draft[:accepted]])
        if thought and not self._streamer.thinking:
            decoder.discard_trace()
        self._sampler.accept(chosen[:emitted])
        return chosen[emitted - 1]

    def _force(self, decoder: Decoder, pending: int) -> Generator[Token, None, int]:
        """Emit `pending` and the next forced tokens, untraced. Returns the token that follows."""
        closes = self._streamer.thinking
        limit = (MAX_PASS_TOKENS if closes else min(MAX_PASS_TOKENS, self._room)) - 1
        forced, self._forced = self._forced[:limit], self._forced[limit:]
        chosen = decoder.step(self._state, [pending, *forced], self._sampler)
        if self._drafts is not None:
            self._drafts.extend([pending])
        yield from self._emit([pending, *forced], forced=True)
        decoder.discard_trace()  # tokens of a quotation attend to its source, and to whatever resembles it
        if closes and not self._forced:
            self._begin_answer(len(self._ids))
        self._is_forced = bool(self._forced)
        self._follows_quotation = not closes and not self._forced
        following = self._forced.pop(0) if self._forced else chosen[-1]
        self._sampler.accept([*forced, following])
        return following

    def _begin_answer(self, start: int) -> None:
        """Count from here. start: number of tokens before the answer itself."""
        self._answer_start = start
        self._thinking_end = self._thinking_end or "model"
        self._detector, self._repeated = RepetitionDetector(), 0

    def _opens_quotation(self, pending: int) -> bool:
        if self._quoting is None or self._forced or self._is_forced or self._streamer.thinking:
            return False
        return self._quoting.opens_quotation(pending)

    def _next_quotation(self, opening: int) -> list[int]:
        """The tokens to emit after the quotation mark `opening`; [] where the model writes on by itself."""
        assert self._quoting is not None
        assert self._trace is not None, "quotations are ranked by the trace"
        self._settle_trace()
        return self._quoting.continuation(opening, self._trace)

    def _emit(self, tokens: list[int], *, forced: bool = False) -> Generator[Token, None, int]:
        """Yield tokens of the last pass, up to a stop string or a loop. Returns how many; the state then holds them.

        forced: they are not the model's, so that they are no loop.
        """
        emitted = 0
        thought = self._streamer.thinking
        try:
            for token in tokens:
                emitted += 1
                self._chars.append(self._streamer.answer_chars)
                yield from self._streamer.push(token)
                if thought and not self._streamer.thinking:
                    thought = False
                    self._begin_answer(len(self._ids) + emitted)
                elif self._params.stop_repetition:
                    repeated = self._detector.push(token)
                    self._repeated = 0 if forced else repeated
                if self._streamer.stopped or self._repeated:
                    break
        finally:
            self._ids += tokens[:emitted]
            assert self._decoder is not None
            self._decoder.confirm(self._state, emitted)
            if self._drafts is not None:
                self._drafts.extend(tokens[1:emitted])
        return emitted

    def _draft(self, pending: int) -> list[int]:
        """Tokens that may follow `pending`, without any that ends an answer."""
        if self._drafts is None:
            return []
        self._drafts.extend([pending])
        draft = self._drafts.propose(min(self._draft_length.tokens, self._room - 1))
        return draft[: next((n for n, token in enumerate(draft) if token in self._ends), len(draft))]

    def _fitting_decoder(self, decoder: Callable[[], Decoder]) -> Decoder:
        """The decoder for the next pass: a new one after the state's buffers had to grow."""
        state = self._state
        too_small = state.capacity is not None and state.position + MAX_PASS_TOKENS > state.capacity
        if too_small:
            state.reserve(state.position + min(self._longest_rest, _GROW_TOKENS) + MAX_PASS_TOKENS)
        if too_small or self._decoder is None:
            self._settle_trace()
            self._decoder = decoder()
        self._passes += 1
        return self._decoder

    @property
    def _longest_rest(self) -> int:
        """How many tokens may follow at most."""
        thinking = max(0, self._params.thinking_budget - len(self._ids)) if self._streamer.thinking else 0
        return thinking + self._params.max_tokens

    def _settle_trace(self) -> None:
        """Add the attention since the last call to the trace; that of thinking is dropped, as no part of the answer."""
        if self._decoder is None or self._trace is None:
            return
        if self._streamer.thinking:
            self._decoder.discard_trace()
        else:
            self._decoder.collect(self._trace, self._state)

    def _finished(self, reason: FinishReason) -> Finished:
        is_open = self._streamer.thinking
        repeated = self._repeated if reason == "repetition" else 0
        return Finished(
            reason=reason,
            ids=tuple(self._ids),
            thinking_tokens=len(self._ids) if is_open else self._answer_start,
            thinking_end="open" if is_open else self._thinking_end,
            repeated_tokens=repeated,
            repeated_chars=self._streamer.answer_chars - self._chars[-repeated] if repeated else 0,
            passes=self._passes,
        )


class TextStreamer:
    """Turns token ids into text that may be shown: whole characters, no part of a stop string, thinking marked."""

    def __init__(self, tokenizer: Tokenizer | None, params: SamplingParams, splitter: ThinkSplitter | None) -> None:
        """splitter: separates thinking from the answer. None: all text is answer."""
        self._decoder = tokenizer.stream_decoder() if tokenizer else None
        self._stops = StopMatcher(params.stop)
        self._splitter = splitter
        self.answer_chars = 0
        """Characters of the answer, without thinking, that have been yielded."""

    @property
    def thinking(self) -> bool:
        """Whether the tokens so far end inside a block of thinking."""
        return self._splitter is not None and self._splitter.thinking

    @property
    def in_open_tag(self) -> bool:
        """Whether they are a part of the tag that opens it."""
        return self._splitter is not None and self._splitter.in_open_tag

    @property
    def in_close_tag(self) -> bool:
        """Whether they end with a part of the tag that closes it."""
        return self._splitter is not None and self._splitter.in_close_tag

    @property
    def stopped(self) -> bool:
        """Whether a stop string was found."""
        return self._stops.stopped

    def push(self, token: int) -> Iterator[Token]:
        """At least one Token, the first with the id."""
        text = self._stops.push(self._decoder.push(token) if self._decoder else "")
        pieces = self._split(text)
        if not pieces or pieces[-1].thinking != self.thinking:
            pieces.append(Piece(text="", thinking=self.thinking))
        for number, piece in enumerate(pieces):
            yield self._token(token if number == 0 else None, piece)

    def flush(self) -> Iterator[Token]:
        """Text that was held back until the end."""
        held = "" if self.stopped else self._stops.push(self._decoder.flush() if self._decoder else "")
        pieces = self._split(held + self._stops.flush())
        for piece in pieces + (self._splitter.flush() if self._splitter else []):
            yield self._token(None, piece)

    def _token(self, token: int | None, piece: Piece) -> Token:
        if not piece.thinking:
            self.answer_chars += len(piece.text)
        return Token(id=token, text=piece.text, thinking=piece.thinking)

    def _split(self, text: str) -> list[Piece]:
        if self._splitter:
            return self._splitter.push(text)
        return [Piece(text=text, thinking=False)] if text else []
