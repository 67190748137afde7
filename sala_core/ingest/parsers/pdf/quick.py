"""Lines of a page from MuPDF's own HTML and JSON, which takes a fraction of the time of PyMuPDF's dictionaries.

HTML has the sizes and colors inside the lines and where each begins; JSON their boxes and one font for each line. They
suffice for plain pages: without raised, hidden or unnamed characters, symbol fonts, rotated or right-to-left text, and
tables. For a page whose lines stand below each other, HTML and the text alone are enough.
"""

import json
import re
from collections.abc import Callable
from itertools import islice, pairwise
from typing import Any

import pymupdf
from pymupdf import mupdf

from .bidi import RIGHT_TO_LEFT
from .fonts import DIFFERENCES, GLYPH, MONOSPACED
from .symbols import is_underscore

_SCALE = 100.0  # JSON has whole numbers only
_MAX_BLOCKS = 1000
_MAX_VECTORS = 200  # lines and rectangles: each costs time
Box = tuple[float, float, float, float]  # x0, y0, x1, y1 in points from the top left corner of the page
_ODD = (b"color:#ffffff", b"<sup>", b"ingdings", b"Dingbats", b"Symbol", b"Type3")
_SIZE = re.compile(rb"font-size:([\d.]+)pt")
_PLACE = re.compile(rb"<p style=\"top:([-\d.]+)pt;left:([-\d.]+)pt;line-height:([\d.]+)pt\">")
_TEX_FONT = re.compile(r"(?:^|\+)(?!CMEX)(?:CM|LM|MSAM|MSBM|SF)[A-Za-z]+\d+$")
_MONOSPACED = re.compile(MONOSPACED.pattern.encode())
_SMALL = 0.88  # of the size of most characters of a line
_NO_CHARACTER = 0xFFFD
_ODD_CHARACTER = re.compile("[\x00-\x08\x0b-\x1f\x7f\ufffd\ue000-\uf8ff]")


def plain_html(textpage: pymupdf.TextPage) -> bytes | None:
    """Return the HTML of a page without raised or hidden characters, symbol fonts and sizes inside a line, or None."""
    html = _printed(mupdf.fz_print_stext_page_as_html, textpage, 0)
    num_spans = html.count(b"font-size:")
    # text without a color is transparent; a word of the text may be the name of a font too, which costs only time
    if html.count(b";color:") < num_spans or any([mark in html for mark in _ODD]):
        return None
    size = _SIZE.search(html)
    if size and html.count(size[0]) < num_spans and any(map(_has_sizes, html.split(b"\n"))):
        return None
    return html


def column_lines(textpage: pymupdf.TextPage, html: bytes) -> list[tuple[str, float, float, float]] | None:
    """Return (text, left, baseline, size) of the lines of a page that stand below each other, in points.

    None if two lines stand on one height, any is above the one before, or is in a font of one width.

    html: from `plain_html`.
    """
    if b"<tt>" in html or _MONOSPACED.search(html):
        return None
    places = [(float(left), float(top), float(size)) for top, left, size in _PLACE.findall(html)]
    if any([below[1] - above[1] < 0.5 * below[2] for above, below in pairwise(places)]):
        return None
    text = textpage.extractText()
    lines = text.split("\n")[:-1]
    if len(lines) != len(places) or not _is_plain(text.replace("\n", "")):
        return None
    return [
        # MuPDF puts the top of a line at 0.8 of its size
        (text, left, top + 0.8 * size, size)
        for text, (left, top, size) in zip(lines, places, strict=True)
    ]


def box_lines(textpage: pymupdf.TextPage) -> tuple[list[dict[str, Any]], list[Box]] | None:
    """Return (the lines of a page as MuPDF's JSON has them, in hundredths of points; boxes of what is drawn).

    None for a page with many drawings, rotated text, unknown characters, or right-to-left letters.

    textpage: read with vectors.
    """
    try:
        content = json.loads(_printed(mupdf.fz_print_stext_page_as_json, textpage, _SCALE))
    except ValueError:
        return None
    num_vectors = sum([block["type"] == "vector" for block in content["blocks"]])
    if num_vectors > _MAX_VECTORS:
        return None
    lines = [line for block in content["blocks"] if block["type"] == "text" for line in block["lines"]]
    if any([line["wmode"] or _is_upright(line) for line in lines]):
        return None
    if not _is_plain("".join([line["text"] for line in lines])):
        return None
    return lines, _vectors(textpage) if num_vectors else []


def _vectors(textpage: pymupdf.TextPage) -> list[Box]:
    """Boxes of the lines and rectangles that are drawn, in points."""
    blocks = [block.m_internal for block in textpage.this]
    boxes = [block.bbox for block in blocks if block.type == mupdf.FZ_STEXT_BLOCK_VECTOR]
    return [(box.x0, box.y0, box.x1, box.y1) for box in boxes]


def has_underscores(textpage: pymupdf.TextPage) -> bool:
    """Return whether a page without large drawings has anything that may be an underscore.

    textpage: read with vectors.
    """
    for block in islice(textpage.this, _MAX_BLOCKS):
        box = block.m_internal.bbox
        if block.m_internal.type == mupdf.FZ_STEXT_BLOCK_VECTOR and is_underscore((box.x0, box.y0, box.x1, box.y1)):
            return True
    return False


def _is_plain(text: str) -> bool:
    """Whether all characters are known, and none is of a right-to-left script."""
    if not text.isprintable() and _ODD_CHARACTER.search(text):
        return False
    return text.isascii() or not RIGHT_TO_LEFT.search(text)


class FontNames:
    """Which fonts of a document name their characters: by a map to Unicode, or by the names of their glyphs.

    has_tex: whether fonts of TeX were among those asked for.
    """

    def __init__(self, document: pymupdf.Document) -> None:
        self._document = document
        self._known: dict[int, bool] = {}
        self._known_resources: dict[tuple[str, ...], bool] = {}
        self.has_tex = False

    def are_complete(self, page: pymupdf.Page) -> bool:
        """Return whether all fonts of a page do, also those of the forms that it shows."""
        resources = tuple(self._document.xref_get_key(page.xref, f"Resources/{key}")[1] for key in ("Font", "XObject"))
        if resources[0] == "null":  # those of the page's parent
            return self._are_complete(page.number)
        if resources not in self._known_resources:
            self._known_resources[resources] = self._are_complete(page.number)
        return self._known_resources[resources]

    def _are_complete(self, page: int) -> bool:
        for xref, _, kind, name, _, encoding, *_ in self._document.get_page_fonts(page):
            if xref not in self._known:
                self.has_tex = self.has_tex or _TEX_FONT.search(name) is not None
                self._known[xref] = self._is_named(xref, kind, name, encoding)
            if not self._known[xref]:
                return False
        return True

    def _is_named(self, xref: int, kind: str, name: str, encoding: str) -> bool:
        if not xref:  # no object of its own: it would have to be searched for in the page
            return False
        if self._document.xref_get_key(xref, "ToUnicode")[0] != "null":
            return True
        if kind in ("Type0", "Type3"):
            return False
        where, value = self._document.xref_get_key(xref, "Encoding")
        if where == "xref":
            value = self._document.xref_object(int(value.split()[0]), compressed=True)
        names = GLYPH.findall("".join(DIFFERENCES.findall(value)))
        if not names:
            # a font's own encoding may have any names; those of TeX are known
            return bool(encoding) or _TEX_FONT.search(name) is not None
        return all(pymupdf.glyph_name_to_unicode(name) != _NO_CHARACTER for name in names)


def _printed(function: Callable[..., None], textpage: pymupdf.TextPage, argument: float) -> bytes:
    buffer = mupdf.FzBuffer(4096)
    output = mupdf.FzOutput(buffer)
    function(output, textpage.this, argument)
    output.fz_close_output()
    return bytes(buffer.fz_buffer_extract())


def _is_upright(line: dict[str, Any]) -> bool:
    """Whether the box of a line is higher than wide, and higher than a line of its size."""
    box = line["bbox"]
    return bool(box["h"] > box["w"] and box["h"] > 1.7 * line["font"]["size"] and len(line["text"]) > 1)


def _has_sizes(line: bytes) -> bool:
    """Whether a line of HTML has characters so small that they may be raised or lowered."""
    if line.count(b"font-size:") < 2:
        return False
    sizes = [float(size) for size in _SIZE.findall(line)]
    return min(sizes) < _SMALL * max(sizes)
