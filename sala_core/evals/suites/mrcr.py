"""Multi-round coreference: which of several texts of the same kind was the n-th? (arXiv:2409.12640, openai/mrcr)."""

import re
import string
from bisect import bisect_right
from functools import partial
from random import Random
from typing import Literal

from sala_core.evals.fit import fit
from sala_core.evals.records import Message, Question, Reading, SampleSpec, Task
from sala_core.evals.scoring import match_ratio
from sala_core.evals.suites.mrcr_texts import FORMS, TOPICS, answer, request

NEEDLES = (2, 4, 8)
SYSTEM = "You are a helpful assistant."
_PREFIX_CHARS = 10
_SPARE_TOKENS = 64
_ROLES: tuple[Literal["user", "assistant"], ...] = ("user", "assistant")
_WORD_END = re.compile(r"\S+")


def _ordinal(number: int) -> str:
    endings = {1: "st", 2: "nd", 3: "rd"}
    return f"{number}{endings.get(number, 'th')}"


def conversation(order: SampleSpec, *, num_needles: int) -> Reading:
    """A conversation in which one request comes `num_needles` times among others; each question asks for one answer.

    The needles stand in equal parts of the conversation, at a random turn of each.
    """
    rng = order.rng
    form, topic = rng.choice(FORMS), rng.choice(TOPICS)
    needles = [answer(rng, form, topic) for _ in range(num_needles)]
    places = [(i + rng.random()) / num_needles for i in range(num_needles)]
    begin = rng.randrange(num_needles)
    asked = [(begin + i) % num_needles for i in range(order.num_questions)]
    prefixes = ["".join(rng.choices(string.ascii_letters + string.digits, k=_PREFIX_CHARS)) for _ in asked]
    others = _Others(rng.getrandbits(64), form, topic)
    longest = max(order.counter.text_tokens(text) for text in needles) + _SPARE_TOKENS

    def build(size: int, padding: str) -> Reading:
        turns = others.turns(size, padding)
        at = [int(place * len(turns)) for place in places]
        for i in range(num_needles - 1, -1, -1):
            turns.insert(at[i], (request(form, topic), needles[i]))
        messages = [Message(role=role, text=text) for turn in turns for role, text in zip(_ROLES, turn, strict=True)]
        questions = tuple(
            Question(
                text=f"Prepend {prefix} to the {_ordinal(which + 1)} (1 indexed) {form} about {topic}. "
                "Do not include any other text in your response.",
                gold=(prefix + needles[which],),
                max_tokens=longest,
                depth=round((at[which] + which) / len(turns), 4),
                hidden={"prefix": prefix},
            )
            for which, prefix in zip(asked, prefixes, strict=True)
        )
        return Reading(system=SYSTEM, messages=tuple(messages), questions=questions)

    return fit(build, order.counter, order.length, guess=order.length // 2)


class _Others:
    """The turns between the needles, ever the same ones, as many words of them as are wanted."""

    def __init__(self, seed: int, form: str, topic: str) -> None:
        """form, topic: of the needles, which no other turn may have."""
        self._rng = Random(seed)
        self._needle = (form, topic)
        self._turns: list[tuple[str, str]] = []
        self._words = [0]  # of the answers before each turn

    def turns(self, num_words: int, padding: str) -> list[tuple[str, str]]:
        """(request, answer) turns with so many words in their answers; the last is cut short and padded."""
        while self._words[-1] <= num_words:
            self._add()
        full = bisect_right(self._words, num_words) - 1
        asked, said = self._turns[full]
        ends = [0, *(match.end() for match in _WORD_END.finditer(said))]
        last = said[: ends[num_words - self._words[full]]]
        return [*self._turns[:full], (asked, last + padding)]

    def _add(self) -> None:
        while (kind := (self._rng.choice(FORMS), self._rng.choice(TOPICS))) == self._needle:
            pass
        said = answer(self._rng, *kind)
        self._turns.append((request(*kind), said))
        self._words.append(self._words[-1] + len(said.split()))


MRCR = tuple(
    Task(
        name=f"mrcr_{n}",
        make=partial(conversation, num_needles=n),
        score=match_ratio,
        max_shared=n,
        evidence=False,
    )
    for n in NEEDLES
)
