"""Ranks the sentences of some texts for a question, with weights that `sala_core.train.finding` has fitted."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sala_core.assets import ASSETS
from sala_core.finder.confidence import SIGNS, QuestionInText, signs
from sala_core.finder.features import NAMES, Floats, SearchedText, sentence_features
from sala_core.finder.question import parse_question, with_context
from sala_core.finder.related import related_words
from sala_core.finder.text_index import build_index

FITTED = ASSETS / "finder" / "ranking.json"
_MAX_IF_ABSENT, _MAX_UNKNOWN = 0.2, 0.5
_COMPLETE = 0.999
_BONUS_OF_ASKED_WORDS, _MIN_OF_ASKED_WORDS = 5.0, 0.9
_MAX_PAIR_CHARS, _PARTNER_MARGIN = 400, 1.0
MIN_DISTANCE = 3
"""Sentences between two found places, so that these are not one passage."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """A sentence or two that may answer a question, in the text with the number `text`: characters start ... end - 1.

    share: of the chance that the best sentences answer, 0 ... 1. has_all_words: of the question. context: first and
    last character, exclusive, of the best sentence with its neighbors.
    """

    text: int
    start: int
    end: int
    share: float
    has_all_words: bool
    context: tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class Findings:
    """The best sentences, best first, and the chance that the first one answers the question, 0 ... 1.

    absent_names: names and numbers of the question that stand nowhere in the texts, as `fold` gives them.
    """

    sentences: tuple[Found, ...]
    confidence: float
    absent_names: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Linear:
    """A linear function of standardized values: (x - mean) / scale @ weights + bias."""

    mean: Floats
    scale: Floats
    weights: Floats
    bias: float

    def __call__(self, values: Floats) -> Floats:
        """[...] of values [..., F]."""
        result = ((values - self.mean) / self.scale) @ self.weights + np.float32(self.bias)
        return np.asarray(result, np.float32)

    @classmethod
    def from_table(cls, table: dict[str, dict[str, float]], names: Sequence[str], bias: float) -> "Linear":
        """Of a table name -> {"mean", "scale", "weight"}."""
        rows = np.array([[table[name][key] for key in ("mean", "scale", "weight")] for name in names], np.float32)
        return cls(mean=rows[:, 0], scale=rows[:, 1], weights=rows[:, 2], bias=bias)


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """What was fitted on questions: the ranking of sentences, its confidence, and from where on that is enough.

    threshold: the confidence from which on seven of ten best sentences were noted as answers, on texts that were not
    fitted. Others answer too, so that about four of five are right.
    """

    ranking: Linear
    confidence: Linear
    threshold: float


@lru_cache(1)
def fitted(file: Path = FITTED) -> Fitted:
    """Read what was fitted."""
    raw = json.loads(file.read_text(encoding="utf-8"))
    return Fitted(
        ranking=Linear.from_table(raw["ranking"], NAMES, 0.0),
        confidence=Linear.from_table(raw["confidence"], SIGNS, raw["confidence_bias"]),
        threshold=raw["threshold"],
    )


class Finder:
    """Finds sentences in some texts, which stay the same. Not for several threads at once. Example::

    finder = Finder(["Lena lives in Oslo. Her brother moved to Rome."])
    for found in finder.find("Where does Lena live?", 3).sentences:
        print(found.start, found.end)
    """

    def __init__(self, texts: Sequence[str]) -> None:
        """Index the texts: about half a second of processor time for five million characters."""
        self.searched = SearchedText.of(build_index(texts), related_words())

    def find(self, question: str, limit: int, *, before: str = "") -> Findings:
        """The sentences that answer a question best, best first, no two within MIN_DISTANCE of each other.

        Empty where no word of the question, and none related to one, stands in the texts.

        Args:
            question: as a person would ask it.
            limit: at most so many.
            before: the turn before: where the question refers back with a pronoun, its names are looked for too.
        """
        parsed = parse_question(question)
        if before and parsed.refers_back:
            parsed = with_context(parsed, parse_question(f"- {before}").names)
        if parsed.is_empty or not len(self.searched.rows):
            return Findings(sentences=(), confidence=0.0)
        features = sentence_features(self.searched, parsed)
        scores, complete = self.scores(features), features[:, NAMES.index("share_own0")] > _COMPLETE
        if parsed.asks_for_text:
            scores = scores + _BONUS_OF_ASKED_WORDS * complete.astype(np.float32)
        rows = spread(scores, max(2, limit))
        if not rows:
            return Findings(sentences=(), confidence=0.0)
        in_text = QuestionInText.of(self.searched, parsed)
        seen = signs(features, scores, rows, in_text)
        confidence = float(1 / (1 + np.exp(-fitted().confidence(seen))))
        if parsed.asks_for_text and complete[rows[0]]:  # whatever else it says, it is what was asked for
            confidence = max(confidence, _MIN_OF_ASKED_WORDS)
        if in_text.absent_names or in_text.unknown > _MAX_UNKNOWN:  # about somebody or something else
            confidence = min(confidence, _MAX_IF_ABSENT)
        shares = np.exp(scores[rows] - scores[rows[0]])
        shares /= shares.sum()
        found = (
            self._found(scores, row, share=float(share), has_all_words=bool(complete[row]))
            for row, share in zip(rows[:limit], shares, strict=False)
        )
        return Findings(sentences=tuple(found), confidence=confidence, absent_names=in_text.absent_names)

    def texts_with(self, name: str) -> frozenset[int]:
        """The numbers of the texts that hold all words of a name, `read_file` or `readFile`."""
        index = self.searched.index
        found: frozenset[int] | None = None
        for word in build_index([name]).vocabulary:
            at = index.word_of.get(word)
            if at is None:
                return frozenset()
            rows = np.unique(index.sentence_of[index.ids == at])
            texts = np.searchsorted(index.text_starts, index.starts[rows], side="right") - 1
            found = frozenset(texts.tolist()) if found is None else found & frozenset(texts.tolist())
        return found or frozenset()

    def scores(self, features: Floats) -> Floats:
        """[S] the score of every sentence; -inf for headings, and far from every sought word."""
        index = self.searched.index
        near = features[:, NAMES.index("near8")] > 0
        can_answer = (index.lengths > 0) & near & ~index.is_heading
        return np.where(can_answer, fitted().ranking(features), -np.inf).astype(np.float32)

    def _found(self, scores: Floats, row: int, *, share: float, has_all_words: bool) -> Found:
        index = self.searched.index
        beside = [at for at in (row - 1, row + 1) if 0 <= at < index.num_sentences and index.lengths[at] > 0]
        joined = partner(scores, index.starts, index.ends, row, beside)
        first, last = sorted((row, row if joined is None else joined))
        text, start, _ = index.place(first)
        context = index.place(min(row, *beside, row))[1], index.place(max(row, *beside, row))[2]
        end = index.place(last)[2]
        return Found(text=text, start=start, end=end, share=share, has_all_words=has_all_words, context=context)


def partner(
    scores: Floats, starts: NDArray[np.int64], ends: NDArray[np.int64], best: int, beside: Sequence[int]
) -> int | None:
    """The neighbor that is quoted together with the best sentence: one that is nearly as good, in the same paragraph.

    Args:
        scores: of all sentences.
        starts: their first characters.
        ends: the characters after their last ones.
        best: the sentence.
        beside: the sentences before and after it, where there are such.

    Returns one of `beside`, or None.
    """
    good = []
    for at in beside:
        first, last = sorted((at, best), key=lambda i: int(starts[i]))
        is_near = starts[last] - ends[first] <= 1 and ends[last] - starts[first] <= _MAX_PAIR_CHARS
        if is_near and scores[at] >= scores[best] - _PARTNER_MARGIN:
            good.append(at)
    return max(good, key=lambda at: float(scores[at]), default=None)


def spread(scores: NDArray[np.float32], limit: int) -> list[int]:
    """The best rows, best first, each at least MIN_DISTANCE rows from all better ones. Rows of -inf never count."""
    chosen: list[int] = []
    for row in np.argsort(-scores, kind="stable").tolist():
        if len(chosen) == limit or scores[row] == -np.inf:
            break
        if all(abs(row - other) >= MIN_DISTANCE for other in chosen):
            chosen.append(row)
    return chosen
