"""The words and sentences of some texts, as arrays: what the ranking of sentences is computed from.

Building takes about 0.1 s for a million characters, so an index is made when it is first needed and not stored.
"""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

GAP_SENTENCES = 32
"""Empty sentences between two texts, so that no window of sentences reaches from one text into another."""

_MAX_SENTENCE_WORDS = 120
_FULL_LINE = 0.6  # a line shorter than this share of its paragraph's longest line ends its sentence
_MIN_PROSE_CHARS = 25
_MIN_NAME_SHARE = 0.7  # of a word's places inside sentences that are capitalized
_MAX_HEADING_WORDS = 12
_HASH = np.uint64(0x9E3779B97F4A7C15)
_LETTER, _DIGIT, _UPPER, _IDEOGRAPH = 1, 2, 4, 8
_TABLE_SIZE = 0x10000
_IDEOGRAPHS = ((0x2E80, 0x3100), (0x3400, 0xA000), (0xAC00, 0xD7B0), (0xF900, 0xFB00), (0x0E00, 0x0E80))
_TITLES = ("Mr", "Mrs", "Dr", "St", "Ms", "No", "Prof")


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
    codes = np.frombuffer(joined.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    kinds, lower = _kinds(codes)
    first, end = _word_ranges(kinds)
    ids, vocabulary = _vocabulary(joined, codes, lower, first, end)
    breaks = _sentence_breaks(codes, kinds, text_starts)
    return _assemble(joined, codes, kinds, first, end, ids, vocabulary, breaks, text_starts)


def fold(word: str) -> str:
    """A word in lower case and without diacritics, as long as it was: names are often asked for without them."""
    return "".join(map(_fold_char, word))


@lru_cache(4096)
def _fold_char(char: str) -> str:
    lower = char.lower()
    base = unicodedata.normalize("NFKD", lower)[:1]
    if base and base.isalpha() and ord(base) < _TABLE_SIZE:
        return base
    return lower if len(lower) == 1 else char


@lru_cache(1)
def _tables() -> tuple[NDArray[np.uint8], NDArray[np.uint32]]:
    """Per code point below _TABLE_SIZE: its kind as bits, and what `fold` makes of it."""
    kinds = np.zeros(_TABLE_SIZE, dtype=np.uint8)
    lower = np.arange(_TABLE_SIZE, dtype=np.uint32)
    for code in range(_TABLE_SIZE):
        char = chr(code)
        if char.isalpha():
            kinds[code] = _LETTER
        elif char.isdigit():
            kinds[code] = _DIGIT
        if char.isupper():
            kinds[code] |= _UPPER
        if kinds[code] & _LETTER:
            lower[code] = ord(fold(char))
    for a, b in _IDEOGRAPHS:
        letters = kinds[a:b] & _LETTER > 0
        kinds[a:b][letters] |= _IDEOGRAPH
    return kinds, lower


def _kinds(codes: NDArray[np.uint32]) -> tuple[NDArray[np.uint8], NDArray[np.uint32]]:
    kinds, lower = _tables()
    small = np.minimum(codes, _TABLE_SIZE - 1)
    found, folded = kinds[small], lower[small]
    astral = codes >= _TABLE_SIZE
    if astral.any():
        found[astral] = np.where((codes[astral] >= 0x20000) & (codes[astral] < 0x40000), _LETTER | _IDEOGRAPH, 0)
        folded[astral] = codes[astral]
    return found, folded


def _word_ranges(kinds: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First characters of all words, and the characters after them."""
    padded = np.concatenate([[0], kinds, [0]]).astype(np.uint8)
    before, here, after = padded[:-2], kinds, padded[2:]
    inside = (here & (_LETTER | _DIGIT)) > 0
    was, will = (before & (_LETTER | _DIGIT)) > 0, (after & (_LETTER | _DIGIT)) > 0
    single = (here & _IDEOGRAPH) > 0
    lower_before = was & ((before & (_UPPER | _DIGIT | _IDEOGRAPH)) == 0)
    hump = lower_before & ((here & _UPPER) > 0)
    begins = inside & (~was | single | ((before & _IDEOGRAPH) > 0) | hump)
    hump_after = np.concatenate([hump[1:], [False]])
    stops = inside & (~will | single | ((after & _IDEOGRAPH) > 0) | hump_after)
    return np.nonzero(begins)[0], np.nonzero(stops)[0] + 1


def _vocabulary(
    joined: str,
    codes: NDArray[np.uint32],
    lower: NDArray[np.uint32],
    first: NDArray[np.int64],
    end: NDArray[np.int64],
) -> tuple[NDArray[np.int32], list[str]]:
    """Index of each word into the list of different words, and that list. Words are told apart by a 64-bit hash."""
    if not len(first):
        return np.zeros(0, np.int32), []
    powers, sums = _prefix_hashes(lower)
    lengths = end - first
    with np.errstate(over="ignore"):
        hashes = (sums[end] - sums[first]) * powers[len(codes) - first] + lengths.astype(np.uint64)
    _, where, ids = np.unique(hashes, return_index=True, return_inverse=True)
    return ids.astype(np.int32), [fold(joined[first[w] : end[w]]) for w in where.tolist()]


def _prefix_hashes(values: NDArray[np.uint32]) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """(powers, sums) of a polynomial hash modulo 2^64: sums[j] - sums[i] is the hash of values[i:j] times powers[i]."""
    with np.errstate(over="ignore"):
        powers = np.full(len(values) + 1, _HASH, dtype=np.uint64)
        powers[0] = 1
        np.cumprod(powers, out=powers)
        mixed = (values.astype(np.uint64) + np.uint64(1)) * np.uint64(0xBF58476D1CE4E5B9)
        mixed ^= mixed >> np.uint64(29)
        sums = np.zeros(len(values) + 1, dtype=np.uint64)
        np.cumsum(mixed * powers[:-1], out=sums[1:])
    return powers, sums


def _sentence_breaks(
    codes: NDArray[np.uint32], kinds: NDArray[np.uint8], text_starts: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Positions at which a sentence begins, ascending. They lie after white space."""
    n = len(codes)
    space = (codes == 32) | (codes == 10) | (codes == 9) | (codes == 0x3000)
    newline = codes == 10
    marks = np.isin(codes, np.array([ord(c) for c in ".!?。！？…"], np.uint32))
    closing = np.isin(codes, np.array([ord(c) for c in "\"'”’»)]_*"], np.uint32))
    solid = np.nonzero(~space)[0]
    if not len(solid):
        return np.zeros(0, np.int64)
    starts_word = solid[(solid == 0) | space[solid - 1]]  # first characters after white space
    before = np.searchsorted(solid, starts_word) - 1  # the last solid character before it
    has_before = before >= 0
    last = solid[np.maximum(before, 0)]
    mark = last.copy()
    for _ in range(3):
        mark = np.where(closing[mark] & (mark > 0), mark - 1, mark)
    ended = has_before & marks[mark] & ~_after_title(codes, kinds, mark)
    lowercase = ((kinds[starts_word] & _LETTER) > 0) & ((kinds[starts_word] & (_UPPER | _IDEOGRAPH)) == 0)
    ended &= ~(lowercase & ((codes[mark] == ord(".")) | (mark != last)))
    lines = np.concatenate([[0], np.cumsum(newline)])
    crossed = lines[starts_word] - lines[last]
    blank = crossed >= 2
    by_line = has_before & (crossed == 1) & _line_ends(codes, newline, last, lines)
    ended |= blank | (by_line & ~(lowercase & _is_prose(codes, newline, lines[last]) & newline[starts_word - 1]))
    ideographic = np.nonzero(marks[:-1] & (codes[:-1] > 0x3000))[0] + 1 if n > 1 else np.zeros(0, np.int64)
    return np.unique(np.concatenate([starts_word[ended | ~has_before], ideographic, text_starts]))


def _after_title(codes: NDArray[np.uint32], kinds: NDArray[np.uint8], mark: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether the full stop at each position follows a title ("Mr.") or an initial ("J.")."""
    is_stop = codes[mark] == ord(".")
    one, two = np.maximum(mark - 1, 0), np.maximum(mark - 2, 0)
    initial = ((kinds[one] & _UPPER) > 0) & ((kinds[two] & (_LETTER | _DIGIT)) == 0)
    found = initial
    for title in _TITLES:
        at = mark - len(title)
        same = (at >= 0) & ((kinds[np.maximum(at - 1, 0)] & _LETTER == 0) | (at == 0))
        for i, char in enumerate(title):
            same &= codes[np.maximum(at + i, 0)] == ord(char)
        found = found | same
    return is_stop & found


def _line_ends(
    codes: NDArray[np.uint32], newline: NDArray[np.bool_], last: NDArray[np.int64], lines: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Whether the line that ends with the character `last` ends a sentence: it is short, or ends as code does."""
    begins = np.concatenate([[0], np.nonzero(newline)[0] + 1])
    ends = np.concatenate([np.nonzero(newline)[0], [len(codes)]])
    widths = ends - begins
    longest = widths.copy()
    for distance in (1, 2, 3):
        longest[distance:] = np.maximum(longest[distance:], widths[:-distance])
        longest[:-distance] = np.maximum(longest[:-distance], widths[distance:])
    line = lines[last]
    short = widths[line] < _FULL_LINE * np.maximum(longest[line], 40)
    code = np.isin(codes[last], np.array([ord(c) for c in ":;{}),]"], np.uint32)) & (widths[line] < 0.9 * longest[line])
    return short | code


def _is_prose(codes: NDArray[np.uint32], newline: NDArray[np.bool_], line: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether each of some lines is long enough for prose, and has no character of code."""
    begins = np.concatenate([[0], np.nonzero(newline)[0] + 1])
    ends = np.concatenate([np.nonzero(newline)[0], [len(codes)]])
    signs = np.concatenate([[0], np.cumsum(np.isin(codes, np.array([ord(c) for c in "=(){}[];<>|"], np.uint32)))])
    plain = (signs[ends] - signs[begins] == 0) & (ends - begins >= _MIN_PROSE_CHARS)
    return plain[line]


def _assemble(
    joined: str,
    codes: NDArray[np.uint32],
    kinds: NDArray[np.uint8],
    first: NDArray[np.int64],
    end: NDArray[np.int64],
    ids: NDArray[np.int32],
    vocabulary: list[str],
    breaks: NDArray[np.int64],
    text_starts: NDArray[np.int64],
) -> TextIndex:
    breaks = _split_long(breaks, first)
    piece = np.searchsorted(breaks, first, side="right") - 1
    used, piece = np.unique(piece, return_inverse=True)  # pieces without a word are no sentences
    starts = breaks[used]
    stops = np.concatenate([breaks, [len(codes)]])[used + 1] if len(used) else starts
    text_of = np.searchsorted(text_starts, starts, side="right") - 1
    shift = text_of * GAP_SENTENCES
    num = len(starts) + GAP_SENTENCES * len(text_starts)
    row = np.arange(len(starts)) + shift
    sentence_of = row[piece].astype(np.int32)
    all_starts, all_ends = np.zeros(num, np.int64), np.zeros(num, np.int64)
    all_starts[row], all_ends[row] = starts, _without_space(codes, stops, starts)
    filled = np.zeros(num, bool)
    filled[row] = True
    at = np.maximum.accumulate(np.where(filled, np.arange(num), 0))
    all_starts, all_ends = all_starts[at], np.where(filled, all_ends, all_starts[at])
    lengths = np.bincount(sentence_of, minlength=num).astype(np.int32)
    upper = (kinds[first] & _UPPER) > 0
    opens = np.zeros(len(first), bool)
    opens[np.unique(sentence_of, return_index=True)[1]] = True
    heading = _headings(codes, kinds, first, all_starts, all_ends, sentence_of, lengths, upper)
    num_words = len(vocabulary)
    pairs = np.unique(ids.astype(np.int64) * max(num, 1) + sentence_of)
    inside, capital = (
        np.bincount(ids[~opens], minlength=num_words),
        np.bincount(ids[upper & ~opens], minlength=num_words),
    )
    return TextIndex(
        vocabulary=tuple(vocabulary),
        word_of={word: i for i, word in enumerate(vocabulary)},
        ids=ids,
        sentence_of=sentence_of,
        starts=all_starts,
        ends=all_ends,
        lengths=lengths,
        frequency=np.bincount(pairs // max(num, 1), minlength=num_words).astype(np.int32),
        is_name=(capital > 0) & (capital >= _MIN_NAME_SHARE * inside),
        is_number=np.array([word in _NUMBER_WORDS or word[0].isdigit() for word in vocabulary], dtype=bool),
        capitalized=upper,
        heading=_last_heading(heading, np.concatenate([row, [num]]), text_of, num),
        is_heading=heading,
        is_question=filled & np.isin(codes[np.maximum(all_ends - 1, 0)], np.array([ord("?"), ord("？")], np.uint32))
        | filled & (codes[np.maximum(all_ends - 2, 0)] == ord("?")),
        text_starts=text_starts,
    )


def _split_long(breaks: NDArray[np.int64], first: NDArray[np.int64]) -> NDArray[np.int64]:
    """Cut sentences of more than _MAX_SENTENCE_WORDS words, as in tables and minified code."""
    counts = np.diff(np.searchsorted(first, np.concatenate([breaks, [np.iinfo(np.int64).max]])))
    long = np.nonzero(counts > _MAX_SENTENCE_WORDS)[0]
    if not len(long):
        return breaks
    begin = np.searchsorted(first, breaks)
    added = [first[begin[i] + _MAX_SENTENCE_WORDS : begin[i] + counts[i] : _MAX_SENTENCE_WORDS] for i in long.tolist()]
    return np.unique(np.concatenate([breaks, *added]))


def _without_space(codes: NDArray[np.uint32], stops: NDArray[np.int64], starts: NDArray[np.int64]) -> NDArray[np.int64]:
    """The ends of the sentences without the white space behind them."""
    solid = np.nonzero((codes != 32) & (codes != 10) & (codes != 9) & (codes != 13) & (codes != 0x3000))[0]
    if not len(solid):
        return stops
    return np.maximum(solid[np.maximum(np.searchsorted(solid, stops) - 1, 0)] + 1, starts)


def _headings(
    codes: NDArray[np.uint32],
    kinds: NDArray[np.uint8],
    first: NDArray[np.int64],
    starts: NDArray[np.int64],
    ends: NDArray[np.int64],
    sentence_of: NDArray[np.int32],
    lengths: NDArray[np.int32],
    upper: NDArray[np.bool_],
) -> NDArray[np.bool_]:
    """Whether each sentence looks like a heading: short, alone on its line, and marked, capitalized or in capitals."""
    num = len(starts)
    if not len(codes):
        return np.zeros(num, bool)
    short = (lengths > 0) & (lengths <= _MAX_HEADING_WORDS) & (ends - starts <= 90)
    before, after = np.maximum(starts - 1, 0), np.minimum(ends, len(codes) - 1)
    alone = ((starts == 0) | (codes[before] == 10)) & (
        (ends >= len(codes)) | (codes[after] == 10) | (codes[after] == 13)
    )
    last = codes[np.maximum(ends - 1, 0)]
    prose_end = np.isin(last, np.array([ord(c) for c in ".!?,;\"”’'{}()"], np.uint32))
    marked = codes[np.minimum(starts, len(codes) - 1)] == ord("#")
    capitals = np.bincount(sentence_of[upper], minlength=num)
    letters_low = np.concatenate([[0], np.cumsum(((kinds & _LETTER) > 0) & ((kinds & _UPPER) == 0))])
    in_capitals = (letters_low[ends] - letters_low[starts] == 0) & (capitals > 0) & (ends - starts >= 4)
    titled = (capitals * 2 >= lengths) & (capitals > 0) & ~prose_end & (lengths <= 8)
    return short & alone & (marked | in_capitals | titled)


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
