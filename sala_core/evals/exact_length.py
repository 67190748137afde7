"""Prompts of an exact length: the largest text that fits, then a few tokens of padding."""

from collections.abc import Callable

from sala_core.errors import EvalError
from sala_core.evals.records import Reading, TokenCounter

Build = Callable[[int, str], Reading]
"""(size, padding) -> reading. A larger size makes the prompt longer, or shorter by a few tokens at most. `padding` is
appended to the text."""

_PADS = (" .", "\n.", " -", " a", ".", "\n", "-")
_MAX_PADS = 512


def fit_length(build: Build, counter: TokenCounter, length: int, *, guess: int, max_size: int | None = None) -> Reading:
    """Build the reading whose prompt, with its longest question, has exactly `length` tokens.

    Args:
        build: makes the reading of a given size and padding.
        counter: counts the tokens of a prompt.
        length: the tokens wanted.
        guess: the size to try first.
        max_size: the largest size there is. None: no limit.

    Raises:
        EvalError: the smallest size is too long, or no padding reaches the length.
    """
    tokens_by_size: dict[int, int] = {}

    def tokens(size: int) -> int:
        if size not in tokens_by_size:
            tokens_by_size[size] = counter.count(build(size, ""))
        return tokens_by_size[size]

    if tokens(0) > length:
        raise EvalError(f"{length:,} tokens are too few for this task: it needs {tokens(0):,}; give a larger --lengths")
    largest = _largest_size(tokens, length, guess, max_size)
    # padding may merge with the tokens before it, so the last few sizes are tried
    for size in range(largest, max(-1, largest - 4), -1):
        reading = _pad(build, counter, size, length - tokens(size), length)
        if reading is not None:
            return reading
    raise EvalError(f"no padding brings the text to exactly {length:,} tokens with this tokenizer")


def _largest_size(tokens: Callable[[int], int], length: int, guess: int, max_size: int | None) -> int:
    """The largest size that fits. Steps by the tokens per size while far away, then bisects."""
    low, high = 0, max_size + 1 if max_size is not None else None
    size, tries = max(1, guess), 0
    while high is None or high - low > 1:
        size = max(size, low + 1) if high is None else min(max(size, low + 1), high - 1)
        count = tokens(size)
        rate = max(0.01, (count - tokens(0)) / size)
        if count <= length:
            low = size
        else:
            high = size
        tries += 1
        if high is not None and (high - low < 8 or tries > 12):
            size = (low + high) // 2
        else:
            step = (length - count) / rate
            size += max(1, int(step)) if step >= 0 else min(-1, int(step) - 1)
    return low


def _pad(build: Build, counter: TokenCounter, size: int, missing: int, length: int) -> Reading | None:
    """The reading of this size, padded to `length` tokens; None if no padding does it."""
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
