"""Needles planted in a long text at given depths. The text is cut so that the prompt has an exact length."""

import re
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

from sala_core.evals.exact_length import fit_length
from sala_core.evals.records import Message, Question, Reading, SampleSpec, Span
from sala_core.text.prompt import SYSTEM_PROMPT

DOCUMENT = "text.txt"
WORD_END = re.compile(r"\S+")
_SENTENCE_END = re.compile(r"[.!?][\"'”’)]*\s+(?=[\"'“‘(]?[A-Z0-9])")
_PARAGRAPH_END = re.compile(r"\n\s*\n")
_TOKENS_PER_WORD = 1.3


@dataclass(frozen=True, kw_only=True)
class Needle:
    """A text to plant. depth: 0 is the beginning of the document, 1 its end."""

    text: str
    depth: float


@dataclass(frozen=True, kw_only=True)
class PlantedText:
    """A document's text with needles in it. spans: the characters of each needle, in the order of the needles."""

    text: str
    spans: tuple[Span, ...]

    def depth(self, index: int) -> float:
        """Actual depth of needle `index`, 0 ... 1."""
        return round(self.spans[index][0] / max(1, len(self.text)), 4)


class Haystack:
    """The text around the needles. Needles stand between its sentences or, with `paragraphs`, its paragraphs."""

    def __init__(self, text: str, *, paragraphs: bool = False) -> None:
        self.text = text
        self._separator = "\n\n" if paragraphs else " "
        self._pattern = _PARAGRAPH_END if paragraphs else _SENTENCE_END

    @property
    def num_words(self) -> int:
        """Words in the text: the largest size."""
        return len(self._word_ends) - 1

    def plant(self, num_words: int, needles: Sequence[Needle], padding: str = "") -> PlantedText:
        """The first `num_words` words with the needles between them and the padding at the end."""
        text = self.text[: self._word_ends[min(num_words, self.num_words)]]
        num_gaps = bisect_left(self._gaps, len(text))
        by_depth = sorted(range(len(needles)), key=lambda i: needles[i].depth)
        pieces: list[str] = []
        spans, done, length = [(0, 0)] * len(needles), 0, 0
        for i in by_depth:
            at = self._nearest_gap(needles[i].depth * len(text), num_gaps, len(text))
            head = text[done:at]
            if (at == len(text) and at > done) or (at == done == len(text) and pieces):
                head += self._separator
            length += len(head)
            spans[i] = (length, length + len(needles[i].text))
            pieces += [head, needles[i].text, self._separator if at < len(text) else ""]
            length = spans[i][1] + len(pieces[-1])
            done = at
        pieces += [text[done:], padding]
        return PlantedText(text="".join(pieces), spans=tuple(spans))

    def _nearest_gap(self, target: float, num_gaps: int, end: int) -> int:
        """The gap nearest to character `target` among the first `num_gaps`; `end` counts as a gap too."""
        if target >= end or not num_gaps:
            return end if target > end / 2 else 0
        after = bisect_left(self._gaps, target, 0, num_gaps)
        near = [self._gaps[i] for i in (after - 1, after) if 0 <= i < num_gaps] + [end]
        return min(near, key=lambda gap: abs(gap - target))

    @cached_property
    def _gaps(self) -> list[int]:
        return [0, *(match.end() for match in self._pattern.finditer(self.text))]

    @cached_property
    def _word_ends(self) -> list[int]:
        return [0, *(match.end() for match in WORD_END.finditer(self.text))]


def chars_for(length: int) -> int:
    """Characters of text that are enough for `length` tokens."""
    return 8 * length + 2000


def haystack_reading(
    spec: SampleSpec,
    haystack: Haystack,
    needles: Sequence[Needle],
    questions: Callable[[PlantedText], tuple[Question, ...]],
    *,
    system: str = SYSTEM_PROMPT,
) -> Reading:
    """One document with the needles, cut so that the prompt has exactly `spec.length` tokens.

    Args:
        spec: gives the length and the token counter.
        haystack: the text to cut.
        needles: planted in the order of their depths.
        questions: makes the questions about the planted text.
        system: the system message.

    Raises:
        EvalError: no cut and padding reach the length.
    """

    def build(size: int, padding: str) -> Reading:
        planted = haystack.plant(size, needles, padding)
        message = Message(role="user", text=planted.text, document=DOCUMENT)
        return Reading(system=system, messages=(message,), questions=questions(planted))

    guess = min(int(spec.length / _TOKENS_PER_WORD), haystack.num_words)
    return fit_length(build, spec.counter, spec.length, guess=guess, max_size=haystack.num_words)
