"""The names that stand most often in some texts, and the places of words."""

import re
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from sala_core.finder.text_index import TextIndex, build_index, fold, word_set
from sala_core.finder.words import language_of

_TITLES = word_set(
    """
    mr mrs ms miss dr sir lady lord madam madame monsieur mademoiselle captain colonel general major prince princess
    count countess king queen emperor duke duchess baron saint st aunt uncle father mother brother sister god heaven
    chapter book part volume january february march april may june july august september october november december
    monday tuesday wednesday thursday friday saturday sunday english french german russian i ii iii iv v vi vii viii
    """
)
_WORD = re.compile(r"[^\W\d_]+")
_MIN_FREQUENCY, _MIN_NAME_CHARS = 3, 3
_LOOKED_AT = 40
"""Sentences in which the spelling of a name is looked for."""


def most_common_names(index: TextIndex, sentence: Callable[[int], str], limit: int) -> list[tuple[str, int]]:
    """The names that stand in the texts most often, as they are spelled, with how often; titles and months left out.

    None in German, which writes every noun with a capital.

    Args:
        index: of the texts.
        sentence: gives the characters of a sentence by its number.
        limit: at most so many.
    """
    if language_of(index) == "german":
        return []
    counts = np.bincount(index.ids[index.capitalized], minlength=len(index.vocabulary))
    order = np.argsort(-np.where(index.is_name & ~index.is_number, counts, 0), kind="stable")
    found: list[tuple[str, int]] = []
    for at in order.tolist():
        if len(found) == limit or counts[at] < _MIN_FREQUENCY:
            break
        word = index.vocabulary[at]
        if word not in _TITLES and len(word) >= _MIN_NAME_CHARS:
            found.append((_spelling(index, at, sentence), int(counts[at])))
    return found


def _spelling(index: TextIndex, at: int, sentence: Callable[[int], str]) -> str:
    """A word as it is spelled where it first stands with a capital."""
    word = index.vocabulary[at]
    rows = index.sentence_of[(index.ids == at) & index.capitalized][:_LOOKED_AT]
    spelled = (each for row in rows.tolist() for each in _WORD.findall(sentence(row)) if fold(each) == word)
    return next((each for each in spelled if each[1:] == each[1:].lower()), word.capitalize())


def occurrences(index: TextIndex, words: str) -> NDArray[np.int32] | None:
    """The sentences where some words stand side by side, one for each place; None for no word at all.

    Case and diacritics do not count, and other forms of a word are other words.
    """
    sought = build_index([words])
    if not len(sought.ids):
        return None
    wanted = [index.word_of.get(sought.vocabulary[i], -1) for i in sought.ids.tolist()]
    count = len(index.ids) - len(wanted) + 1
    if count <= 0 or -1 in wanted:
        return np.zeros(0, np.int32)
    is_here = np.ones(count, bool)
    for offset, word in enumerate(wanted):
        is_here &= index.ids[offset : offset + count] == word
    return index.sentence_of[:count][is_here]
