"""Where sentences begin and end in a text, and which of them are headings."""

import re

import numpy as np
from numpy.typing import NDArray

from sala_core.finder.characters import (
    CLOSING,
    DIGIT,
    IDEOGRAPH,
    LETTER,
    MARK,
    NEWLINE,
    RETURN,
    SIGN,
    SPACE,
    UPPER,
    WIDE_BLANK,
    Codes,
    Kinds,
)

_FULL_LINE = 0.6  # a line shorter than this share of its paragraph's longest line ends its sentence
_MIN_PROSE_CHARS = 25
_MIN_LINE_CHARS = 40
_MAX_HEADING_WORDS, _MAX_HEADING_CHARS = 12, 90
_MAX_NUMBER_WORDS = 3
_NUMBER = re.compile(
    r"(?:(?:chapter|book|part|section|act|scene|canto|letter|volume|appendix|stave) (?:[ivxlcdm]+|\d+|[a-z])"
    r"|[ivxlcdm]{2,})\.",
    re.IGNORECASE,
)
"""The number before a heading, as "CHAPTER XV." or "IX."."""
_TITLES = ("Mr", "Mrs", "Dr", "St", "Ms", "No", "Prof")

Places = NDArray[np.int64]
Flags = NDArray[np.bool_]


def sentence_starts(codes: Codes, kinds: Kinds, text_starts: Places) -> Places:
    """Positions at which a sentence begins, ascending. They lie after white space."""
    tokens, last = _pieces(kinds)
    if not len(tokens):
        return np.zeros(0, np.int64)
    starts, last = tokens[1:], last[:-1]  # last: the last solid character before each start
    first = kinds[starts]
    lowercase = ((first & LETTER) != 0) & ((first & (UPPER | IDEOGRAPH)) == 0)
    ended = _ends_with_mark(codes, kinds, last, lowercase)
    newlines = np.flatnonzero(codes == NEWLINE)
    between = newlines[np.searchsorted(newlines, tokens[0]) :]
    behind, crossed = np.unique(np.searchsorted(starts, between), return_counts=True)  # the start behind each newline
    behind, crossed = behind[behind < len(starts)], crossed[behind < len(starts)]
    at = behind[crossed == 1]
    line = np.searchsorted(newlines, last[at])
    lines = _Lines(newlines, len(codes))
    goes_on = lowercase[at] & lines.are_prose(kinds)[line] & (codes[starts[at] - 1] == NEWLINE)
    ended[at] |= lines.end_sentences(codes, last[at], line) & ~goes_on
    ended[behind[crossed >= 2]] = True
    found = [tokens[:1], starts[ended], text_starts]
    if codes.dtype != np.uint8:
        found.append(np.flatnonzero(((kinds[:-1] & MARK) != 0) & (codes[:-1] > WIDE_BLANK)) + 1)
    return np.unique(np.concatenate(found))


def _pieces(kinds: Kinds) -> tuple[Places, Places]:
    """(first, last) characters of the pieces between white space."""
    solid = (kinds & SPACE) == 0
    edge = solid.copy()
    edge[1:] &= ~solid[:-1]
    first = np.flatnonzero(edge)
    edge = solid.copy()
    edge[:-1] &= ~solid[1:]
    return first, np.flatnonzero(edge)


def _ends_with_mark(codes: Codes, kinds: Kinds, last: Places, lowercase: Flags) -> Flags:
    """Whether each of some words, whose last characters these are, ends a sentence. lowercase: the word behind it."""
    ended = np.zeros(len(last), bool)
    at = np.flatnonzero((kinds[last] & (MARK | CLOSING)) != 0)
    mark = last[at]
    for _ in range(3):
        mark = np.where(((kinds[mark] & CLOSING) != 0) & (mark > 0), mark - 1, mark)
    is_mark = (kinds[mark] & MARK) != 0
    at, mark = at[is_mark], mark[is_mark]
    is_stop = codes[mark] == ord(".")
    weak = lowercase[at] & (is_stop | (mark != last[at]))
    ended[at] = ~(is_stop & _follows_title(codes, kinds, mark)) & ~weak
    return ended


def _follows_title(codes: Codes, kinds: Kinds, mark: Places) -> Flags:
    """Whether the full stop at each position follows a title ("Mr.") or an initial ("J.")."""
    one, two = np.maximum(mark - 1, 0), np.maximum(mark - 2, 0)
    found: Flags = ((kinds[one] & UPPER) != 0) & ((kinds[two] & (LETTER | DIGIT)) == 0)
    for title in _TITLES:
        at = mark - len(title)
        same = (at >= 0) & ((kinds[np.maximum(at - 1, 0)] & LETTER == 0) | (at == 0))
        for i, char in enumerate(title):
            same &= codes[np.maximum(at + i, 0)] == ord(char)
        found = found | same
    return found


class _Lines:
    """The lines of a text."""

    def __init__(self, newlines: Places, size: int) -> None:
        self._begins = np.concatenate([[0], newlines + 1])
        self._ends = np.concatenate([newlines, [size]])
        self._widths = self._ends - self._begins

    def end_sentences(self, codes: Codes, last: Places, line: Places) -> Flags:
        """Whether lines end sentences: they are short, or end as code does. last: their last solid characters."""
        widths = self._widths
        longest = widths.copy()
        for distance in (1, 2, 3):
            longest[distance:] = np.maximum(longest[distance:], widths[:-distance])
            longest[:-distance] = np.maximum(longest[:-distance], widths[distance:])
        short = widths[line] < _FULL_LINE * np.maximum(longest[line], _MIN_LINE_CHARS)
        code = _is_one_of(codes[last], ":;{}),]") & (widths[line] < 0.9 * longest[line])
        return np.asarray(short | code)

    def are_prose(self, kinds: Kinds) -> Flags:
        """[lines] whether a line is long enough for prose, and has no character of code."""
        begins = self._begins[self._begins < len(kinds)]  # of a last line without characters there is nothing to add
        has_sign = np.zeros(len(self._widths), bool)
        has_sign[: len(begins)] = np.maximum.reduceat(kinds & SIGN, begins) != 0
        return ~has_sign & (self._widths >= _MIN_PROSE_CHARS)


def without_space(codes: Codes, stops: Places, starts: Places) -> Places:
    """The ends of sentences without the white space behind them. starts: their first characters."""
    solid = (codes > WIDE_BLANK) | (
        (codes != ord(" ")) & (codes != NEWLINE) & (codes != ord("\t")) & (codes != RETURN) & (codes != WIDE_BLANK)
    )
    ends = np.flatnonzero(solid[:-1] & ~solid[1:]) + 1
    if solid[-1:].any():
        ends = np.append(ends, len(codes))
    if not len(ends):
        return stops
    trimmed = ends[np.maximum(np.searchsorted(ends, stops, side="right") - 1, 0)]
    return np.maximum(np.where(solid[np.maximum(stops - 1, 0)], stops, trimmed), starts)


def are_headings(
    codes: Codes, kinds: Kinds, starts: Places, ends: Places, *, lengths: NDArray[np.int32], capitals: NDArray[np.int64]
) -> Flags:
    """[S] whether each sentence looks like a heading: short, alone on its line, and marked, capitalized or in capitals.

    The number of a heading may stand before it on its line: "CHAPTER XV. THE VALUE OF PHILOSOPHY" are two headings.

    Args:
        codes: of the characters.
        kinds: of the characters.
        starts: [S] first characters.
        ends: [S] the characters after the last ones.
        lengths: [S] words; 0 for no sentence.
        capitals: [S] words with a capital.
    """
    found = np.zeros(len(starts), bool)
    rows = np.flatnonzero((lengths > 0) & (lengths <= _MAX_HEADING_WORDS) & (ends - starts <= _MAX_HEADING_CHARS))
    first, end = starts[rows], ends[rows]
    after = codes[np.minimum(end, len(codes) - 1)]
    opens = (first == 0) | (codes[np.maximum(first - 1, 0)] == NEWLINE)
    closes = (end >= len(codes)) | (after == NEWLINE) | (after == RETURN)
    numbers = _numbers_before(
        codes, rows, first, end, opens=opens & (lengths[rows] <= _MAX_NUMBER_WORDS), closes=closes
    )
    opens[numbers + 1] = True
    alone = opens & closes
    numbers = rows[numbers]
    rows, first, end = rows[alone], first[alone], end[alone]
    if not len(rows):
        return found
    many, upper = lengths[rows], capitals[rows]
    small = ((kinds & LETTER) != 0) & ((kinds & UPPER) == 0)
    has_small = np.logical_or.reduceat(small, np.column_stack([first, np.minimum(end, len(codes) - 1)]).ravel())[::2]
    in_capitals = ~has_small & (upper > 0) & (end - first >= 4)
    prose_end = _is_one_of(codes[end - 1], ".!?,;\"”’'{}()")
    titled = (upper * 2 >= many) & (upper > 0) & ~prose_end & (many <= 8)
    found[rows] = (codes[first] == ord("#")) | in_capitals | titled
    found[numbers] = found[numbers + 1]
    return found


def _numbers_before(codes: Codes, rows: Places, first: Places, end: Places, *, opens: Flags, closes: Flags) -> Places:
    """Which of some short sentences are numbers, as "CHAPTER XV.", with another one behind them that ends their line.

    Args:
        codes: of the characters.
        rows: [n] the sentences.
        first: [n] their first characters.
        end: [n] the characters after their last ones.
        opens: [n] whether each may be a number, and begins its line.
        closes: [n] whether each ends its line.
    """
    last = len(codes) - 1
    stops = opens[:-1] & ~closes[:-1] & closes[1:] & (rows[1:] == rows[:-1] + 1) & (codes[end[:-1] - 1] == ord("."))
    stops &= (first[1:] - end[:-1] <= 2) & (codes[np.minimum(first[1:] - 1, last)] != NEWLINE)
    found = [
        i for i in np.flatnonzero(stops).tolist() if _NUMBER.fullmatch("".join(map(chr, codes[first[i] : end[i]])))
    ]
    return np.array(found, np.int64)


def _is_one_of(codes: Codes, chars: str) -> Flags:
    return np.isin(codes, np.array([ord(char) for char in chars], np.uint32))
