"""Answers to requests for one page of a PDF: its picture, or the boxes of a passage."""

import math
import os
from collections.abc import Mapping

import pymupdf

from ..result import ParseError
from .passage import find_passage, page_letters

_MAX_PIXELS = 8_000_000
_ERRORS = (RuntimeError, ValueError, IndexError, pymupdf.mupdf.FzErrorBase)

_opened: tuple[tuple[str, int, int], pymupdf.Document] | None = None


def answer_page(request: Mapping[str, str | int | float]) -> tuple[dict[str, object], bytes]:
    """(header, body) of the reply to a request with `path`, `page` (from 1) and `task`.

    "draw" takes `width` in pixels: the body is a PNG, and the header has its width and height. "place" takes `passage`,
    `before` and `after`: the header has the boxes of the passage, as fractions of the page's width and height from its
    top left corner. Raises ParseError with the reason.
    """
    try:
        document = _document(str(request["path"]))
        number = int(request["page"])
        if not 1 <= number <= document.page_count:
            raise ParseError(f"there is no page {number}; the file has {document.page_count}")
        page = document.load_page(number - 1)
        if page.rect.is_empty or page.rect.is_infinite:
            raise ParseError(f"page {number} has no size")
        if request["task"] == "draw":
            return _draw(page, int(request["width"]))
        return _place(page, request), b""
    except _ERRORS as error:
        raise ParseError(f"the page cannot be drawn ({type(error).__name__})") from error


def _document(path: str) -> pymupdf.Document:
    """The file, which stays open for the next request. Raises ParseError where it needs a password."""
    global _opened
    status = os.stat(path)
    key = path, status.st_size, status.st_mtime_ns
    if _opened is not None and _opened[0] == key:
        return _opened[1]
    if _opened is not None:
        _opened[1].close()
        _opened = None
    document = pymupdf.open(path, filetype="pdf")
    if document.needs_pass:
        document.close()
        raise ParseError("the file is encrypted, and its password is not kept")
    _opened = key, document
    return document


def _draw(page: pymupdf.Page, width: int) -> tuple[dict[str, object], bytes]:
    box = page.rect
    zoom = min(width / box.width, math.sqrt(_MAX_PIXELS / (box.width * box.height)))
    picture = page.get_pixmap(matrix=pymupdf.Matrix(zoom, zoom), alpha=False)
    return {"width": picture.width, "height": picture.height}, picture.tobytes("png")


def _place(page: pymupdf.Page, request: Mapping[str, str | int | float]) -> dict[str, object]:
    found = find_passage(
        page_letters(page), str(request["passage"]), before=str(request["before"]), after=str(request["after"])
    )
    box = page.rect
    boxes = [
        [
            round(value, 5)
            for value in (
                (one[0] - box.x0) / box.width,
                (one[1] - box.y0) / box.height,
                (one[2] - box.x0) / box.width,
                (one[3] - box.y0) / box.height,
            )
        ]
        for one in found.boxes
    ]
    return {"boxes": boxes, "num_places": found.num_places, "is_whole": found.is_whole}
