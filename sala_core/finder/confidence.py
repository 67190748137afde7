"""How sure the finder is: the chance that the best sentence answers the question, from what the search saw."""

from dataclasses import dataclass

import numpy as np

from sala_core.finder.features import NAMES, Floats, SearchedText
from sala_core.finder.question import QuestionWords

SIGNS = (
    "probability", "margin", "own0", "own1", "near0", "near1", "share_own0", "share_near1", "rarest0", "rarest3",
    "order", "meaning0", "meaning1", "similar0", "similar1", "name3", "name12", "heading", "unknown", "absent_names",
    "agrees", "kind_held", "bm25", "num_words", "all_words", "all_names",
)  # fmt: skip
"""What the confidence is computed from, in this order."""

COMPARED = 100
"""The best sentences over which scores become probabilities."""

_MARGIN_OF_ONE = 1.0
"""Margin in a text so short that it has no second place."""

_OF_THE_BEST = tuple(name for name in SIGNS if name in NAMES)
_COLUMNS = {name: NAMES.index(name) for name in NAMES}


@dataclass(frozen=True, kw_only=True)
class QuestionInText:
    """How a question stands to a whole text, whatever sentence is looked at.

    unknown: share of the question's words that stand nowhere in the text, in no form. absent_names: its names and
    numbers that stand nowhere. num_words, num_names: words that are looked for, and names among them.
    """

    unknown: float
    absent_names: tuple[str, ...]
    num_words: int
    num_names: int

    @classmethod
    def of(cls, text: SearchedText, question: QuestionWords) -> "QuestionInText":
        """Look every word up."""
        missing = [word for word in question.sought if not text.inflections.of(word)]
        return cls(
            unknown=len(missing) / max(1, len(question.sought)),
            absent_names=tuple(word for word in question.names if word in missing),
            num_words=len(question.sought),
            num_names=len(question.names),
        )


def signs(features: Floats, scores: Floats, rivals: list[int], question: QuestionInText) -> Floats:
    """[len(SIGNS)] float32.

    Args:
        features: [n, len(NAMES)] of candidate sentences.
        scores: [n] of the ranking.
        rivals: rows of the best sentence and of the next best one that is another place; at least one.
        question: how the question stands to the text.
    """
    best = rivals[0]
    values = {name: float(features[best, _COLUMNS[name]]) for name in _OF_THE_BEST}
    top = np.sort(scores)[::-1][:COMPARED]
    top = top[np.isfinite(top)]
    exponents = np.exp(top - scores[best])
    values["probability"] = float(1 / max(float(exponents.sum()), 1.0))
    values["margin"] = min(5.0, float(scores[best] - scores[rivals[1]])) if len(rivals) > 1 else _MARGIN_OF_ONE
    values["agrees"] = float(features[best, _COLUMNS["bm25"]] >= 0.999 * features[:, _COLUMNS["bm25"]].max())
    held = ("person", "number", "reason", "place_name", "category")
    values["kind_held"] = float(max(features[best, _COLUMNS[name]] for name in held))
    values["all_words"] = float(values["share_own0"] > 0.999)
    values["all_names"] = float(question.num_names == 0 or values["name3"] > 0.999)
    values["unknown"], values["absent_names"] = question.unknown, min(2.0, float(len(question.absent_names)))
    values["num_words"] = float(min(question.num_words, 8))
    return np.array([values[name] for name in SIGNS], dtype=np.float32)
