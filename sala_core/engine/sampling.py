"""Choosing the next token from logits, and noticing the texts that end an answer."""

import math
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sala_core.errors import ModelError
from sala_core.text.thinking import possible_prefix

PENALTY_TAIL_TOKENS = 1024  # of the prompt, this many last tokens count as said for the repetition penalty


@dataclass(frozen=True, kw_only=True)
class SamplingParams:
    """How an answer is chosen. Raises ValueError for a value out of range.

    temperature: 0 takes the likeliest token. top_k: 0 keeps all. top_p: the smallest set of likeliest tokens
    with that much probability. min_p: drops tokens below that share of the likeliest one's probability.
    repetition_penalty: above 1 makes tokens already said less likely (arXiv:1909.05858). seed: the same seed
    and logits give the same tokens; None draws one. stop: texts that end the answer and are left out of it. verbatim:
    what stands in quotation marks is a sentence of the documents, the one that was looked at most.
    """

    temperature: float = 0.9
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    seed: int | None = None
    max_tokens: int = 512
    stop: tuple[str, ...] = ()
    verbatim: bool = False

    @classmethod
    def from_generation_config(cls, raw: Mapping[str, Any]) -> "SamplingParams":
        """What a model's `generation_config.json` recommends; `do_sample` false means the likeliest token.

        Raises ValueError for a value out of range.
        """
        names = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty", "verbatim")
        values = {name: raw[name] for name in names if raw.get(name) is not None}
        if raw.get("do_sample") is False:
            values["temperature"] = 0
        return cls(**values)

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
        _require("seed", self.seed, self.seed is None or 0 <= self.seed < 2**63, "None or 0 to 2^63 - 1")
        _require("verbatim", self.verbatim, isinstance(self.verbatim, bool), "true or false")
        valid = isinstance(self.stop, tuple) and all(isinstance(text, str) and text for text in self.stop)
        _require("stop", self.stop, valid, "a tuple of texts that are not empty")


def _require(name: str, value: object, condition: bool, wanted: str) -> None:
    if not condition:
        raise ValueError(f"{name} must be {wanted}, got {value!r}")


class Sampler:
    """Draws the tokens of one answer; remembers what was said and its random numbers.

    The filters run in the order penalty, temperature, top-k, top-p, min-p, each on what the one before left. Token n of
    an answer is drawn with the n-th random number whatever was computed with it, so a draft that is verified changes
    nothing: the same seed says the same with and without drafts, and has the same distribution.
    """

    def __init__(
        self, params: SamplingParams, vocab_size: int, prompt_ids: Iterable[int], device: torch.device | str = "cpu"
    ) -> None:
        """prompt_ids: the end of what the model has read; the last PENALTY_TAIL_TOKENS of it count."""
        self._params = params
        self._vocab_size = vocab_size
        self._generator = torch.Generator()
        if params.seed is None:
            self._generator.seed()
        else:
            self._generator.manual_seed(params.seed)
        self._points: list[float] = []
        self._num_said = 0
        tail = list(deque((int(i) for i in prompt_ids), PENALTY_TAIL_TOKENS))
        self.said = torch.zeros(vocab_size + 1, dtype=torch.bool, device=device)
        self.said[torch.tensor(tail, dtype=torch.int64, device=device)] = True

    @property
    def chooser(self) -> "Chooser":
        """What is done on the device, and with what settings."""
        params = self._params
        return Chooser(
            temperature=params.temperature,
            top_p=params.top_p,
            top_k=params.top_k,
            min_p=params.min_p,
            repetition_penalty=params.repetition_penalty,
        )

    def points(self, count: int) -> list[float]:
        """The random numbers in [0, 1) of the next `count` tokens."""
        if self._params.temperature == 0:
            return [0.0] * count
        while len(self._points) < self._num_said + count:
            self._points.append(float(torch.rand((), generator=self._generator, dtype=torch.float64)))
        return self._points[self._num_said : self._num_said + count]

    def accept(self, tokens: Sequence[int]) -> None:
        """Take note of the tokens that were said. Raises ModelError if one was drawn from what is no number."""
        if -1 in tokens:
            raise ModelError("the model's logits are not numbers; its weights or its state are damaged")
        self._num_said += len(tokens)
        if self._params.repetition_penalty != 1:  # else nobody asks, and a card would be waited for
            self.said[torch.tensor(tokens, dtype=torch.int64, device=self.said.device)] = True

    def sample(self, logits: Tensor) -> int:
        """The next token, from logits [vocab] float32 on the sampler's device, which are not changed.

        Raises ValueError for another shape, ModelError where a logit is NaN or +inf or all are -inf.
        """
        if logits.shape != (self._vocab_size,):
            raise ValueError(f"logits must be [{self._vocab_size}], got {list(logits.shape)}")
        points = torch.tensor(self.points(1), dtype=torch.float64, device=logits.device)
        drafts = torch.empty(0, dtype=torch.int64, device=logits.device)
        token = int(self.chooser(logits[None], self.said, drafts, points)[0])
        self.accept([token])
        return token


@dataclass(frozen=True, kw_only=True)
class Chooser:
    """The settings by which tokens are drawn; the fields are those of SamplingParams."""

    temperature: float
    top_p: float
    top_k: int
    min_p: float
    repetition_penalty: float

    def __call__(self, logits: Tensor, said: Tensor, drafts: Tensor, points: Tensor) -> Tensor:
        """One token from each row of logits, by tensor operations of fixed shapes alone: the device is not waited for.

        logits: [T, vocab], not changed; row t follows the drafts [T - 1] int64 before t. said: [vocab + 1] bool, the
        tokens said before row 0. points: [T] float64 in [0, 1). Returns [T] int64, -1 where the logits are no numbers.
        """
        scores = self._penalized(logits.detach().float(), said, drafts)
        best = scores.argmax(-1)
        top = scores.gather(-1, best[:, None])
        drawn = best if self.temperature == 0 else self._draw(scores, top, points)
        return torch.where(top[:, 0].isfinite(), drawn, -1)

    def _penalized(self, logits: Tensor, said: Tensor, drafts: Tensor) -> Tensor:
        if self.repetition_penalty == 1:
            return logits
        T, vocab = logits.shape
        rows = said.repeat(T, 1)  # [T, vocab + 1], the last column is for drafts that stand behind the row
        if T > 1:
            row = torch.arange(T, device=logits.device)[:, None]
            rows.scatter_(1, torch.where(row > row.T[:, : T - 1], drafts, vocab), value=True)
        penalty = self.repetition_penalty
        return torch.where(rows[:, :vocab], torch.where(logits > 0, logits / penalty, logits * penalty), logits)

    def _draw(self, scores: Tensor, top: Tensor, points: Tensor) -> Tensor:
        """By inverse transform, in float64: a seed means the same on any device."""
        tokens = None
        if self.top_k or self.top_p < 1:
            scores, tokens = scores.sort(dim=-1, descending=True, stable=True)
            scores = scores[:, : self.top_k or None]
        probs = ((scores.double() - top.double()) / self.temperature).softmax(dim=-1)
        if self.top_p < 1:
            # a token stays if those before it do not yet have top_p: the first always does
            probs = probs * (probs.cumsum(dim=-1) - probs < self.top_p)
        if self.min_p > 0:
            probs = probs * (probs >= self.min_p * probs.amax(-1, keepdim=True))
        edges = probs.cumsum(dim=-1)
        index = torch.searchsorted(edges, points[:, None] * edges[:, -1:], right=True)
        places = torch.arange(probs.shape[-1], device=probs.device)
        last = torch.where(probs > 0, places, 0).amax(-1, keepdim=True)
        index = torch.minimum(index, last)
        return (index if tokens is None else tokens.gather(-1, index))[:, 0]


class StopMatcher:
    """Ends streamed text at the first stop string, wherever the pieces are cut.

    Text that may begin a stop string is held back until it is decided. Of several strings the one that is
    complete first ends the text, so the result does not depend on the cuts.
    """

    def __init__(self, stop: Iterable[str]) -> None:
        self._stop = tuple(stop)
        self._held = ""
        self.stopped = False

    def push(self, text: str) -> str:
        """Text that is certain now; "" for good once `stopped` is true."""
        if self.stopped:
            return ""
        self._held += text
        places = [(self._held.find(stop), stop) for stop in self._stop]
        found = [(place + len(stop), place) for place, stop in places if place >= 0]
        if found:
            self.stopped = True
            out, self._held = self._held[: min(found)[1]], ""
            return out
        keep = len(self._held) - max((possible_prefix(self._held, stop) for stop in self._stop), default=0)
        out, self._held = self._held[:keep], self._held[keep:]
        return out

    def flush(self) -> str:
        """What was held back, at the end of the answer."""
        out, self._held = self._held, ""
        return out
