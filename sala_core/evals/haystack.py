"""Sentences planted in a long text at given depths, and the text cut so that the prompt has an exact length."""

import re
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

from sala_core.evals.fit import fit
from sala_core.evals.records import Message, Question, Reading, SampleSpec, Span
from sala_core.text.prompt import SYSTEM_PROMPT

DOCUMENT = "text.txt"
_SENTENCE_END = re.compile(r"[.!?][\"'”’)]*\s+(?=[\"'“‘(]?[A-Z0-9])")
_PARAGRAPH_END = re.compile(r"\n\s*\n")
_WORD_END = re.compile(r"\S+")
_CHARS_A_WORD = 6
_TOKENS_A_WORD = 1.3


@dataclass(frozen=True, kw_only=True)
class Needle:
    """A text to be planted. depth: 0 is the beginning, 1 the end."""

    text: str
    depth: float


@dataclass(frozen=True, kw_only=True)
class Planted:
    """A document's text and where each of the plants, in their order, stands in it."""

    text: str
    spans: tuple[Span, ...]

    def depth(self, index: int) -> float:
        """Where a plant really stands, 0 ... 1."""
        return round(self.spans[index][0] / max(1, len(self.text)), 4)


class Haystack:
    """Text to plant in. Plants stand between sentences; with paragraphs, between paragraphs."""

    def __init__(self, text: str, *, paragraphs: bool = False) -> None:
        self.text = text
        self._glue = "\n\n" if paragraphs else " "
        self._pattern = _PARAGRAPH_END if paragraphs else _SENTENCE_END

    @property
    def num_words(self) -> int:
        """Words there are: the largest size."""
        return len(self._word_ends) - 1

    def planted(self, num_words: int, plants: Sequence[Needle], padding: str = "") -> Planted:
        """The first words with the plants in them and the padding at the end."""
        text = self.text[: self._word_ends[min(num_words, self.num_words)]]
        last = bisect_left(self._gaps, len(text))
        order = sorted(range(len(plants)), key=lambda i: plants[i].depth)
        pieces: list[str] = []
        spans, done, length = [(0, 0)] * len(plants), 0, 0
        for i in order:
            at = self._gap(plants[i].depth * len(text), last, len(text))
            head = text[done:at]
            if (at == len(text) and at > done) or (at == done == len(text) and pieces):
                head += self._glue
            length += len(head)
            spans[i] = (length, length + len(plants[i].text))
            pieces += [head, plants[i].text, self._glue if at < len(text) else ""]
            length = spans[i][1] + len(pieces[-1])
            done = at
        pieces += [text[done:], padding]
        return Planted(text="".join(pieces), spans=tuple(spans))

    def _gap(self, wanted: float, last: int, end: int) -> int:
        """The gap nearest to a character; the end of the text counts as one."""
        if wanted >= end or not last:
            return end if wanted > end / 2 else 0
        after = bisect_left(self._gaps, wanted, 0, last)
        near = [self._gaps[i] for i in (after - 1, after) if 0 <= i < last] + [end]
        return min(near, key=lambda gap: abs(gap - wanted))

    @cached_property
    def _gaps(self) -> list[int]:
        return [0, *(match.end() for match in self._pattern.finditer(self.text))]

    @cached_property
    def _word_ends(self) -> list[int]:
        return [0, *(match.end() for match in _WORD_END.finditer(self.text))]


def chars_for(length: int) -> int:
    """Characters of text that surely make `length` tokens."""
    return 8 * length + 2000


def fitted(
    order: SampleSpec,
    filler: Haystack,
    plants: Sequence[Needle],
    questions: Callable[[Planted], tuple[Question, ...]],
    *,
    system: str = SYSTEM_PROMPT,
) -> Reading:
    """One document with the plants, cut so that the prompt is exactly as long as ordered. Raises EvalError."""

    def build(size: int, padding: str) -> Reading:
        planted = filler.planted(size, plants, padding)
        message = Message(role="user", text=planted.text, document=DOCUMENT)
        return Reading(system=system, messages=(message,), questions=questions(planted))

    guess = int(order.length / _TOKENS_A_WORD)
    return fit(build, order.counter, order.length, guess=min(guess, filler.num_words), most=filler.num_words)
