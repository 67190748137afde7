"""RULER's aggregation tasks: the ten common words of a list, and the three most frequent of coded ones."""

import math
import string
from random import Random

from sala_core.evals.fit import fit
from sala_core.evals.haystack import DOCUMENT
from sala_core.evals.records import Message, Question, Reading, SampleSpec
from sala_core.evals.words import ADJECTIVES, NOUNS
from sala_core.text.prompt import SYSTEM_PROMPT

_COMMON, _COMMON_TIMES, _RARE_TIMES = 10, 30, 3
_SHORT_TOKENS, _SHORT_TIMES = 4096, 10  # a list of 300 common words leaves no room below
_ALPHA = 2.0
_FREQUENT = 3
_MAX_TOKENS = {"cwe": 160, "fwe": 96}


def common_words(order: SampleSpec) -> Reading:
    """A numbered list: ten words 30 times each (10 times below 4,096 tokens), the others 3 times each, shuffled."""
    rng = order.rng
    common = rng.sample(NOUNS, _COMMON)
    rare = [word for word in dict.fromkeys([*NOUNS, *ADJECTIVES]) if word not in common]
    rng.shuffle(rare)
    rare += _compounds(rng, max(0, order.length // 8 - len(rare)))
    times = _COMMON_TIMES if order.length >= _SHORT_TOKENS else _SHORT_TIMES
    question = Question(
        text=f"What are the {_COMMON} most common words in the numbered list? Name only the words.",
        gold=tuple(common),
        max_tokens=_MAX_TOKENS["cwe"],
    )
    seed = rng.getrandbits(64)

    def build(size: int, padding: str) -> Reading:
        words = common * times + rare[:size] * _RARE_TIMES
        Random(seed).shuffle(words)
        listed = " ".join(f"{i}. {word}" for i, word in enumerate(words, 1))
        return _reading(listed + padding, question)

    return fit(build, order.counter, order.length, guess=order.length // 20, most=len(rare))


def frequent_words(order: SampleSpec) -> Reading:
    """Coded words whose frequencies fall as rank^-2; the most frequent is a run of dots that does not count."""
    rng = order.rng
    coded = ["....", *_coded(rng, 2000)]
    question = Question(
        text="Words of letters without meaning are repeated in the text, among dots. "
        f"Which {_FREQUENT} of these words are the most frequent? Ignore the dots and name only the words.",
        gold=tuple(coded[1 : 1 + _FREQUENT]),
        max_tokens=_MAX_TOKENS["fwe"],
    )
    seed = rng.getrandbits(64)
    total = math.pi**2 / 6  # zeta(2)

    def build(size: int, padding: str) -> Reading:
        words: list[str] = []
        for rank, word in enumerate(coded, 1):
            words += [word] * math.ceil(size * rank**-_ALPHA / total)
            if len(words) >= size:
                break
        words = words[:size] if size > _FREQUENT + 1 else coded[: _FREQUENT + 1]
        Random(seed).shuffle(words)
        return _reading(" ".join(words) + padding, question)

    return fit(build, order.counter, order.length, guess=order.length // 4)


def _reading(text: str, question: Question) -> Reading:
    message = Message(role="user", text=text, document=DOCUMENT)
    return Reading(system=SYSTEM_PROMPT, messages=(message,), questions=(question,))


def _compounds(rng: Random, count: int) -> list[str]:
    """So many different words of two or three parts: kettlelane."""
    found: dict[str, None] = {}
    parts = 2 if count < len(NOUNS) ** 2 // 4 else 3
    while len(found) < count:
        found["".join(rng.sample(NOUNS, parts))] = None
    return list(found)


def _coded(rng: Random, count: int) -> list[str]:
    """So many different words of four to six random letters."""
    found: dict[str, None] = {}
    while len(found) < count:
        found["".join(rng.choice(string.ascii_lowercase) for _ in range(rng.randint(4, 6)))] = None
    return list(found)
