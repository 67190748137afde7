"""Choosing the next token from logits, and noticing the texts that end an answer."""

import math
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sala_core.errors import ModelError
from sala_core.thinking import possible_prefix

PENALTY_TAIL_TOKENS = 1024  # of the prompt, this many last tokens count as said for the repetition penalty


@dataclass(frozen=True, kw_only=True)
class SamplingParams:
    """How an answer is chosen. Raises ValueError for a value out of range.

    temperature: 0 takes the likeliest token. top_k: 0 keeps all. top_p: the smallest set of likeliest tokens
    with that much probability. min_p: drops tokens below that share of the likeliest one's probability.
    repetition_penalty: above 1 makes tokens already said less likely (arXiv:1909.05858). seed: the same seed
    and logits give the same tokens; None draws one. stop: texts that end the answer and are left out of it.
    """

    temperature: float = 0.9
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    seed: int | None = None
    max_tokens: int = 512
    stop: tuple[str, ...] = ()

    @classmethod
    def from_generation_config(cls, raw: Mapping[str, Any]) -> "SamplingParams":
        """What a model's `generation_config.json` recommends; `do_sample` false means the likeliest token.

        Raises ValueError for a value out of range.
        """
        names = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")
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
        valid = isinstance(self.stop, tuple) and all(isinstance(text, str) and text for text in self.stop)
        _require("stop", self.stop, valid, "a tuple of texts that are not empty")


def _require(name: str, value: object, condition: bool, wanted: str) -> None:
    if not condition:
        raise ValueError(f"{name} must be {wanted}, got {value!r}")


class Sampler:
    """Draws the tokens of one answer; remembers what was said and the state of its random generator.

    The filters run in the order penalty, temperature, top-k, top-p, min-p, each on what the one before left.
    """

    def __init__(self, params: SamplingParams, vocab_size: int, prompt_ids: Iterable[int]) -> None:
        """prompt_ids: the end of what the model has read; the last PENALTY_TAIL_TOKENS of it count."""
        self._params = params
        self._vocab_size = vocab_size
        self._generator = torch.Generator()
        if params.seed is None:
            self._generator.seed()
        else:
            self._generator.manual_seed(params.seed)
        self._said: dict[int, None] = dict.fromkeys(int(i) for i in deque(prompt_ids, PENALTY_TAIL_TOKENS))

    def sample(self, logits: Tensor) -> int:
        """The next token, from logits [vocab] float32 on any device, which are not changed.

        Raises ValueError for another shape, ModelError where a logit is NaN or +inf or all are -inf.
        """
        if logits.shape != (self._vocab_size,):
            raise ValueError(f"logits must be [{self._vocab_size}], got {list(logits.shape)}")
        scores = self._penalized(logits.detach().float())
        best = int(scores.argmax())
        if not math.isfinite(float(scores[best])):
            raise ModelError("the model's logits are not numbers; its weights or its state are damaged")
        token = best if self._params.temperature == 0 else self._draw(scores)
        self._said[token] = None
        return token

    def _penalized(self, logits: Tensor) -> Tensor:
        penalty = self._params.repetition_penalty
        if penalty == 1 or not self._said:
            return logits
        said = torch.tensor(list(self._said), device=logits.device)
        values = logits[said]
        return logits.index_put((said,), torch.where(values > 0, values / penalty, values * penalty))

    def _draw(self, scores: Tensor) -> int:
        """One token by inverse transform, in float64 on the CPU: a seed means the same on any device."""
        params = self._params
        scores, tokens = scores.cpu(), None
        if params.top_k or params.top_p < 1:
            scores, tokens = scores.sort(descending=True, stable=True)
            scores = scores[: params.top_k or None]
        probs = ((scores.double() - float(scores.max())) / params.temperature).softmax(dim=0)
        if params.top_p < 1:
            # a token stays if those before it do not yet have top_p: the first always does
            probs = probs * (probs.cumsum(dim=0) - probs < params.top_p)
        if params.min_p > 0:
            probs = probs * (probs >= params.min_p * probs.max())
        edges = probs.cumsum(dim=0)
        point = torch.rand((), generator=self._generator, dtype=torch.float64) * edges[-1]
        index = int(torch.searchsorted(edges, point, right=True))
        index = min(index, int(probs.nonzero()[-1]))
        return index if tokens is None else int(tokens[index])


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
