"""Text of a PDF page that nobody sees: fully transparent, or white with nothing behind it."""

from collections.abc import Sequence
from typing import Any

import pymupdf

_FILLED, _STROKED, _CLIPPED = 16, 32, 64  # FZ_STEXT_FILLED, FZ_STEXT_STROKED, FZ_STEXT_CLIPPED
_WHITE = 0xFFFFFF
_BACKGROUNDS = ("fill-path", "fill-shade", "fill-image", "fill-imgmask")


def hide_unseen(page: pymupdf.Page, spans: Sequence[dict[str, Any]], blocks: Sequence[dict[str, Any]]) -> int:
    """Empty the text of spans that cannot be seen, in place; return the number of their characters.

    Text in the invisible mode of a recognized scan is kept. spans, blocks: of one page, as PyMuPDF's `dict` gives them.
    """
    hidden = [span for span in spans if not span["alpha"] and span["char_flags"] & (_FILLED | _CLIPPED) == _FILLED]
    white = [span for span in spans if span["color"] == _WHITE and span["char_flags"] & (_FILLED | _STROKED) == _FILLED]
    if white:
        behind = _backgrounds(page, blocks)
        hidden += [span for span in white if not any(_has_middle(box, span["bbox"]) for box in behind)]
    num_hidden = 0
    for span in hidden:
        num_hidden += sum(not char.isspace() for char in span["text"])
        span["text"] = ""
    return num_hidden


def _backgrounds(page: pymupdf.Page, blocks: Sequence[dict[str, Any]]) -> list[tuple[float, float, float, float]]:
    """Boxes of everything that is filled, but not in white."""
    blank = {
        tuple(map(round, block["bbox"])) for block in blocks if block["type"] == 3 and block.get("color") == _WHITE
    }
    return [box for kind, box, *_ in page.get_bboxlog() if kind in _BACKGROUNDS and tuple(map(round, box)) not in blank]


def _has_middle(box: Sequence[float], inner: Sequence[float]) -> bool:
    x, y = (inner[0] + inner[2]) / 2, (inner[1] + inner[3]) / 2
    return box[0] <= x <= box[2] and box[1] <= y <= box[3]
