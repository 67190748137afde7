"""Characters as numbers: their kinds, and words without case and diacritics."""

import unicodedata
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

LETTER, DIGIT, UPPER, IDEOGRAPH, SPACE, MARK, CLOSING, SIGN = (1 << bit for bit in range(8))
"""Kinds of characters: bits of what `character_kinds` gives. MARK ends a sentence, CLOSING may stand behind such a
mark, SIGN stands in lines of code."""

NEWLINE, TAB, RETURN, BLANK, WIDE_BLANK = 0x0A, 0x09, 0x0D, 0x20, 0x3000
_OTHER = ((" \n\t\u3000", SPACE), (".!?。！？…", MARK), ("\"'”’»)]_*", CLOSING), ("=(){}[];<>|", SIGN))
_IDEOGRAPHS = ((0x2E80, 0x3100), (0x3400, 0xA000), (0xAC00, 0xD7B0), (0xF900, 0xFB00), (0x0E00, 0x0E80))
_ASTRAL_IDEOGRAPHS = (0x20000, 0x40000)
_TABLE_SIZE, _PAGE_SIZE = 0x10000, 0x100
_AT_ONCE = 1 << 16
"""Characters that are looked up together: what is computed from them stays in the processor's cache."""

Codes = NDArray[np.uint8] | NDArray[np.uint16] | NDArray[np.uint32]
"""[characters] code points, in the smallest type that holds them all."""
Kinds = NDArray[np.uint8]
"""[characters] their kinds, as bits."""


def character_codes(text: str) -> Codes:
    """The code points of a text, [len(text)]."""
    try:
        return np.frombuffer(text.encode("latin-1"), np.uint8)
    except UnicodeEncodeError:
        short = text.encode("utf-16-le", "surrogatepass")
    if len(short) == 2 * len(text):
        return np.frombuffer(short, np.uint16)
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)


def character_kinds(codes: Codes) -> Kinds:
    """The kinds of characters, [len(codes)]."""
    table = _table()
    found = np.empty(len(codes), np.uint8)
    for start in range(0, len(codes), _AT_ONCE):
        chunk = codes[start : start + _AT_ONCE]
        known = _in_table(chunk)
        table.fill(known)
        table.kinds.take(known, out=found[start : start + _AT_ONCE], mode="clip")
        if chunk.dtype == np.uint32 and (astral := chunk >= _TABLE_SIZE).any():
            low, high = _ASTRAL_IDEOGRAPHS
            is_ideograph = (chunk[astral] >= low) & (chunk[astral] < high)
            found[start : start + _AT_ONCE][astral] = np.where(is_ideograph, LETTER | IDEOGRAPH, 0)
    return found


def folded_numbers(codes: Codes) -> NDArray[np.uint64]:
    """A random-looking number for each character, [len(codes)]: the same for all that `fold` makes equal.

    codes: of a text whose kinds were looked up.
    """
    found = _table().numbers.take(_in_table(codes), mode="clip")
    if codes.dtype == np.uint32 and (astral := codes >= _TABLE_SIZE).any():
        found[astral] = _mixed(codes[astral])
    return found


def fold(word: str) -> str:
    """A word in lower case and without diacritics, as long as it was: names are often asked for without them."""
    return word.lower() if word.isascii() else "".join(map(_fold_char, word))


@lru_cache(4096)
def _fold_char(char: str) -> str:
    lower = char.lower()
    base = unicodedata.normalize("NFKD", lower)[:1]
    if base and base.isalpha() and ord(base) < _TABLE_SIZE:
        return base
    return lower if len(lower) == 1 else char


class _Table:
    """Kinds and numbers of the code points below _TABLE_SIZE. Pages of them are filled in when they first occur."""

    def __init__(self) -> None:
        self.kinds = np.zeros(_TABLE_SIZE, np.uint8)
        self.numbers = np.zeros(_TABLE_SIZE, np.uint64)
        self._is_filled = np.zeros(_TABLE_SIZE // _PAGE_SIZE, bool)

    def fill(self, codes: Codes) -> None:
        """Fill in the pages of some code points."""
        if codes.dtype == np.uint8:
            pages = [] if self._is_filled[0] else [0]
        else:
            wanted = codes // _PAGE_SIZE
            pages = [] if self._is_filled.take(wanted).all() else np.unique(wanted).tolist()
        for page in pages:
            if not self._is_filled[page]:
                self._fill_page(page * _PAGE_SIZE)
                self._is_filled[page] = True  # after its values: another thread may be looking

    def _fill_page(self, first: int) -> None:
        folded = np.arange(first, first + _PAGE_SIZE, dtype=np.uint32)
        kinds = self.kinds[first : first + _PAGE_SIZE]
        for i, char in enumerate(map(chr, range(first, first + _PAGE_SIZE))):
            kind = LETTER if char.isalpha() else DIGIT if char.isdigit() else 0
            if kind == LETTER:
                folded[i] = ord(fold(char))
                kind |= IDEOGRAPH if any(low <= first + i < high for low, high in _IDEOGRAPHS) else 0
            kind |= UPPER if char.isupper() else 0
            kinds[i] = kind | sum(bit for chars, bit in _OTHER if char in chars)
        self.numbers[first : first + _PAGE_SIZE] = _mixed(folded)


def without_space_around(text: str, start: int, end: int) -> tuple[int, int]:
    """The range start ... end - 1 of a text without the white space at both its ends."""
    inside = text[start:end]
    return start + len(inside) - len(inside.lstrip()), end - (len(inside) - len(inside.rstrip()))


@lru_cache(1)
def _table() -> _Table:
    return _Table()


def _in_table(codes: Codes) -> Codes:
    return np.minimum(codes, _TABLE_SIZE - 1) if codes.dtype == np.uint32 else codes


def _mixed(codes: Codes) -> NDArray[np.uint64]:
    mixed = (codes.astype(np.uint64) + np.uint64(1)) * np.uint64(0xBF58476D1CE4E5B9)
    mixed ^= mixed >> np.uint64(29)
    return mixed
