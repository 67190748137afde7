"""RULER's aggregation tasks: the ten common words of a list, and the three most frequent of coded words."""

import math
import string
from random import Random

from sala_core.evals.exact_length import fit_length
from sala_core.evals.haystack import DOCUMENT
from sala_core.evals.records import Message, Question, Reading, SampleSpec
from sala_core.evals.words import ADJECTIVES, NOUNS, distinct
from sala_core.text.prompt import SYSTEM_PROMPT

_NUM_COMMON, _COMMON_TIMES, _RARE_TIMES = 10, 30, 3
_SHORT_TOKENS, _SHORT_TIMES = 4096, 10  # in shorter prompts, 300 common words leave no room for others
_ALPHA = 2.0
_NUM_FREQUENT = 3
_MAX_TOKENS = {"cwe": 160, "fwe": 96}


def common_words(spec: SampleSpec) -> Reading:
    """A numbered list: ten words 30 times each (10 times below 4,096 tokens), others 3 times each, shuffled."""
    rng = spec.rng
    common = rng.sample(NOUNS, _NUM_COMMON)
    rare = [word for word in dict.fromkeys([*NOUNS, *ADJECTIVES]) if word not in common]
    rng.shuffle(rare)
    rare += _compounds(rng, max(0, spec.length // 8 - len(rare)))
    times = _COMMON_TIMES if spec.length >= _SHORT_TOKENS else _SHORT_TIMES
    question = Question(
        text=f"What are the {_NUM_COMMON} most common words in the numbered list? Name only the words.",
        gold=tuple(common),
        max_tokens=_MAX_TOKENS["cwe"],
    )
    seed = rng.getrandbits(64)

    def build(size: int, padding: str) -> Reading:
        words = common * times + rare[:size] * _RARE_TIMES
        Random(seed).shuffle(words)
        numbered = " ".join(f"{i}. {word}" for i, word in enumerate(words, 1))
        return _reading(numbered + padding, question)

    return fit_length(build, spec.counter, spec.length, guess=spec.length // 20, max_size=len(rare))


def frequent_words(spec: SampleSpec) -> Reading:
    """Coded words with frequencies proportional to rank^-2. The most frequent one is dots, which do not count."""
    rng = spec.rng
    coded = ["....", *_coded(rng, 2000)]
    question = Question(
        text="Words of letters without meaning are repeated in the text, among dots. "
        f"Which {_NUM_FREQUENT} of these words are the most frequent? Ignore the dots and name only the words.",
        gold=tuple(coded[1 : 1 + _NUM_FREQUENT]),
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
        words = words[:size] if size > _NUM_FREQUENT + 1 else coded[: _NUM_FREQUENT + 1]
        Random(seed).shuffle(words)
        return _reading(" ".join(words) + padding, question)

    return fit_length(build, spec.counter, spec.length, guess=spec.length // 4)


def _reading(text: str, question: Question) -> Reading:
    message = Message(role="user", text=text, document=DOCUMENT)
    return Reading(system=SYSTEM_PROMPT, messages=(message,), questions=(question,))


def _compounds(rng: Random, count: int) -> list[str]:
    """`count` different words of two joined nouns, or of three for large counts: kettlelane."""
    parts = 2 if count < len(NOUNS) ** 2 // 4 else 3
    return distinct(count, lambda: "".join(rng.sample(NOUNS, parts)))


def _coded(rng: Random, count: int) -> list[str]:
    """`count` different words of four to six random letters."""
    return distinct(count, lambda: "".join(rng.choice(string.ascii_lowercase) for _ in range(rng.randint(4, 6))))
