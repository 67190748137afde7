"""RULER's variable tracking: find all variables that one value is assigned to along a chain."""

import string
from random import Random

from sala_core.evals.haystack import Haystack, Needle, PlantedText, haystack_reading
from sala_core.evals.records import Question, Reading, SampleSpec
from sala_core.evals.suites.ruler_needles import noise_text
from sala_core.evals.words import distinct

_HOPS = 4
_CHAIN = _HOPS + 1  # variables of a chain
_MAX_TOKENS = 128


def variable_tracking(spec: SampleSpec) -> Reading:
    """One chain of five variables for each question, in noise. The assignments of a chain stand in their order."""
    rng = spec.rng
    names = _names(rng, spec.num_questions * _CHAIN)
    values = rng.sample(range(10_000, 99_999), spec.num_questions)
    needles: list[Needle] = []
    for i, value in enumerate(values):
        chain = names[i * _CHAIN : (i + 1) * _CHAIN]
        depths = sorted(rng.random() for _ in chain)
        sources = [str(value), *(f"VAR {name}" for name in chain[:-1])]
        needles += [
            Needle(text=f"VAR {name} = {source}.", depth=depth)
            for name, source, depth in zip(chain, sources, depths, strict=True)
        ]

    def questions(planted: PlantedText) -> tuple[Question, ...]:
        return tuple(
            Question(
                text=f"Find all variables that have the value {value} in the text. Name all {_CHAIN}.",
                gold=tuple(names[i * _CHAIN : (i + 1) * _CHAIN]),
                max_tokens=_MAX_TOKENS,
                needles=planted.spans[i * _CHAIN : (i + 1) * _CHAIN],
            )
            for i, value in enumerate(values)
        )

    return haystack_reading(spec, Haystack(noise_text(spec.length)), needles, questions)


def _names(rng: Random, count: int) -> list[str]:
    return distinct(count, lambda: "".join(rng.choice(string.ascii_uppercase) for _ in range(5)))
