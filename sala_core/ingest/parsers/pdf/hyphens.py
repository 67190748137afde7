"""Words that are divided at the end of a line: joined, also over the end of a page."""

import re
from collections import Counter
from collections.abc import Iterator

_HYPHEN = "-\u00ad\u2010"
_FIRST = re.compile(rf"(?:^|(?<=[\s(\[„“”\"'«‘’/—–]))([^\W\d_]{{2,}})([{_HYPHEN}])$")
_INSIDE = re.compile(r"(?:^|(?<=[\s(\[„“”\"'«‘’/—–]))([^\W\d_]{2,})\u00ad([^\W\d_]+)")  # in a cell of a table
_SECOND = re.compile(r"([^\W\d_]+)([^\s]*)(?:\s|$)")
_UNKNOWN = "?"
_MAX_SEARCHES = 200
_WORD = re.compile(r"[^\W\d_]+(?:-[^\W\d_]+)*")
# first parts of compounds that keep their hyphen
_KEEPS = frozenset({
    "all", "anti", "cross", "ex", "far", "full", "good", "half", "high", "ill", "long", "low", "mid", "multi", "non",
    "old", "one", "self", "semi", "short", "so", "three", "two", "up", "well",
})  # fmt: skip


def join_words(pages: list[list[str]]) -> None:
    """Move the second part of every divided word to the end of the line where it begins, in place.

    The hyphen goes if the text has the word without it, or does not show that it belongs to the word: `well-known`
    keeps it. Where both parts are words of the text, the lines stay as they are.

    pages: the lines of each page.
    """
    words: _Words | None = None
    num_kept = num_dropped = 0
    for (page, number), (next_page, next_number) in _neighbors(pages):
        text, below = pages[page][number], pages[next_page][next_number]
        if (
            not text
            or text[-1] not in _HYPHEN
            or not (first := _FIRST.search(text))
            or not (second := _SECOND.match(below))
        ):
            continue
        if not second[1][0].islower() or first[1].isupper():
            continue
        if words is None:  # made once a divided word is found
            words = _Words.of(pages)
        hyphen = _hyphen_of(first[1].lower(), second[1].lower(), first[2], words)
        if hyphen is None:
            continue
        if hyphen == _UNKNOWN:
            # a text that divides no word at a syllable has only hyphens that belong to their words
            hyphen = "-" if num_kept > num_dropped else ""
        elif hyphen:
            num_kept += 1
        else:
            num_dropped += 1
        pages[page][number] = text[:-1] + hyphen + second[1] + second[2]
        pages[next_page][next_number] = below[second.end() :]
    _join_cells(pages, words)


def _join_cells(pages: list[list[str]], words: "_Words | None") -> None:
    """Do the same for words that are divided inside a line, in a cell of a table; a doubtful hyphen stays."""
    for lines in pages:
        for number, text in enumerate(lines):
            if "\u00ad" not in text:
                continue
            words = known = words or _Words.of(pages)

            def joined(match: re.Match[str], known: _Words = known) -> str:
                hyphen = _hyphen_of(match[1].lower(), match[2].lower(), "-", known)
                return match[1] + ("- " if hyphen is None else hyphen.replace(_UNKNOWN, "-")) + match[2]

            lines[number] = _INSIDE.sub(joined, text)


class _Words:
    """How often words occur in a text: found one by one, all counted once many are asked for."""

    @classmethod
    def of(cls, pages: list[list[str]]) -> "_Words":
        """The words of the lines of pages, those that are divided inside a line as if it ended there."""
        return cls("\n".join(line for lines in pages for line in lines).lower().replace("\u00ad", "-\n"))

    def __init__(self, text: str) -> None:
        self._text = text
        self._num_asked = 0
        self._all: Counter[str] = Counter()

    def count(self, word: str) -> int:
        """Number of places where the word stands, up to 2 as long as few words were asked for."""
        self._num_asked += 1
        if self._num_asked > _MAX_SEARCHES:
            if not self._all:
                self._all = Counter(_WORD.findall(self._text))
            return self._all[word]
        number = 0
        start = self._text.find(word)
        while start >= 0 and number < 2:
            end = start + len(word)
            before, after = self._text[start - 1 : start], self._text[end : end + 1]
            number += not (before.isalpha() or before == "-" or after.isalpha() or after == "-")
            start = self._text.find(word, end)
        return number


def _hyphen_of(first: str, second: str, hyphen: str, words: _Words) -> str | None:
    """What stands between the parts of a word: "", "-", `_UNKNOWN`, or None if both parts are words of the text."""
    is_one_word = words.count(first + second) > 0
    if not is_one_word and words.count(f"{first}-{second}"):
        return "-"
    if is_one_word or hyphen == "\u00ad":
        return ""
    if first in _KEEPS:
        return "-"
    if words.count(first) and words.count(second) > 1:  # the second part counts once where the word is divided
        return None
    return _UNKNOWN


def _neighbors(pages: list[list[str]]) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """Places (page, line) of lines that follow each other; a line without text ends a paragraph."""
    before: tuple[int, int] | None = None
    for page, lines in enumerate(pages):
        for number, text in enumerate(lines):
            if text and before is not None:
                yield before, (page, number)
            before = (page, number) if text else None
