"""Characters of PDF fonts that have no map to Unicode: guessed from their codes, or marked as unknown."""

import re
from collections import defaultdict
from collections.abc import Set
from typing import Any

import pymupdf

_IS_CID = 128  # FZ_STEXT_UNICODE_IS_CID: the number of the glyph stands for an unknown character
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_PRIVATE = re.compile(r"[\uf020-\uf0ff]{4,}")  # symbol fonts: a byte in the private use area; single ones are bullets
_OT1 = {"\x0b": "ff", "\x0c": "fi", "\r": "fl", "\x0e": "ffi", "\x0f": "ffl"}  # codes of TeX's text fonts
_MIN_LETTERS = 20  # fewer do not show whether they are a language
MONOSPACED = re.compile(r"Mono(?:space)?(?![a-z])|Courier|Consolas|Menlo|Inconsolata")

_TYPE3 = re.compile(r"Type3 \((\d+) 0 R\)")
DIFFERENCES = re.compile(r"/Differences\s*\[([^\]]*)\]")
GLYPH = re.compile(r"/([^\s/\[\]]+)")
_NUMBERED = re.compile(r"[A-Za-z]{0,3}\d+")  # `a65`, `g12`: no name of a character


def unnamed_fonts(page: pymupdf.Page, fonts: Set[str]) -> set[str]:
    """Return those of a page's Type 3 fonts whose glyphs are numbered, and not named by a map to Unicode either."""
    unnamed = set()
    for font in fonts:
        if not (match := _TYPE3.match(font)):
            continue
        document, xref = page.parent, int(match[1])
        if document.xref_get_key(xref, "ToUnicode")[0] != "null":
            continue
        kind, encoding = document.xref_get_key(xref, "Encoding")
        if kind == "xref":
            encoding = document.xref_object(int(encoding.split()[0]), compressed=True)
        names = GLYPH.findall("".join(DIFFERENCES.findall(encoding)))
        if names and all(_NUMBERED.fullmatch(name) for name in names):
            unnamed.add(font)
    return unnamed


def name_unknown(spans: list[dict[str, Any]], unnamed_fonts: Set[str] = frozenset()) -> tuple[int, bool]:
    """Replace the characters that a font does not name by U+FFFD, in place; return (their number, is any guessed).

    Some fonts name no character, but their codes are ASCII, or ASCII in the private use area: they are kept where they
    read like a language. spans: of one page, as PyMuPDF's `dict` gives them. unnamed_fonts: fonts that name none.
    """
    by_font: dict[str, list[dict[str, Any]]] = defaultdict(list)
    num_unknown = 0
    for span in spans:
        text = span["text"]
        if (
            span["char_flags"] & _IS_CID
            or span["font"] in unnamed_fonts
            or (not text.isprintable() and _CONTROL.search(text))
            or _PRIVATE.search(text)
        ):
            by_font[span["font"]].append(span)
        elif "\ufffd" in text:
            num_unknown += text.count("\ufffd")
    is_guessed = False
    for unnamed in by_font.values():
        is_readable = _reads_like_language("".join(_code(char) for span in unnamed for char in span["text"]))
        for span in unnamed:
            is_cid = bool(span["char_flags"] & _IS_CID) or span["font"] in unnamed_fonts
            named = "".join(_named(char, is_cid=is_cid, is_readable=is_readable) for char in span["text"])
            is_guessed |= (is_readable and named != span["text"]) or (is_readable and is_cid)
            span["text"] = named
            num_unknown += named.count("\ufffd") + sum(len(run) for run in _PRIVATE.findall(named))
    return num_unknown, is_guessed


def _code(char: str) -> str:
    """The byte of a character in the private use area, any other character as it is."""
    return chr(ord(char) - 0xF000) if "\uf020" <= char <= "\uf0ff" else char


def _named(char: str, *, is_cid: bool, is_readable: bool) -> str:
    if is_readable:
        code = _code(char)
        return _OT1.get(code) or (code if code.isprintable() else "\ufffd")
    if char == " " or not (is_cid or _CONTROL.match(char)):
        return char
    return "\ufffd"


def _reads_like_language(text: str) -> bool:
    """Whether codes read as ASCII are mostly lower-case letters with as many vowels as European languages have."""
    text = "".join(text.split(" "))
    letters = [char for char in text if char.isascii() and char.isalpha()]
    num_lower = sum(char.islower() for char in letters)
    num_vowels = sum(char in "aeiouyAEIOUY" for char in letters)
    num_control = sum(char not in _OT1 and not char.isprintable() for char in text)
    return (
        len(letters) >= _MIN_LETTERS
        and len(letters) > 0.6 * len(text)
        and num_control < 0.02 * len(text)
        and num_lower > 0.5 * len(letters)
        and 0.28 * len(letters) < num_vowels < 0.6 * len(letters)
    )
