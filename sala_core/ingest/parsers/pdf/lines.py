"""Lines of a PDF page: text with place and size; raised and lowered characters are kept apart from their base."""

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pymupdf

from .bidi import RIGHT_TO_LEFT, Glyph, is_right_to_left, logical_order
from .fonts import MONOSPACED, name_unknown, unnamed_fonts
from .hidden import hide_unseen
from .quick import Box, FontNames, box_lines, column_lines, has_underscores, plain_html
from .raised import main_baseline, main_span, spans_text
from .symbols import PRIVATE_SIGNS, name_symbols, name_underscores

# without ligatures: the vocabulary of a model has "fi", not U+FB01
_FLAGS = (pymupdf.TEXTFLAGS_TEXT & ~pymupdf.TEXT_PRESERVE_LIGATURES) | pymupdf.TEXT_COLLECT_VECTORS
_MOST = 0.8  # of the characters of a page
_SPACES = re.compile(r"[ \t]{2,}")
_SYMBOLS = str.maketrans(
    {"\uf0b7": "•", "\uf0a7": "▪", "\uf0d8": "➢", "\uf0fc": "✓", "\uf02d": "-", "\u00ad": "-", "\u00a0": " "}
    | PRIVATE_SIGNS
)
_SOFT_HYPHEN = "\u00ad"  # at the end of a line it divides a word; elsewhere a page shows it as a hyphen
_ODD = re.compile(r"[\u00a0\u00ad\uf000-\uf0ff\uf6d9-\uf8fe]")


@dataclass(kw_only=True, slots=True, eq=False)  # not frozen: one for every line, and freezing triples its time
class Line:
    """One line of text. Its box is in points from the top left corner of the page; size is that of most characters.

    baseline: the height of most of its characters, of a rotated line where it begins.
    is_level: written from left to right or right to left, not rotated. is_vertical: the font writes downwards.
    char_width: of each character in a font with characters of one width, otherwise 0.
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
    char_width: float = 0.0


@dataclass(frozen=True, kw_only=True)
class PageLines:
    """The lines of a page in the order of the file. height: of the page, in points.

    raw: one rawdict line for each line, only if asked for. drawn: boxes of lines and
    rectangles that are drawn. num_unknown: characters that the font does not name. is_guessed: some were
    read by their codes. num_hidden: characters that are left out because nobody sees them. turn: degrees by which
    the page has to be turned to the right, so that most of its text is level. is_in_order: each line stands below the
    one before, with nothing beside it.
    """

    lines: list[Line]
    height: float
    raw: list[dict[str, Any]]
    drawn: list[Box]
    num_unknown: int
    is_guessed: bool
    num_hidden: int
    turn: int
    is_in_order: bool = False


def read_lines(
    page: pymupdf.Page, *, turn: int = 0, with_characters: bool = False, fonts: FontNames | None = None
) -> PageLines:
    """Return the lines of a page.

    Args:
        page: the page.
        turn: degrees to the right by which it is turned before (see `PageLines`), whatever its own rotation is.
        with_characters: also every character with its place, which takes several times as long.
        fonts: those of the document; with them, a plain page is read in a faster way.
    """
    if turn or with_characters or page.rotation:
        matrix, box = turned(page, turn)
        return _read_closely(page, page.get_textpage(flags=_FLAGS, matrix=matrix, clip=box), turn, with_characters)
    textpage = page.get_textpage(flags=_FLAGS)
    if (
        fonts is None
        or not fonts.are_complete(page)
        or (html := plain_html(textpage)) is None
        or (fonts.has_tex and has_underscores(textpage))
    ):
        return _read_closely(page, textpage, turn, with_characters)
    if (column := column_lines(textpage, html)) is not None:
        return _plain_page(textpage, [_column_line(line) for line in column], is_in_order=True)
    if (boxes := box_lines(textpage)) is None:
        return _read_closely(page, textpage, turn, with_characters)
    found, drawn = boxes
    lines = [_quick_line(line) for line in found]
    return _plain_page(textpage, [lines[number] for number in _without_copies(lines)], drawn=drawn)


def _plain_page(
    textpage: pymupdf.TextPage, lines: list[Line], *, drawn: Sequence[Box] = (), is_in_order: bool = False
) -> PageLines:
    box = textpage.this.m_internal.mediabox
    return PageLines(
        lines=lines,
        height=box.y1 - box.y0,
        raw=[],
        drawn=list(drawn),
        num_unknown=0,
        is_guessed=False,
        num_hidden=0,
        turn=0,
        is_in_order=is_in_order,
    )


def _column_line(line: tuple[str, float, float, float]) -> Line:
    """A line of a page whose lines stand below each other. Its right end is not known, and taken as its left one."""
    text, left, baseline, size = line
    return Line(
        text=_clean(text, is_monospaced=False),
        x0=left,
        y0=baseline - size,
        x1=left,
        y1=baseline + 0.2 * size,
        size=size,
        baseline=baseline,
    )


def _quick_line(line: dict[str, Any]) -> Line:
    """A line of a plain page, from MuPDF's JSON."""
    box, text, font = line["bbox"], line["text"], line["font"]
    is_monospaced = font["family"] == "monospace" or MONOSPACED.search(font["name"]) is not None
    width = box["w"] / 100
    return Line(
        text=_clean(text, is_monospaced=is_monospaced),
        x0=box["x"] / 100,
        y0=box["y"] / 100,
        x1=box["x"] / 100 + width,
        y1=(box["y"] + box["h"]) / 100,
        size=font["size"] / 100,
        baseline=line["y"] / 100,
        char_width=width / len(text) if text and is_monospaced else 0.0,
    )


def _read_closely(page: pymupdf.Page, textpage: pymupdf.TextPage, turn: int, with_characters: bool) -> PageLines:
    """The lines of a page from its spans; from its characters if it has right-to-left text."""
    content = textpage.extractDICT()
    blocks = [block for block in content["blocks"] if block["type"] == 0]
    drawn = [block["bbox"] for block in content["blocks"] if block["type"] == 3]
    found = [line for block in blocks for line in block["lines"]]
    spans = [span for line in found for span in line["spans"]]
    fonts = {span["font"] for span in spans}
    name_symbols(spans, fonts)
    name_underscores(found, drawn)
    num_unknown, is_guessed = name_unknown(spans, unnamed_fonts(page, fonts))
    num_hidden = hide_unseen(page, spans, content["blocks"])
    raw: list[dict[str, Any]] = []
    page_text = "".join([span["text"] for span in spans])
    has_rtl = RIGHT_TO_LEFT.search(page_text) is not None
    if has_rtl or with_characters:
        raw = [line for block in textpage.extractRAWDICT()["blocks"] if block["type"] == 0 for line in block["lines"]]
        for known, line in zip(found, raw, strict=True):
            _copy_names(known, line)
    is_rtl_page = has_rtl and is_right_to_left(page_text)
    if has_rtl:
        found, raw = _joined_runs(found), _joined_runs(raw)
    lines = [
        _line(line, raw[number] if has_rtl else None, is_rtl_page=is_rtl_page) for number, line in enumerate(found)
    ]
    kept = _without_copies(lines)
    return PageLines(
        lines=[lines[number] for number in kept],
        height=page.cropbox.width if turn in (90, 270) else page.cropbox.height,
        raw=[raw[number] for number in kept] if with_characters else [],
        drawn=drawn,
        num_unknown=num_unknown,
        is_guessed=is_guessed,
        num_hidden=num_hidden,
        turn=turn or _turn(found),
    )


def turned(page: pymupdf.Page, turn: int) -> tuple[pymupdf.Matrix, pymupdf.Rect]:
    """(matrix from the page without any rotation to the turned page, box of the turned page from its corner)."""
    box = pymupdf.Rect(0, 0, page.cropbox.width, page.cropbox.height)
    matrix = pymupdf.Matrix(turn)
    corner = (box * matrix).tl
    return matrix * pymupdf.Matrix(1, 0, 0, 1, -corner.x, -corner.y), (box * matrix) - (*corner, *corner)


def _joined_runs(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Join the runs of one line again, which MuPDF divides where the direction changes."""
    joined: list[dict[str, Any]] = []
    for line in lines:
        last = joined[-1] if joined else line
        size = line["spans"][0]["size"]
        left, right = sorted((last["bbox"], line["bbox"]))
        is_level = last["dir"][0] > 0.99 and line["dir"][0] > 0.99 and not line["wmode"]
        is_beside = abs(right[0] - left[2]) < 0.5 * size and abs(last["bbox"][3] - line["bbox"][3]) < 0.3 * size
        if joined and is_level and is_beside:
            box = (left[0], min(left[1], right[1]), max(left[2], right[2]), max(left[3], right[3]))
            joined[-1] = {**last, "spans": [*last["spans"], *line["spans"]], "bbox": box}
        else:
            joined.append(line)
    return joined


def _turn(found: list[dict[str, Any]]) -> int:
    """Degrees to the right after which most characters are level: 0, 90, 180 or 270."""
    if not found or found[0]["dir"][0] > 0.99:
        return 0
    num_chars: dict[tuple[int, int], int] = defaultdict(int)
    for line in found:
        cos, sin = line["dir"]
        num_chars[round(cos), round(sin)] += 0 if line["wmode"] else sum(len(span["text"]) for span in line["spans"])
    direction = max(num_chars, key=lambda key: num_chars[key])
    if not num_chars[direction] or num_chars[direction] < _MOST * sum(num_chars.values()):
        return 0
    return {(0, -1): 90, (-1, 0): 180, (0, 1): 270}.get(direction, 0)


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
    cos, _ = line["dir"]
    text = spans[0]["text"] if len(spans) == 1 else spans_text(spans, is_level=cos > 0.99)
    if raw and RIGHT_TO_LEFT.search(text):
        text = _logical(raw, is_rtl_page=is_rtl_page)
    x0, y0, x1, y1 = line["bbox"]
    font = spans[0]
    # some files do not say it of a font
    is_monospaced = bool(font["flags"] & pymupdf.TEXT_FONT_MONOSPACED) or MONOSPACED.search(font["font"]) is not None
    return Line(
        text=_clean(text, is_monospaced=is_monospaced),
        x0=x0,
        y0=y0,
        x1=x1,
        y1=y1,
        size=(size := spans[0]["size"] if len(spans) == 1 else main_span(spans)["size"]),
        baseline=spans[0]["origin"][1] if spans[0]["size"] == size or cos < 0.99 else main_baseline(spans, size),
        is_level=cos > 0.99 and not line["wmode"],
        is_vertical=bool(line["wmode"]),
        char_width=(x1 - x0) / len(text) if text and is_monospaced else 0.0,
    )


def _clean(text: str, *, is_monospaced: bool) -> str:
    """Replace symbols of Word, and spaces that follow each other unless the font has characters of one width."""
    if "  " not in text and "\t" not in text and (text.isascii() or not _ODD.search(text)):
        return text.rstrip() if text[:1] == " " and is_monospaced else text.strip()
    text = text.translate(_SYMBOLS).rstrip() if text[-1:] != _SOFT_HYPHEN else text.translate(_SYMBOLS)[:-1] + text[-1]
    return text if is_monospaced else _SPACES.sub(" ", text).lstrip()


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
        if not text:
            raw_span["chars"] = []
        elif text[-1] == "_" and len(text) == len(raw_span["chars"]) + 1:  # drawn behind it
            last = raw_span["chars"][-1]
            raw_span["chars"].append({**last, "bbox": (last["bbox"][2], *span["bbox"][1:])})
        if len(text) == len(raw_span["chars"]):
            for char, name in zip(raw_span["chars"], text, strict=True):
                char["c"] = name
