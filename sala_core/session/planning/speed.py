"""How long a reading takes on this machine, from what this machine has read before."""

import time
from collections.abc import Sequence

import torch

from sala_core.engine.engine import Engine
from sala_core.session.planning.measured import STRETCH_TOKENS, Stretch

GROWTH_PER_TOKEN = 6e-6
"""How much the time per token grows with each position, as a share of that at position 0, where too little was measured
to tell: the embedded model on a CPU reads the millionth token some seven times as slowly as the first."""

_FIT_TOKENS = 1 << 16
"""Measured stretches have to span so many positions before the growth is taken from them."""
_FIRST_TOKENS, _MORE_TOKENS, _FAST_S = 256, 4096, 0.25


class Speed:
    """Seconds per token by position: as measured where this machine has read, elsewhere along a straight line."""

    def __init__(self, stretches: Sequence[Stretch]) -> None:
        """stretches: what was measured, at least one."""
        assert stretches, "there is something measured"
        self._known = {stretch.start: stretch.token_s for stretch in stretches}
        self._base, self._growth = _line(stretches)

    def seconds(self, start: int, end: int) -> float:
        """Seconds for the tokens at positions start ... end - 1."""
        total = 0.0
        for first in range(start - start % STRETCH_TOKENS, end, STRETCH_TOKENS):
            low, high = max(start, first), min(end, first + STRETCH_TOKENS)
            token_s = self._known.get(first, self._base + self._growth * (low + high) / 2)
            total += token_s * (high - low)
        return total


def _line(stretches: Sequence[Stretch]) -> tuple[float, float]:
    """(seconds at position 0, growth per position) of the line of least squares, weighted by the tokens read."""
    weights = [stretch.num_tokens for stretch in stretches]
    total = sum(weights)
    places = [stretch.start + STRETCH_TOKENS / 2 for stretch in stretches]
    times = [stretch.token_s for stretch in stretches]
    place = sum(w * x for w, x in zip(weights, places, strict=True)) / total
    mean = sum(w * y for w, y in zip(weights, times, strict=True)) / total
    spread = sum(w * (x - place) ** 2 for w, x in zip(weights, places, strict=True))
    common = sum(w * (x - place) * (y - mean) for w, x, y in zip(weights, places, times, strict=True))
    if places[-1] - places[0] >= _FIT_TOKENS and common > 0 and mean - common / spread * place > 0:
        return mean - common / spread * place, common / spread
    base = mean / (1 + GROWTH_PER_TOKEN * place)
    return base, base * GROWTH_PER_TOKEN


def model_key(engine: Engine) -> str:
    """What measured speeds belong to: the model in its number formats, and the device."""
    device = engine.model.device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return f"{engine.fingerprint} on {name}"


def measure_first(engine: Engine) -> Stretch:
    """Measure the speed on a machine that has not read anything yet, in a second or less where the model is fast.

    The text is made up, and nothing of it is kept. Raises MemoryBudgetError.
    """
    ids = engine.tokenizer.encode_content("A carriage waited in the rain, and nobody spoke of it. " * 600)
    state, done, seconds = engine.new_state(), 0, 0.0
    for num_tokens in (_FIRST_TOKENS, _FIRST_TOKENS, _MORE_TOKENS):
        began = time.monotonic()
        for _ in engine.read(state, ids[done : done + num_tokens]):
            pass
        seconds = time.monotonic() - began
        done += num_tokens
        if num_tokens == _FIRST_TOKENS and seconds > _FAST_S:
            break
    return Stretch(start=0, num_tokens=float(num_tokens), seconds=seconds)
