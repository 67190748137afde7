"""Readings of an exact length: the most text that fits, then a few tokens of padding."""

from collections.abc import Callable

from sala_core.errors import EvalError
from sala_core.evals.records import Reading, TokenCounter

Build = Callable[[int, str], Reading]
"""(size, padding) -> reading. More size never makes it shorter by much; the padding stands at the end of its text."""

_PADS = (" .", "\n.", " -", " a", ".", "\n", "-")
_MAX_PADS = 512


def fit(build: Build, counter: TokenCounter, length: int, *, guess: int, most: int | None = None) -> Reading:
    """The reading whose prompt, with its longest question, has exactly `length` tokens.

    guess: a size to begin with. most: the largest size there is. Raises EvalError where even the smallest is too long,
    or where padding cannot reach the length.
    """
    sizes: dict[int, int] = {}

    def tokens(size: int) -> int:
        if size not in sizes:
            sizes[size] = counter.count(build(size, ""))
        return sizes[size]

    if tokens(0) > length:
        raise EvalError(f"{length:,} tokens are too few for this task: it needs {tokens(0):,}; give a larger --lengths")
    low = _largest(tokens, length, guess, most)
    # a token more may merge with its neighbours, so the last few sizes are tried
    for size in range(low, max(-1, low - 4), -1):
        found = _padded(build, counter, size, length - tokens(size), length)
        if found is not None:
            return found
    raise EvalError(f"no padding brings the text to exactly {length:,} tokens with this tokenizer")


def _largest(tokens: Callable[[int], int], length: int, guess: int, most: int | None) -> int:
    """The largest size that fits: by the slope while it is far away, by halves once it is near."""
    low, high = 0, most + 1 if most is not None else None
    size, tries = max(1, guess), 0
    while high is None or high - low > 1:
        size = max(size, low + 1) if high is None else min(max(size, low + 1), high - 1)
        found = tokens(size)
        rate = max(0.01, (found - tokens(0)) / size)
        if found <= length:
            low = size
        else:
            high = size
        tries += 1
        if high is not None and (high - low < 8 or tries > 12):
            size = (low + high) // 2
        else:
            step = (length - found) / rate
            size += max(1, int(step)) if step >= 0 else min(-1, int(step) - 1)
    return low


def _padded(build: Build, counter: TokenCounter, size: int, missing: int, length: int) -> Reading | None:
    if missing == 0:
        return build(size, "")
    for pad in _PADS:
        times = missing
        for _ in range(6):
            reading = build(size, pad * times)
            off = length - counter.count(reading)
            if off == 0:
                return reading
            times += off
            if not 0 < times <= _MAX_PADS:
                break
    return None
