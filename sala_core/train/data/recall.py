"""Made-up rows that only recall can predict: copying, keys with values, needles in text. Recall is measured on them.

Symbols are ordinary token ids drawn at random. Only tokens that the row has told before have a weight.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np

from sala_core.train.data.tasks import Row

_NEEDLE_KEY, _NEEDLE_VALUE = 3, 4  # tokens

RecallMaker = Callable[[random.Random, int, range, np.ndarray], Row]
"""(random numbers, row length, ids to draw from, text of at least that length) -> a row of length + 1 ids or more."""


def copy_row(rng: random.Random, length: int, symbols: range, text: np.ndarray) -> Row:
    """A run of random symbols, again and again: nothing but the place where it stood before tells what comes."""
    pool = _pool(rng, symbols, 64)
    run = [rng.choice(pool) for _ in range(rng.randint(8, max(9, length // 2)))]
    row = Row()
    row.add(run, 0.0)
    while len(row.ids) <= length:
        row.add(run, 1.0)
    return row


def _pool(rng: random.Random, symbols: range, least: int) -> range:
    """The first 32, 64 ... or all symbols: few are met often, which is where recall is learnt first."""
    sizes = [size for size in (2**k for k in range(5, 17)) if least <= size < len(symbols)]
    return symbols[: rng.choice([*sizes, len(symbols)])]


def key_value_row(rng: random.Random, length: int, symbols: range, text: np.ndarray) -> Row:
    """Pairs of key and value, then the keys again in another order, each to be followed by its value."""
    pool = _pool(rng, symbols, 32)
    most = min(length // 4, len(pool) // 2)
    drawn = rng.sample(pool, 2 * rng.randint(max(1, most // 4), max(1, most)))
    pairs = list(zip(drawn[::2], drawn[1::2], strict=True))
    row = Row()
    for pair in pairs:
        row.add(list(pair), 0.0)
    while len(row.ids) <= length:
        for key, value in rng.sample(pairs, len(pairs)):
            row.add([key], 0.0)
            row.add([value], 1.0)
    return row


def needle_row(rng: random.Random, length: int, symbols: range, text: np.ndarray) -> Row:
    """Text with a few short random runs in it; at the end their first tokens come again, to be continued."""
    size = _NEEDLE_KEY + _NEEDLE_VALUE
    count = max(1, min(8, length // 64))
    needles = [rng.sample(symbols, size) for _ in range(count)]
    room = max(0, length + 1 - 2 * count * size)
    places = sorted(rng.randint(0, room) for _ in needles)
    row = Row()
    before = 0
    for place, needle in zip(places, needles, strict=True):
        row.add(text[before:place].tolist(), 0.0)
        row.add(needle, 0.0)
        before = place
    row.add(text[before:room].tolist(), 0.0)
    while len(row.ids) <= length:
        for needle in rng.sample(needles, count):
            row.add(needle[:_NEEDLE_KEY], 0.0)
            row.add(needle[_NEEDLE_KEY:], 1.0)
    return row


RECALL_KINDS: dict[str, RecallMaker] = {"copy": copy_row, "key_value": key_value_row, "needle": needle_row}
