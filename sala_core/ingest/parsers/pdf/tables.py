"""Ruled tables of PDF pages: one row a line, cells separated by ` | `."""

import re
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from typing import Any

import pymupdf

from .bidi import is_right_to_left
from .lines import Line, PageLines, line_inside, turned
from .order import CJK, in_reading_order
from .quick import Box

pymupdf.no_recommend_layout()  # otherwise the first search prints an advertisement

_DIVIDED = re.compile(r"[^\W\d_][-\u00ad\u2010]$")
_MIN_LINES = 4  # of text on a page with a table
_MIN_EDGE = 6.0  # points: shorter ones are underlines and dots
_GRID = 4.0  # points: edges nearer to each other are one
_MAX_VECTORS = 3000  # lines and rectangles: more are a drawing: the search for cells would take minutes


class TableReader:
    """Finds the tables of one document within a limit of time for all of its pages."""

    def __init__(self, max_s: float) -> None:
        self._left_s = max_s

    def may_have_tables(self, found: PageLines) -> bool:
        """Return whether edges are drawn at three heights and at three widths, which is the least that a grid has."""
        if len(found.lines) < _MIN_LINES or len(found.drawn) > _MAX_VECTORS:
            return False
        heights: set[int] = set()
        widths: set[int] = set()
        for x0, y0, x1, y1 in found.drawn:
            if x1 - x0 > _MIN_EDGE:
                heights |= {round(y0 / _GRID), round(y1 / _GRID)}
            if y1 - y0 > _MIN_EDGE:
                widths |= {round(x0 / _GRID), round(x1 / _GRID)}
        return len(heights) >= 3 and len(widths) >= 3

    @property
    def is_out_of_time(self) -> bool:
        """Whether the limit is reached: tables are then read as lines."""
        return self._left_s <= 0

    def join_rows(self, page: pymupdf.Page, found: PageLines) -> list[Line]:
        """Return the lines of a page with the rows of every ruled table in place of its lines.

        found: read with characters. A table whose cells do not hold all characters of its lines keeps the others.
        """
        start = time.perf_counter()
        try:
            # tables are found on the page in its own rotation
            matrix = page.derotation_matrix * turned(page, found.turn)[0] if found.turn != page.rotation else None
            tables = [_table(table, matrix) for table in page.find_tables().tables]
            tables = [table for table in tables if len(table.rows) > 1 and max(map(len, table.rows)) > 1]
            return _replace_lines(found, tables)
        finally:
            self._left_s -= time.perf_counter() - start


@dataclass(frozen=True, kw_only=True)
class _Table:
    """box: of the table. rows: the box of each cell, None where a cell of another row or column spans."""

    box: Box
    rows: list[list[Box | None]]


def _table(table: Any, matrix: pymupdf.Matrix | None) -> _Table:
    """The cells of a table that was found; on a turned page they are put into rows again."""
    if matrix is None:
        rows = [[tuple(cell) if cell else None for cell in row.cells] for row in table.rows]
        return _Table(box=tuple(table.bbox), rows=rows)
    by_height: dict[int, list[Box | None]] = defaultdict(list)
    for cell in table.cells:
        box = pymupdf.Rect(cell) * matrix
        by_height[round(box.y0)].append(tuple(box))
    rows = [sorted(by_height[height], key=lambda cell: cell or ()) for height in sorted(by_height)]
    return _Table(box=tuple(pymupdf.Rect(table.bbox) * matrix), rows=rows)


def _replace_lines(found: PageLines, tables: list[_Table]) -> list[Line]:
    """The lines outside of the tables, and the rows of each table where its first line was."""
    order: list[Line | int] = []
    inside: dict[int, list[int]] = {}
    for number, line in enumerate(found.lines):
        owner = next((index for index, table in enumerate(tables) if _touches(line, table.box)), None)
        if owner is None or not line.text:
            order.append(line)
        elif owner in inside:
            inside[owner].append(number)
        else:
            inside[owner] = [number]
            order.append(owner)
    result: list[Line] = []
    for item in order:
        result += [item] if isinstance(item, Line) else _table_lines(found, tables[item], inside[item])
    return result


def _touches(line: Line, box: Box) -> bool:
    """Whether the line stands in the height of the box and at least partly in its width."""
    middle = (line.y0 + line.y1) / 2
    return box[1] <= middle <= box[3] and line.x0 < box[2] and line.x1 > box[0]


def _overlaps(inner: Box, box: Box) -> bool:
    return inner[0] < box[2] and inner[2] > box[0] and inner[1] < box[3] and inner[3] > box[1]


def _table_lines(found: PageLines, table: _Table, numbers: list[int]) -> list[Line]:
    """One line for each row; if the cells lack or double any character, the lines as they were."""
    lines = [found.lines[number] for number in numbers]
    raws = [found.raw[number] for number in numbers]
    rows: list[Line] = []
    held: Counter[str] = Counter()
    num_cells = 0  # with text, in one row: a drawing has no two
    is_rtl = is_right_to_left("".join(line.text for line in lines))
    for cells in table.rows:
        texts: list[str] = []
        known = [box for box in cells if box]
        top, bottom = min((box[1] for box in known), default=0.0), max((box[3] for box in known), default=0.0)
        beside = [raw for raw in raws if raw["bbox"][1] < bottom and raw["bbox"][3] > top]
        for box in cells:
            parts = [line_inside(raw, box) for raw in beside if _overlaps(raw["bbox"], box)] if box else []
            held.update("".join(characters for _, characters in parts))
            texts.append(_cell_text(in_reading_order([line for line, _ in parts if line])))
        if is_rtl:
            texts.reverse()
        if any(texts):
            num_cells = max(num_cells, sum(map(bool, texts)))
            rows.append(replace(lines[0], text=" | ".join(texts), x0=table.box[0], x1=table.box[2], y0=top, y1=bottom))
    all_characters = Counter(char for raw in raws for span in raw["spans"] for char in span["text"])
    for space in " \u00a0":
        del held[space], all_characters[space]
    return rows if held == all_characters and num_cells > 1 else lines


def _cell_text(lines: list[Line]) -> str:
    """The lines of a cell as one; a word that is divided between them has U+00AD, which `join_words` takes out.

    Code, in a font of one width, keeps its hyphens. Chinese and Japanese have no spaces between lines.
    """
    text = ""
    for line in lines:
        if _DIVIDED.search(text) and line.text[:1].islower():
            text = text[:-1] + ("-" if line.char_width else "\u00ad") + line.text
        else:
            is_cjk = CJK.match(text[-1:]) and CJK.match(line.text)
            is_address = text.endswith(("http:", "https:")) and line.text.startswith("//")
            text += ("" if is_cjk or is_address or not text else " ") + line.text
    return text
