"""Fold typography (quotation marks, dashes, spaces, ligatures) for search, and map hits back to the original text."""

import re
import unicodedata
from collections.abc import Iterator

import numpy as np

_SINGLE = {
    **dict.fromkeys("‘’‚‛′`´ʼ", "'"),
    **dict.fromkeys("“”„‟″«»", '"'),
    **dict.fromkeys("‐‑‒–—―−", "-"),
    **dict.fromkeys("\t\n\r\f\v\u00a0\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a", " "),
    **dict.fromkeys("\u2028\u2029\u202f\u205f\u3000\u1680\x1c\x1d\x1e\x1f\x85", " "),
}
_SINGLE_TABLE = str.maketrans(_SINGLE)
_LIGATURES = {"ﬀ": "ff", "ﬁ": "fi", "ﬂ": "fl", "ﬃ": "ffi", "ﬄ": "ffl", "ﬅ": "st", "ﬆ": "st", "…": "..."}
_INVISIBLE = "\u00ad\u200b\u200c\u200d\u2060\ufeff"
_BEYOND_ASCII = "|[" + "".join(_LIGATURES) + _INVISIBLE + "]|[^\\W\\d_][\u0300-\u036f]+"
_DIVIDED = r"|(?<=[^\W\d_])[-\u2010\u00ad]\n[ \t]*(?=[^\W\d_])"

_MIN_WORD_CHARS = 3
_MAX_WORDS = 500
"""Places of a word whose surroundings are folded; folding a million characters takes as long as some 2,000 of them."""
_MARGIN_CHARS = 64


class FoldedText:
    """A folded text, with pairs of offsets in both texts wherever folding changes the length."""

    def __init__(self, text: str, *, join_divided_words: bool = False) -> None:
        """Fold `text`. join_divided_words: also remove a hyphen between letters at the end of a line."""
        pieces: list[str] = []
        folded, original = [0], [0]
        size = end = 0
        for start, stop, replacement in _changes(text, join_divided_words):
            unchanged = text[end:start].translate(_SINGLE_TABLE)
            pieces += (unchanged, replacement)
            size += len(unchanged)
            # every offset inside a replacement stands for its first original character
            folded += (size, size + len(replacement))
            original += (start, stop)
            size += len(replacement)
            end = stop
        pieces.append(text[end:].translate(_SINGLE_TABLE))
        self._text = "".join(pieces)
        self._folded_offsets = np.array(folded, np.int64)
        self._original_offsets = np.array(original, np.int64)

    def find(self, quotation: str) -> tuple[int, int] | None:
        """Return (start, end) in the original of the first match of whole words, or None."""
        return next(self.find_all(quotation), None)

    def find_all(self, quotation: str) -> Iterator[tuple[int, int]]:
        """Yield (start, end) in the original of each match of whole words, in order; they do not overlap."""
        pattern = FoldedText(quotation.strip())._text.strip() if quotation else ""
        at = self._text.find(pattern) if pattern else -1
        while at >= 0:
            end = at + len(pattern)
            is_whole = not _splits_word(self._text, at) and not _splits_word(self._text, end)
            if is_whole:
                yield self._original(at, is_end=False), self._original(end - 1, is_end=True)
            at = self._text.find(pattern, end if is_whole else at + 1)

    def _original(self, offset: int, *, is_end: bool) -> int:
        """Offset in the original of the folded character at `offset`; of the one after it if `is_end`."""
        index = int(np.searchsorted(self._folded_offsets, offset, side="right")) - 1
        folded, original = int(self._folded_offsets[index]), int(self._original_offsets[index])
        if index % 2 == 0:  # between replacements: one character for one
            return original + (offset - folded) + is_end
        return int(self._original_offsets[index + 1]) if is_end else original


def find_by_word(text: str, quotation: str) -> tuple[int, int] | None:
    """Return (start, end) of the first match of whole words that `FoldedText(text).find` would return, or None.

    Only the surroundings of the quotation's longest word are folded, which takes a hundredth of the time. None where
    that finds nothing: the word may be written with a ligature, be divided or be in too many places.
    """
    word = max(re.findall(r"[A-Za-z0-9]+", quotation), key=len, default="")
    margin = 4 * len(quotation) + _MARGIN_CHARS
    if len(word) < _MIN_WORD_CHARS:
        return None
    at = text.find(word)
    for _ in range(_MAX_WORDS):
        if at < 0:
            return None
        start, end = max(0, at - margin), min(len(text), at + len(word) + margin)
        found = FoldedText(text[start:end]).find(quotation)
        if found is not None and (start == 0 or found[0] > 0) and (end == len(text) or start + found[1] < end):
            return start + found[0], start + found[1]
        at = text.find(word, at + 1)
    return None


def _changes(text: str, join_divided_words: bool) -> Iterator[tuple[int, int, str]]:
    """(start, stop, replacement) of every run of characters whose folded form has another length."""
    pattern = r"\s{2,}|-{2,}" + ("" if text.isascii() else _BEYOND_ASCII)
    if join_divided_words:
        pattern = _DIVIDED[1:] + "|" + pattern
    for match in re.finditer(pattern, text):
        run = match[0]
        if run.isspace():
            yield match.start(), match.end(), " "
        elif run in _LIGATURES:
            yield match.start(), match.end(), _LIGATURES[run]
        elif run.startswith("--"):
            yield match.start(), match.end(), "-"
        elif len(run) > 1 and unicodedata.combining(run[1]):
            yield match.start(), match.end(), unicodedata.normalize("NFC", run)
        else:
            yield match.start(), match.end(), ""


def _splits_word(text: str, at: int) -> bool:
    """Whether a cut before `text[at]` splits a word. Scripts without case (Chinese) have no word boundaries."""
    if at == 0 or at >= len(text):
        return False
    return _is_word(text[at - 1]) and _is_word(text[at])


def _is_word(char: str) -> bool:
    return char.isdecimal() or char.lower() != char.upper()
