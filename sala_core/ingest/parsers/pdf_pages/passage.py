"""Where a passage of the text stands on a page: by its letters and digits, which no line break, hyphen or ligature
changes."""

import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

import pymupdf

Box = tuple[float, float, float, float]
_FLAGS = pymupdf.TEXTFLAGS_RAWDICT & ~pymupdf.TEXT_PRESERVE_IMAGES
_CONTEXTS = (20, 60, 200, 600)
"""Letters around a passage that stands on the page more than once, by which its own place is told."""
_MIN_LINE_LETTERS = 8
"""Shorter lines of a passage that does not stand together are not looked for alone."""


@dataclass(frozen=True, kw_only=True)
class Letters:
    """The letters and digits of a page. text: all of them; boxes, lines: of each one, in points and as numbers."""

    text: str
    boxes: list[Box]
    lines: list[int]


@dataclass(frozen=True, kw_only=True)
class FoundPassage:
    """boxes: one for each line, in points from the page's top left corner. num_places: how often it stands there.

    is_whole: whether all of it is marked; a part is if its lines do not stand together on the page.
    """

    boxes: list[Box]
    num_places: int
    is_whole: bool


def letters_of(text: str) -> str:
    """The letters and digits of a text, compatibility forms resolved: 'eﬃ-\\ncient' becomes 'efficient'."""
    return "".join(char for char in unicodedata.normalize("NFKC", text) if char.isalnum())


def page_letters(page: pymupdf.Page) -> Letters:
    """The letters and digits of a page as it is shown, in the order of the file."""
    text: list[str] = []
    boxes: list[Box] = []
    lines: list[int] = []
    number = 0
    for block in page.get_text("rawdict", flags=_FLAGS)["blocks"]:
        for line in block.get("lines", ()):
            number += 1
            for char in (char for span in line["spans"] for char in span["chars"]):
                if letters := letters_of(char["c"]):
                    box = pymupdf.Rect(char["bbox"]) * page.rotation_matrix
                    text.append(letters)
                    boxes += [(box.x0, box.y0, box.x1, box.y1)] * len(letters)
                    lines += [number] * len(letters)
    return Letters(text="".join(text), boxes=boxes, lines=lines)


def find_passage(page: Letters, passage: str, *, before: str, after: str) -> FoundPassage:
    """Find a passage on a page.

    Args:
        page: the page's letters.
        passage: text as it was read.
        before, after: the text around it on the same page, which tells equal passages apart.

    A passage that stands there more than once, and that the text around it does not tell apart, is found at all its
    places.
    """
    wanted = letters_of(passage)
    if not wanted:
        return FoundPassage(boxes=[], num_places=0, is_whole=False)
    starts = list(_occurrences(page.text, wanted))
    if len(starts) > 1 and (own := _told_apart(page.text, wanted, letters_of(before), letters_of(after))) is not None:
        starts = [own]
    if starts:
        found = [box for start in starts for box in _boxes(page, start, start + len(wanted))]
        return FoundPassage(boxes=found, num_places=len(starts), is_whole=True)
    parts: list[Box] = []
    is_whole = True
    for line in filter(None, map(letters_of, passage.split("\n"))):
        starts = list(_occurrences(page.text, line))
        if len(starts) == 1 and len(line) >= _MIN_LINE_LETTERS:
            parts += _boxes(page, starts[0], starts[0] + len(line))
        else:
            is_whole = False
    return FoundPassage(boxes=parts, num_places=1 if parts else 0, is_whole=is_whole and bool(parts))


def _occurrences(text: str, wanted: str) -> Iterator[int]:
    at = text.find(wanted)
    while at >= 0:
        yield at
        at = text.find(wanted, at + 1)


def _told_apart(text: str, wanted: str, before: str, after: str) -> int | None:
    """Where the passage stands whose surroundings are these; None if they stand nowhere, or more than once."""
    for size in _CONTEXTS:
        for left, right in ((before[-size:], after[:size]), (before[-size:], ""), ("", after[:size])):
            starts = list(_occurrences(text, left + wanted + right))
            if len(starts) == 1:
                return starts[0] + len(left)
    return None


def _boxes(page: Letters, start: int, end: int) -> Iterator[Box]:
    """One box for each line between two letters."""
    first = start
    for at in range(start + 1, end + 1):
        if at == end or page.lines[at] != page.lines[first]:
            group = page.boxes[first:at]
            yield (
                min(box[0] for box in group),
                min(box[1] for box in group),
                max(box[2] for box in group),
                max(box[3] for box in group),
            )
            first = at
