"""Sampling of the next token from logits, and detection of stop strings in streamed text."""

import math
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sala_core.engine.generation_config import recommended_values
from sala_core.errors import ModelError
from sala_core.text.thinking import possible_prefix

PENALTY_TAIL_TOKENS = 1024
"""Number of last prompt tokens that the repetition penalty applies to, beside the answer's own tokens."""

THINKING_BUDGET_TOKENS = 8192
"""Default limit of thinking: 80 seconds at 100 tokens a second, about what a reader waits for.

Public runs of the 9B model write 9,400 tokens on average, most of them thinking about contest problems; questions about
a text need less, and what takes much more is usually a loop.
"""


@dataclass(frozen=True, kw_only=True)
class SamplingParams:
    """Sampling parameters of an answer. Raises ValueError for a value out of range.

    Attributes:
        temperature: 0 is greedy decoding.
        top_p: keep the smallest set of most likely tokens whose probabilities add up to at least this.
        top_k: keep this many most likely tokens; 0 keeps all.
        min_p: drop tokens with less than this share of the highest probability.
        repetition_penalty: above 1 makes tokens that occurred before less likely (arXiv:1909.05858).
        seed: the same seed and logits give the same tokens. None: a random seed.
        max_tokens: length limit of the answer, without its thinking.
        think: whether the model thinks before it answers. None: as the model has it.
        thinking_budget: length limit of thinking; then it is ended, and the answer follows.
        stop_repetition: end thinking or an answer that only repeats itself.
        stop: strings that end the answer and are not part of it.
        verbatim: quote word for word: each quotation is the document sentence that received the most attention.
        only_quotes: the model only finds: with verbatim quotations, a finder writes its answers (`finds`); elsewhere a
            verbatim answer ends after a quotation, unless another one follows.
    """

    temperature: float = 0.9
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    seed: int | None = None
    max_tokens: int = 512
    think: bool | None = None
    thinking_budget: int = THINKING_BUDGET_TOKENS
    stop_repetition: bool = True
    stop: tuple[str, ...] = ()
    verbatim: bool = False
    only_quotes: bool = False

    @property
    def finds(self) -> bool:
        """Whether a finder answers, and the model only reads question and answer."""
        return self.verbatim and self.only_quotes

    @classmethod
    def from_generation_config(cls, raw: Mapping[str, Any], *, thinks: bool = False) -> "SamplingParams":
        """Build the parameters that a model's `generation_config.json` recommends.

        raw: the file. thinks: whether the model can think before it answers. Raises ValueError for a value out of
        range, and for a key that would change the answer and is not computed here.
        """
        return cls(**recommended_values(raw, thinks=thinks))

    def max_new_tokens(self, *, thinks: bool) -> int:
        """The limit of an answer with its thinking. thinks: whether the model can think, asked to or not."""
        return self.max_tokens + (self.thinking_budget if thinks else 0)

    def __post_init__(self) -> None:
        _require("temperature", self.temperature, 0 <= self.temperature < math.inf, "0 or more")
        _require("top_p", self.top_p, 0 < self.top_p <= 1, "above 0 and at most 1")
        _require("top_k", self.top_k, isinstance(self.top_k, int) and self.top_k >= 0, "0 (all) or more")
        _require("min_p", self.min_p, 0 <= self.min_p <= 1, "between 0 and 1")
        penalty = self.repetition_penalty
        _require("repetition_penalty", penalty, 0 < penalty < math.inf, "above 0")
        _require(
            "max_tokens",
            self.max_tokens,
            isinstance(self.max_tokens, int) and self.max_tokens >= 1,
            "1 or more",
        )
        budget = self.thinking_budget
        _require("thinking_budget", budget, isinstance(budget, int) and budget >= 1, "1 or more")
        _require("think", self.think, self.think in (None, True, False), "true, false or None")
        _require("seed", self.seed, self.seed is None or 0 <= self.seed < 2**63, "None or 0 to 2^63 - 1")
        _require("verbatim", self.verbatim, isinstance(self.verbatim, bool), "true or false")
        _require("only_quotes", self.only_quotes, isinstance(self.only_quotes, bool), "true or false")
        valid = isinstance(self.stop, tuple) and all(isinstance(text, str) and text for text in self.stop)
        _require("stop", self.stop, valid, "a tuple of strings that are not empty")


def _require(name: str, value: object, condition: bool, expected: str) -> None:
    if not condition:
        raise ValueError(f"{name} must be {expected}, got {value!r}")


class Sampler:
    """Samples the tokens of one answer. Holds its random numbers and the set of tokens that occurred.

    The filters run in the order penalty, temperature, top-k, top-p, min-p, each on the tokens that the one before kept.
    Token n of an answer always uses the n-th random number. With equal logits, speculative decoding therefore changes
    neither the tokens that a seed gives nor their distribution.
    """

    def __init__(
        self, params: SamplingParams, vocab_size: int, prompt_ids: Iterable[int], device: torch.device | str = "cpu"
    ) -> None:
        """Prepare the sampler of one answer.

        Args:
            params: filters, temperature and seed.
            vocab_size: tokens in the vocabulary.
            prompt_ids: the tokens before the answer. The repetition penalty uses the last PENALTY_TAIL_TOKENS of them.
            device: where logits will be.
        """
        self.params = params
        self._vocab_size = vocab_size
        self._generator = torch.Generator()
        if params.seed is None:
            self._generator.seed()
        else:
            self._generator.manual_seed(params.seed)
        self._uniforms: list[float] = []
        self._num_accepted = 0
        tail = list(deque((int(i) for i in prompt_ids), PENALTY_TAIL_TOKENS))
        self.seen_tokens = torch.zeros(vocab_size + 1, dtype=torch.bool, device=device)
        self.seen_tokens[torch.tensor(tail, dtype=torch.int64, device=device)] = True

    @property
    def chooser(self) -> "Chooser":
        """The part of the sampler that runs on the device."""
        params = self.params
        return Chooser(
            temperature=params.temperature,
            top_p=params.top_p,
            top_k=params.top_k,
            min_p=params.min_p,
            repetition_penalty=params.repetition_penalty,
        )

    def uniforms(self, count: int) -> list[float]:
        """The random numbers of the next `count` tokens, uniform in [0, 1)."""
        if self.params.temperature == 0:
            return [0.0] * count
        while len(self._uniforms) < self._num_accepted + count:
            self._uniforms.append(float(torch.rand((), generator=self._generator, dtype=torch.float64)))
        return self._uniforms[self._num_accepted : self._num_accepted + count]

    def accept(self, tokens: Sequence[int]) -> None:
        """Record the next tokens of the answer. Raises ModelError if one is -1: its logits were not finite."""
        if -1 in tokens:
            raise ModelError("the model's logits are not numbers; its weights or its state are damaged")
        self._num_accepted += len(tokens)
        if self.params.repetition_penalty != 1:  # otherwise unused, and the write would wait for the device
            self.seen_tokens[torch.tensor(tokens, dtype=torch.int64, device=self.seen_tokens.device)] = True

    def sample(self, logits: Tensor) -> int:
        """Sample and record the next token, from logits [vocab] float32 on the sampler's device. Does not change them.

        Raises ValueError for another shape, ModelError if a logit is NaN or +inf, or if all are -inf.
        """
        if logits.shape != (self._vocab_size,):
            raise ValueError(f"logits must be [{self._vocab_size}], got {list(logits.shape)}")
        uniforms = torch.tensor(self.uniforms(1), dtype=torch.float64, device=logits.device)
        drafts = torch.empty(0, dtype=torch.int64, device=logits.device)
        token = int(self.chooser(logits[None], self.seen_tokens, drafts, uniforms)[0])
        self.accept([token])
        return token


@dataclass(frozen=True, kw_only=True)
class Chooser:
    """Samples tokens on the device. The fields are those of SamplingParams."""

    temperature: float
    top_p: float
    top_k: int
    min_p: float
    repetition_penalty: float

    def __call__(self, logits: Tensor, seen_tokens: Tensor, drafts: Tensor, uniforms: Tensor) -> Tensor:
        """Sample one token from each row of logits. All tensors have fixed shapes, and the host never waits.

        Args:
            logits: [T, vocab], not changed.
            seen_tokens: [vocab + 1] bool, the tokens that occurred before row 0.
            drafts: [T - 1] int64. Row t follows drafts 0 ... t - 1.
            uniforms: [T] float64 in [0, 1).

        Returns [T] int64, -1 where the highest logit is not finite.
        """
        scores = self._penalized(logits.detach().float(), seen_tokens, drafts)
        best = scores.argmax(-1)
        top = scores.gather(-1, best[:, None])
        tokens = best if self.temperature == 0 else self._draw(scores, top, uniforms)
        return torch.where(top[:, 0].isfinite(), tokens, -1)

    def _penalized(self, logits: Tensor, seen_tokens: Tensor, drafts: Tensor) -> Tensor:
        """Apply the repetition penalty to logits [T, vocab]."""
        if self.repetition_penalty == 1:
            return logits
        T, vocab = logits.shape
        rows = seen_tokens.repeat(T, 1)  # [T, vocab + 1], the last column takes drafts that do not precede the row
        if T > 1:
            row = torch.arange(T, device=logits.device)[:, None]
            rows.scatter_(1, torch.where(row > row.T[:, : T - 1], drafts, vocab), value=True)
        penalty = self.repetition_penalty
        return torch.where(rows[:, :vocab], torch.where(logits > 0, logits / penalty, logits * penalty), logits)

    def _draw(self, scores: Tensor, top: Tensor, uniforms: Tensor) -> Tensor:
        """Inverse transform sampling, in float64: the same logits and seed give the same tokens on every device."""
        tokens = None
        if self.top_k or self.top_p < 1:
            scores, tokens = scores.sort(dim=-1, descending=True, stable=True)
            scores = scores[:, : self.top_k or None]
        probs = ((scores.double() - top.double()) / self.temperature).softmax(dim=-1)
        if self.top_p < 1:
            # a token is kept if the more likely ones have less than top_p together; the first always is
            probs = probs * (probs.cumsum(dim=-1) - probs < self.top_p)
        if self.min_p > 0:
            probs = probs * (probs >= self.min_p * probs.amax(-1, keepdim=True))
        cdf = probs.cumsum(dim=-1)
        index = torch.searchsorted(cdf, uniforms[:, None] * cdf[:, -1:], right=True)
        columns = torch.arange(probs.shape[-1], device=probs.device)
        last = torch.where(probs > 0, columns, 0).amax(-1, keepdim=True)
        index = torch.minimum(index, last)
        return (index if tokens is None else tokens.gather(-1, index))[:, 0]


class StopMatcher:
    """Ends streamed text at the first stop string, however the text is split into pieces.

    Text that may be the start of a stop string is held back until the next text decides. Of several stop strings, the
    one that is complete first ends the text, so the result does not depend on the pieces.
    """

    def __init__(self, stop: Iterable[str]) -> None:
        self._stop = tuple(stop)
        self._held = ""
        self.stopped = False

    def push(self, text: str) -> str:
        """Add text and return what can be shown. Returns "" once `stopped` is true."""
        if self.stopped:
            return ""
        self._held += text
        starts = [(self._held.find(stop), stop) for stop in self._stop]
        matches = [(start + len(stop), start) for start, stop in starts if start >= 0]
        if matches:
            self.stopped = True
            out, self._held = self._held[: min(matches)[1]], ""
            return out
        certain = len(self._held) - max((possible_prefix(self._held, stop) for stop in self._stop), default=0)
        out, self._held = self._held[:certain], self._held[certain:]
        return out

    def flush(self) -> str:
        """Text that is still held back, at the end of the answer."""
        out, self._held = self._held, ""
        return out
