"""RULER's variable tracking: all names that one value was handed on to."""

import string
from random import Random

from sala_core.evals.haystack import Haystack, Needle, Planted, chars_for, fitted
from sala_core.evals.records import Question, Reading, SampleSpec
from sala_core.evals.suites.ruler_needles import NOISE

_HOPS = 4
_MAX_TOKENS = 128


def tracking(order: SampleSpec) -> Reading:
    """One chain of five variables for each question, in noise; each hop stands after the one before."""
    rng = order.rng
    names = _names(rng, order.num_questions * (_HOPS + 1))
    values = rng.sample(range(10_000, 99_999), order.num_questions)
    plants: list[Needle] = []
    for i, value in enumerate(values):
        chain = names[i * (_HOPS + 1) : (i + 1) * (_HOPS + 1)]
        depths = sorted(rng.random() for _ in chain)
        told = [str(value), *(f"VAR {name}" for name in chain[:-1])]
        plants += [
            Needle(text=f"VAR {name} = {source}.", depth=depth)
            for name, source, depth in zip(chain, told, depths, strict=True)
        ]

    def questions(planted: Planted) -> tuple[Question, ...]:
        return tuple(
            Question(
                text=f"Find all variables that have the value {value} in the text. Name all {_HOPS + 1}.",
                gold=tuple(names[i * (_HOPS + 1) : (i + 1) * (_HOPS + 1)]),
                max_tokens=_MAX_TOKENS,
                needles=planted.spans[i * (_HOPS + 1) : (i + 1) * (_HOPS + 1)],
            )
            for i, value in enumerate(values)
        )

    noise = NOISE * (chars_for(order.length) // len(NOISE) + 1)
    return fitted(order, Haystack(noise), plants, questions)


def _names(rng: Random, count: int) -> list[str]:
    found: dict[str, None] = {}
    while len(found) < count:
        found["".join(rng.choice(string.ascii_uppercase) for _ in range(5))] = None
    return list(found)
