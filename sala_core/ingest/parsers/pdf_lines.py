"""Lines of a PDF page: text with place and size; raised and lowered characters are kept apart from their base."""

import re
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import pymupdf

from .pdf_bidi import RIGHT_TO_LEFT, Glyph, is_right_to_left, logical_order
from .pdf_fonts import name_unknown

# without ligatures: the vocabulary of a model has "fi", not U+FB01
_FLAGS = (pymupdf.TEXTFLAGS_TEXT & ~pymupdf.TEXT_PRESERVE_LIGATURES) | pymupdf.TEXT_COLLECT_VECTORS
_IS_SYNTHETIC = 512  # FZ_STEXT_SYNTHETIC: a space that the file does not have
_RAISED = str.maketrans("0123456789+-−=()ni", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁻⁼⁽⁾ⁿⁱ")
_LOWERED = str.maketrans("0123456789+-−=()", "₀₁₂₃₄₅₆₇₈₉₊₋₋₌₍₎")
_CAN_RAISE = re.compile(r"[0-9+\-−=()ni]+(?:[,;*] ?[0-9]+)*")
_LAST_WORD = re.compile(r"[^\W_]+$|\S$")
_CAN_LOWER = re.compile(r"[0-9+\-−=()]+")
_EXPONENT = re.compile(r"[+\-−]?[\w.,/+\-−]+")
_ORDINAL = re.compile(r"(?:st|nd|rd|th|er|re|r|e|o|a|º|ª|ème|ère|ers|mo|ma|me|lle|tm|sm)s?", re.IGNORECASE)
_SPACES = re.compile(r"[ \t]{2,}")
_SYMBOLS = str.maketrans(
    {"\uf0b7": "•", "\uf0a7": "▪", "\uf0d8": "➢", "\uf0fc": "✓", "\uf02d": "-", "\u00ad": "-", "\u00a0": " "}
)
_ODD = re.compile(r"[\u00a0\u00ad\uf000-\uf0ff]")


Box = tuple[float, float, float, float]  # x0, y0, x1, y1 in points from the top left corner of the page


@dataclass(kw_only=True, slots=True, eq=False)  # not frozen: one for every line, and freezing triples its time
class Line:
    """One line of text. Its box is in points from the top left corner of the page; size is that of most characters.

    baseline: its height where the line begins.
    is_level: written from left to right or right to left, not rotated. is_vertical: the font writes downwards.
    """

    text: str
    x0: float
    y0: float
    x1: float
    y1: float
    size: float
    baseline: float
    is_level: bool = True
    is_vertical: bool = False


@dataclass(frozen=True, kw_only=True)
class PageLines:
    """The lines of a page in the order of the file. height: of the page, in points.

    raw: one rawdict line for each line, only if asked for. drawn: boxes of lines and
    rectangles that are drawn. num_unknown: characters that the font does not name. is_guessed: some were
    read by their codes.
    """

    lines: list[Line]
    height: float
    raw: list[dict[str, Any]]
    drawn: list[Box]
    num_unknown: int
    is_guessed: bool


def read_lines(page: pymupdf.Page, *, with_characters: bool = False) -> PageLines:
    """Return the lines of a page. with_characters: also every character with its place (several times slower)."""
    textpage = page.get_textpage(flags=_FLAGS)
    content = textpage.extractDICT()
    blocks = [block for block in content["blocks"] if block["type"] == 0]
    drawn = [block["bbox"] for block in content["blocks"] if block["type"] == 3]
    found = [line for block in blocks for line in block["lines"]]
    num_unknown, is_guessed = name_unknown([span for line in found for span in line["spans"]])
    raw: list[dict[str, Any]] = []
    page_text = "".join([span["text"] for line in found for span in line["spans"]])
    has_rtl = RIGHT_TO_LEFT.search(page_text) is not None
    if has_rtl or with_characters:
        raw = [line for block in textpage.extractRAWDICT()["blocks"] if block["type"] == 0 for line in block["lines"]]
        for known, line in zip(found, raw, strict=True):
            _copy_names(known, line)
    is_rtl_page = has_rtl and is_right_to_left(page_text)
    lines = [
        _line(line, raw[number] if has_rtl else None, is_rtl_page=is_rtl_page) for number, line in enumerate(found)
    ]
    kept = _without_copies(lines)
    return PageLines(
        lines=[lines[number] for number in kept],
        height=content["height"],
        raw=[raw[number] for number in kept] if with_characters else [],
        drawn=drawn,
        num_unknown=num_unknown,
        is_guessed=is_guessed,
    )


def line_inside(raw: dict[str, Any], box: Box) -> tuple[Line | None, str]:
    """Return (the part of a rawdict line whose characters have their middle in a box, or None; those characters)."""
    spans = []
    for span in raw["spans"]:
        chars = [char for char in span["chars"] if _is_inside(char["bbox"], box)]
        if chars:
            text = "".join(char["c"] for char in chars)
            spans.append({**span, "chars": chars, "text": text, "origin": chars[0]["origin"]})
    if not spans:
        return None, ""
    boxes = [char["bbox"] for span in spans for char in span["chars"]]
    x0, x1 = min(box[0] for box in boxes), max(box[2] for box in boxes)
    part = {**raw, "spans": spans, "bbox": (x0, raw["bbox"][1], x1, raw["bbox"][3])}
    text = "".join(span["text"] for span in spans)
    return _line(part, part, is_rtl_page=is_right_to_left(text)), text


def _is_inside(inner: Box, box: Box) -> bool:
    x, y = (inner[0] + inner[2]) / 2, (inner[1] + inner[3]) / 2
    return box[0] <= x < box[2] and box[1] <= y < box[3]


def _line(line: dict[str, Any], raw: dict[str, Any] | None, *, is_rtl_page: bool) -> Line:
    spans = line["spans"]
    text = spans[0]["text"] if len(spans) == 1 else _spans_text(spans)
    if raw and RIGHT_TO_LEFT.search(text):
        text = _logical(raw, is_rtl_page=is_rtl_page)
    x0, y0, x1, y1 = line["bbox"]
    cos, _ = line["dir"]
    return Line(
        text=_clean(text, spans),
        x0=x0,
        y0=y0,
        x1=x1,
        y1=y1,
        size=spans[0]["size"] if len(spans) == 1 else _main_span(spans)["size"],
        baseline=spans[0]["origin"][1],
        is_level=cos > 0.99 and not line["wmode"],
        is_vertical=bool(line["wmode"]),
    )


def _clean(text: str, spans: list[dict[str, Any]]) -> str:
    """Replace symbols of Word, and spaces that follow each other unless the font has characters of one width."""
    if "  " not in text and "\t" not in text and (text.isascii() or not _ODD.search(text)):
        return text.rstrip() if text[:1] == " " and _is_monospaced(spans) else text.strip()
    text = text.translate(_SYMBOLS).rstrip()
    return text if _is_monospaced(spans) else _SPACES.sub(" ", text).lstrip()


def _is_monospaced(spans: list[dict[str, Any]]) -> bool:
    return bool(spans[0]["flags"] & pymupdf.TEXT_FONT_MONOSPACED)


def _main_span(spans: list[dict[str, Any]]) -> dict[str, Any]:
    """The span of the size that most characters have."""
    num_chars: dict[float, int] = defaultdict(int)
    for span in spans:
        num_chars[span["size"]] += len(span["text"])
    if len(num_chars) == 1:
        return spans[0]
    size = max(num_chars, key=lambda size: num_chars[size] * size)
    return next(span for span in spans if span["size"] == size)


def _spans_text(spans: list[dict[str, Any]]) -> str:
    """Join spans. Smaller spans above or below the baseline become raised or lowered characters."""
    if len({span["size"] for span in spans}) == 1:
        return "".join([span["text"] for span in spans])
    main = _main_span(spans)
    size, baseline = main["size"], main["origin"][1]
    pieces: list[str] = []
    for number, span in enumerate(spans):
        text = span["text"]
        if span["char_flags"] & _IS_SYNTHETIC and 0 < number < len(spans) - 1:
            before, after = spans[number - 1], spans[number + 1]
            if before["size"] != after["size"] and after["bbox"][0] - before["bbox"][2] < 0.15 * size:
                continue
        if span["size"] < 0.88 * size and text.strip():
            rise = baseline - span["origin"][1]
            base = "".join(pieces[-3:])
            if rise > 0.12 * size:
                text = raised(text, base)
            elif rise < -0.06 * size:
                text = _lowered(text, base[-1:])
        if text:
            pieces.append(text)
    return "".join(pieces)


def raised(text: str, before: str) -> str:
    """`10` and a raised `6` as `10⁶`; what has no raised form as `e^kt`; ordinals and marks of notes as they are.

    before: the text in front of it.
    """
    core = text.strip()
    if _CAN_RAISE.fullmatch(core) and not core.isalpha():
        return text.translate(_RAISED)
    word = _LAST_WORD.search(before)
    if not word or not _EXPONENT.fullmatch(core):
        return text
    if _ORDINAL.fullmatch(core) and (word[0][-1].isdigit() or len(word[0]) <= 2):
        return text
    return text.translate(_RAISED) if core in "ni" else "^" + text.lstrip()


def _lowered(text: str, before: str) -> str:
    """`H`, a lowered `2` and `O` as `H₂O`; letters as `x_max`."""
    if _CAN_LOWER.fullmatch(text.strip()):
        return text.translate(_LOWERED)
    if before.isalnum() and text[0].isalnum():
        return "_" + text
    return text


def _logical(raw: dict[str, Any], *, is_rtl_page: bool) -> str:
    glyphs = [
        Glyph(text=char["c"], x0=char["bbox"][0], x1=char["bbox"][2], is_synthetic=bool(char.get("synthetic")))
        for span in raw["spans"]
        for char in span["chars"]
    ]
    size = max(span["size"] for span in raw["spans"])
    cos, _ = raw["dir"]
    if cos < 0.99:  # rotated: places along the line are not x
        return "".join(glyph.text for glyph in glyphs)
    return logical_order(glyphs, size=size, is_rtl_page=is_rtl_page)


def _without_copies(lines: list[Line]) -> list[int]:
    """Numbers of the lines that are not the same text printed again at almost the same place (bold, shadows)."""
    places: dict[str, list[Line]] = {}
    kept: list[int] = []
    for number, line in enumerate(lines):
        if (same := places.get(line.text)) is None:
            places[line.text] = [line]
        elif line.text and any(_is_near(line, other) for other in same):
            continue
        else:
            same.append(line)
        for other in kept[-3:]:
            if abs(line.baseline - lines[other].baseline) < 2 and _is_part(line, lines[other]):
                break
        else:
            kept.append(number)
    return kept


def _is_near(line: Line, other: Line) -> bool:
    limit = 0.2 * line.size
    return abs(line.x0 - other.x0) < limit and abs(line.y0 - other.y0) < limit


def _is_part(line: Line, other: Line) -> bool:
    """Whether the line is a copy of some words of another one, printed over them."""
    limit = 0.2 * line.size
    return (
        line.text != ""
        and abs(line.baseline - other.baseline) < limit
        and other.x0 - limit < line.x0
        and line.x1 < other.x1 + limit
        and line.size == other.size
        and line.text in other.text
    )


def _copy_names(known: dict[str, Any], raw: dict[str, Any]) -> None:
    """Give the characters of a rawdict line the text that its spans have got, in place."""
    for span, raw_span in zip(known["spans"], raw["spans"], strict=True):
        text = span["text"]
        raw_span["text"] = text
        if len(text) == len(raw_span["chars"]):
            for char, name in zip(raw_span["chars"], text, strict=True):
                char["c"] = name
