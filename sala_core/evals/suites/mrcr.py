"""Multi-round coreference: give back one of several answers to the same request (arXiv:2409.12640, openai/mrcr)."""

import string
from bisect import bisect_right
from functools import partial
from random import Random
from typing import Literal

from sala_core.evals.exact_length import fit_length
from sala_core.evals.haystack import WORD_END
from sala_core.evals.records import Message, Question, Reading, SampleSpec, Task
from sala_core.evals.scoring import match_ratio
from sala_core.evals.suites.mrcr_texts import FORMS, TOPICS, answer, request

NEEDLES = (2, 4, 8)
SYSTEM = "You are a helpful assistant."
_PREFIX_CHARS = 10
_SPARE_TOKENS = 64
_ROLES: tuple[Literal["user", "assistant"], ...] = ("user", "assistant")


def _ordinal(number: int) -> str:
    endings = {1: "st", 2: "nd", 3: "rd"}
    return f"{number}{endings.get(number, 'th')}"


def conversation(spec: SampleSpec, *, num_needles: int) -> Reading:
    """A conversation with one request repeated `num_needles` times. Each question asks for one of its answers.

    The conversation is divided into `num_needles` equal parts; each has one needle at a random turn.
    """
    rng = spec.rng
    form, topic = rng.choice(FORMS), rng.choice(TOPICS)
    needles = [answer(rng, form, topic) for _ in range(num_needles)]
    depths = [(i + rng.random()) / num_needles for i in range(num_needles)]
    first = rng.randrange(num_needles)
    asked = [(first + i) % num_needles for i in range(spec.num_questions)]
    prefixes = ["".join(rng.choices(string.ascii_letters + string.digits, k=_PREFIX_CHARS)) for _ in asked]
    distractors = _DistractorTurns(rng.getrandbits(64), form, topic)
    max_tokens = max(spec.counter.text_tokens(text) for text in needles) + _SPARE_TOKENS

    def build(size: int, padding: str) -> Reading:
        turns = distractors.turns(size, padding)
        at = [int(depth * len(turns)) for depth in depths]
        for i in range(num_needles - 1, -1, -1):
            turns.insert(at[i], (request(form, topic), needles[i]))
        messages = [Message(role=role, text=text) for turn in turns for role, text in zip(_ROLES, turn, strict=True)]
        questions = tuple(
            Question(
                text=f"Prepend {prefix} to the {_ordinal(which + 1)} (1 indexed) {form} about {topic}. "
                "Do not include any other text in your response.",
                gold=(prefix + needles[which],),
                max_tokens=max_tokens,
                depth=round((at[which] + which) / len(turns), 4),
                hidden={"prefix": prefix},
            )
            for which, prefix in zip(asked, prefixes, strict=True)
        )
        return Reading(system=SYSTEM, messages=tuple(messages), questions=questions)

    return fit_length(build, spec.counter, spec.length, guess=spec.length // 2)


class _DistractorTurns:
    """The turns between the needles. A larger number of words extends the same turns."""

    def __init__(self, seed: int, form: str, topic: str) -> None:
        """form, topic: of the needles. No distractor has both."""
        self._rng = Random(seed)
        self._needle_kind = (form, topic)
        self._turns: list[tuple[str, str]] = []
        self._words_before = [0]  # words of the answers before each turn

    def turns(self, num_words: int, padding: str) -> list[tuple[str, str]]:
        """(request, answer) turns whose answers have `num_words` words. The last one is cut short and padded."""
        while self._words_before[-1] <= num_words:
            self._add()
        num_whole = bisect_right(self._words_before, num_words) - 1
        last_request, last_answer = self._turns[num_whole]
        ends = [0, *(match.end() for match in WORD_END.finditer(last_answer))]
        cut = last_answer[: ends[num_words - self._words_before[num_whole]]]
        return [*self._turns[:num_whole], (last_request, cut + padding)]

    def _add(self) -> None:
        while (kind := (self._rng.choice(FORMS), self._rng.choice(TOPICS))) == self._needle_kind:
            pass
        text = answer(self._rng, *kind)
        self._turns.append((request(*kind), text))
        self._words_before.append(self._words_before[-1] + len(text.split()))


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
