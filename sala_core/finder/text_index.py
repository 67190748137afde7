"""The words and sentences of some texts, as arrays: what the ranking of sentences is computed from.

Building takes about 0.1 s of processor time for a million characters, so an index is made when it is first needed and
not stored.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from sala_core.finder.characters import (
    DIGIT,
    IDEOGRAPH,
    LETTER,
    UPPER,
    Codes,
    Kinds,
    character_codes,
    character_kinds,
    fold,
    folded_numbers,
)
from sala_core.finder.sentences import are_headings, sentence_starts, without_space

GAP_SENTENCES = 32
"""Empty sentences between two texts, so that no window of sentences reaches from one text into another."""

_MAX_SENTENCE_WORDS = 120
_MIN_NAME_SHARE = 0.7  # of a word's places inside sentences that are capitalized
_PRIME = 0x9E3779B97F4A7C15
_INVERSE = pow(_PRIME, -1, 1 << 64)
_HASHED_AT_ONCE = 1 << 15
"""Characters whose words are hashed together: what is computed from them stays in the processor's cache."""


def word_set(words: str) -> frozenset[str]:
    """The words of a text, each once."""
    return frozenset(words.split())


_NUMBER_WORDS = word_set(
    """
    one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen
    eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety hundred thousand million dozen half
    """
)


@dataclass(frozen=True, kw_only=True)
class TextIndex:
    """Several texts, one behind the other. W words, V different words, S sentences."""

    vocabulary: tuple[str, ...]
    """[V] words as `fold` gives them."""
    word_of: dict[str, int]
    """Word -> index into `vocabulary`."""
    ids: NDArray[np.int32]
    """[W] index into `vocabulary`."""
    sentence_of: NDArray[np.int32]
    """[W] sentence, ascending."""
    starts: NDArray[np.int64]
    """[S] first character in the joined texts; of an empty sentence the end of the text before it."""
    ends: NDArray[np.int64]
    """[S] character after the last one."""
    lengths: NDArray[np.int32]
    """[S] number of words."""
    frequency: NDArray[np.int32]
    """[V] number of sentences that hold the word."""
    is_name: NDArray[np.bool_]
    """[V] whether the word is capitalized inside sentences."""
    is_number: NDArray[np.bool_]
    """[V] whether the word is a number, in digits or as a numeral."""
    capitalized: NDArray[np.bool_]
    """[W]"""
    heading: NDArray[np.int32]
    """[S] the last heading at or before the sentence in the same text, -1 without one."""
    is_heading: NDArray[np.bool_]
    """[S]"""
    is_question: NDArray[np.bool_]
    """[S]"""
    text_starts: NDArray[np.int64]
    """[texts] first character of each text in the joined texts."""

    @property
    def num_sentences(self) -> int:
        """S, with the empty sentences between two texts."""
        return len(self.starts)

    def place(self, sentence: int) -> tuple[int, int, int]:
        """(text, first character, end) of a sentence; the characters are counted in its own text."""
        text = int(np.searchsorted(self.text_starts, self.starts[sentence], side="right")) - 1
        first = int(self.text_starts[text])
        return text, int(self.starts[sentence]) - first, int(self.ends[sentence]) - first


def build_index(texts: Sequence[str]) -> TextIndex:
    """Find the words and sentences of some texts. Letters of any script are words; an ideograph is one by itself.

    Compound identifiers are split: `readFile` and `read_file` are two words each.
    """
    joined = "\n\n".join(texts) + "\n"
    lengths = np.array([len(text) for text in texts], dtype=np.int64)
    text_starts = np.concatenate([[0], np.cumsum(lengths + 2)[:-1]]).astype(np.int64) if len(texts) else lengths
    codes = character_codes(joined)
    kinds = character_kinds(codes)
    first, end = _word_ranges(kinds)
    ids, where = _distinct(_hashes(codes, first, end))
    spans = zip(first[where].tolist(), end[where].tolist(), strict=True)
    vocabulary = tuple(fold(joined[a:b]) for a, b in spans)
    breaks = _split_long(sentence_starts(codes, kinds, text_starts), first)
    return _assemble(codes, kinds, first, ids, vocabulary, breaks, text_starts)


def _word_ranges(kinds: Kinds) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First characters of all words, and the characters after them."""
    inside = (kinds & (LETTER | DIGIT)) != 0
    single = (kinds & IDEOGRAPH) != 0
    apart = (kinds[:-1] & (UPPER | DIGIT | IDEOGRAPH)) == 0  # between two characters of words
    apart &= (kinds[1:] & UPPER) != 0
    apart |= single[:-1]
    apart |= single[1:]
    edge = inside.copy()
    edge[1:] &= ~inside[:-1] | apart
    first = np.flatnonzero(edge)
    edge = inside.copy()
    edge[:-1] &= ~inside[1:] | apart
    return first, np.flatnonzero(edge) + 1


@lru_cache(2)
def _powers(base: int, count: int) -> NDArray[np.uint64]:
    """[count] base ** i modulo 2^64."""
    powers = np.full(count, base, dtype=np.uint64)
    powers[:1] = 1
    return np.cumprod(powers, dtype=np.uint64)


def _hashes(codes: Codes, first: NDArray[np.int64], end: NDArray[np.int64]) -> NDArray[np.uint64]:
    """[W] a 64-bit hash of each word as `fold` gives it.

    It is a polynomial of its characters modulo 2^64, computed from the sums of the characters before each place.
    """
    hashes = np.empty(len(first), np.uint64)
    longest = int((end - first).max(initial=0))
    powers, inverses = (_powers(base, max(_HASHED_AT_ONCE, longest) + 1) for base in (_PRIME, _INVERSE))
    at = 0
    while at < len(first):
        low = first[at]
        after = max(at + 1, int(np.searchsorted(end, low + _HASHED_AT_ONCE, side="right")))
        size = int(end[after - 1] - low)
        sums = np.zeros(size + 1, np.uint64)
        np.cumsum(folded_numbers(codes[low : low + size]) * powers[:size], out=sums[1:])
        begins = first[at:after] - low
        hashes[at:after] = (sums[end[at:after] - low] - sums[begins]) * inverses[begins]
        at = after
    return hashes + (end - first).astype(np.uint64)


def _distinct(hashes: NDArray[np.uint64]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """(for each hash an index into the different ones, [W]; where each of these first stands, ascending)."""
    order = np.argsort(hashes, kind="stable")
    ordered = hashes[order]
    is_new = np.ones(len(hashes), bool)
    is_new[1:] = ordered[1:] != ordered[:-1]
    where = order[is_new]
    ranks = np.empty(len(where), np.int32)
    ranks[np.argsort(where)] = np.arange(len(where), dtype=np.int32)
    ids = np.empty(len(hashes), np.int32)
    ids[order] = ranks[np.cumsum(is_new) - 1]
    return ids, np.sort(where)


def _split_long(breaks: NDArray[np.int64], first: NDArray[np.int64]) -> NDArray[np.int64]:
    """Cut sentences of more than _MAX_SENTENCE_WORDS words, as in tables and minified code."""
    begin = np.searchsorted(first, breaks)
    counts = np.diff(np.append(begin, len(first)))
    long = np.nonzero(counts > _MAX_SENTENCE_WORDS)[0]
    if not len(long):
        return breaks
    added = [first[begin[i] + _MAX_SENTENCE_WORDS : begin[i] + counts[i] : _MAX_SENTENCE_WORDS] for i in long.tolist()]
    return np.unique(np.concatenate([breaks, *added]))


def _assemble(
    codes: Codes,
    kinds: Kinds,
    first: NDArray[np.int64],
    ids: NDArray[np.int32],
    vocabulary: tuple[str, ...],
    breaks: NDArray[np.int64],
    text_starts: NDArray[np.int64],
) -> TextIndex:
    begin = np.searchsorted(first, breaks)
    counts = np.diff(np.append(begin, len(first)))
    used = np.flatnonzero(counts)  # pieces without a word are no sentences
    starts, counts, opening = breaks[used], counts[used], begin[used]
    stops = np.append(breaks, len(codes))[used + 1] if len(used) else starts
    text_of = np.searchsorted(text_starts, starts, side="right") - 1
    num = len(starts) + GAP_SENTENCES * len(text_starts)
    row = np.arange(len(starts)) + text_of * GAP_SENTENCES
    sentence_of = np.repeat(row.astype(np.int32), counts)
    all_starts, all_ends, lengths = np.zeros(num, np.int64), np.zeros(num, np.int64), np.zeros(num, np.int32)
    all_starts[row], all_ends[row], lengths[row] = starts, without_space(codes, stops, starts), counts
    filled = lengths > 0
    at = np.maximum.accumulate(np.where(filled, np.arange(num), 0))
    all_starts, all_ends = all_starts[at], np.where(filled, all_ends, all_starts[at])
    upper = (kinds[first] & UPPER) != 0
    inside = np.ones(len(first), bool)
    inside[opening] = False
    capitals = np.bincount(sentence_of[upper], minlength=num)
    heading = are_headings(codes, kinds, all_starts, all_ends, lengths=lengths, capitals=capitals)
    num_words = len(vocabulary)
    within, capital = (np.bincount(ids[which], minlength=num_words) for which in (inside, upper & inside))
    return TextIndex(
        vocabulary=vocabulary,
        word_of={word: i for i, word in enumerate(vocabulary)},
        ids=ids,
        sentence_of=sentence_of,
        starts=all_starts,
        ends=all_ends,
        lengths=lengths,
        frequency=_frequency(ids, sentence_of, num_words),
        is_name=(capital > 0) & (capital >= _MIN_NAME_SHARE * within),
        is_number=np.array([word in _NUMBER_WORDS or word[0].isdigit() for word in vocabulary], dtype=bool),
        capitalized=upper,
        heading=_last_heading(heading, np.append(row, num), text_of, num),
        is_heading=heading,
        is_question=filled & np.isin(codes[np.maximum(all_ends - 1, 0)], np.array([ord("?"), ord("？")], np.uint32))
        | filled & (codes[np.maximum(all_ends - 2, 0)] == ord("?")),
        text_starts=text_starts,
    )


def _frequency(ids: NDArray[np.int32], sentence_of: NDArray[np.int32], num_words: int) -> NDArray[np.int32]:
    """[V] number of sentences that hold each word."""
    pairs = ids.astype(np.int64) << 32
    pairs |= sentence_of
    pairs.sort()
    is_new = np.ones(len(pairs), bool)
    is_new[1:] = pairs[1:] != pairs[:-1]
    return np.bincount(pairs[is_new] >> 32, minlength=num_words).astype(np.int32)


def _last_heading(
    heading: NDArray[np.bool_], row: NDArray[np.int64], text_of: NDArray[np.int64], num: int
) -> NDArray[np.int32]:
    """[S] the last heading at or before each sentence, -1 where its text has none before it."""
    at = np.maximum.accumulate(np.where(heading, np.arange(num), -1)) if num else np.zeros(0, np.int64)
    text = np.full(num, -1)
    text[row[:-1]] = text_of
    text = np.maximum.accumulate(text) if num else text
    same = (at >= 0) & (text[np.maximum(at, 0)] == text)
    return np.where(same, at, -1).astype(np.int32)
