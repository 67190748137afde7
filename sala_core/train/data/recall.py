"""Synthetic rows that measure recall: copying, key-value lookup and needles in text.

Symbols are random token ids. Only targets that follow from earlier tokens of the row have a weight.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np

from sala_core.train.data.tasks import Row

_NEEDLE_KEY, _NEEDLE_VALUE = 3, 4  # tokens

RecallMaker = Callable[[random.Random, int, range, np.ndarray], Row]
"""(rng, length, symbols, text) -> a row of at least length + 1 ids. text: [at least length] ids of plain text."""


def copy_row(rng: random.Random, length: int, symbols: range, text: np.ndarray) -> Row:
    """Return a row that repeats one random run of symbols. Each repeat can be predicted by copying alone.

    Args:
        rng: source of randomness.
        length: tokens of the row; it has at least length + 1 ids.
        symbols: token ids to draw from.
        text: unused.
    """
    pool = _pool(rng, symbols, 64)
    run = [rng.choice(pool) for _ in range(rng.randint(8, max(9, length // 2)))]
    row = Row()
    row.add(run, 0.0)
    while len(row.ids) <= length:
        row.add(run, 1.0)
    return row


def _pool(rng: random.Random, symbols: range, minimum: int) -> range:
    """Return the first 32, 64, ... or all symbols, at least `minimum`. In small pools recall is learned first."""
    sizes = [size for size in (2**k for k in range(5, 17)) if minimum <= size < len(symbols)]
    return symbols[: rng.choice([*sizes, len(symbols)])]


def key_value_row(rng: random.Random, length: int, symbols: range, text: np.ndarray) -> Row:
    """Return a row with pairs of key and value, then the keys again in other orders, each followed by its value.

    Args:
        rng: source of randomness.
        length: tokens of the row; it has at least length + 1 ids.
        symbols: token ids to draw from.
        text: unused.
    """
    pool = _pool(rng, symbols, 32)
    max_pairs = min(length // 4, len(pool) // 2)
    ids = rng.sample(pool, 2 * rng.randint(max(1, max_pairs // 4), max(1, max_pairs)))
    pairs = list(zip(ids[::2], ids[1::2], strict=True))
    row = Row()
    for pair in pairs:
        row.add(list(pair), 0.0)
    while len(row.ids) <= length:
        for key, value in rng.sample(pairs, len(pairs)):
            row.add([key], 0.0)
            row.add([value], 1.0)
    return row


def needle_row(rng: random.Random, length: int, symbols: range, text: np.ndarray) -> Row:
    """Return a row of text with short random needles. At the end each needle's first tokens ask for the others.

    Args:
        rng: source of randomness.
        length: tokens of the row; it has at least length + 1 ids.
        symbols: token ids to draw from.
        text: ids of plain text, at least `length`.
    """
    size = _NEEDLE_KEY + _NEEDLE_VALUE
    count = max(1, min(8, length // 64))
    needles = [rng.sample(symbols, size) for _ in range(count)]
    num_text = max(0, length + 1 - 2 * count * size)
    positions = sorted(rng.randint(0, num_text) for _ in needles)
    row = Row()
    previous = 0
    for position, needle in zip(positions, needles, strict=True):
        row.add(text[previous:position].tolist(), 0.0)
        row.add(needle, 0.0)
        previous = position
    row.add(text[previous:num_text].tolist(), 0.0)
    while len(row.ids) <= length:
        for needle in rng.sample(needles, count):
            row.add(needle[:_NEEDLE_KEY], 0.0)
            row.add(needle[_NEEDLE_KEY:], 1.0)
    return row


RECALL_KINDS: dict[str, RecallMaker] = {"copy": copy_row, "key_value": key_value_row, "needle": needle_row}
