"""A table as text: one line per row, or one cell below the other where a table only arranges a page."""

import re
from typing import Protocol

from .tables import collect_cells, lay_out
from .tree import Element
from .writer import Writer

_LAYOUT_SHARE = 5  # a table arranges a page if more than one of so many rows holds what one line cannot


class CellRenderer(Protocol):
    """What a table needs of the renderer."""

    writer: Writer
    num_items: int
    num_cells: int
    has_blocks: bool

    def render(self, nodes: list[Element | str]) -> None:
        """Write nodes."""

    def cell_text(self, cell: Element) -> str:
        """Return the text of a cell."""


def write_table(renderer: CellRenderer, element: Element) -> None:
    """Write a table and what stands outside of its cells."""
    writer = renderer.writer
    table = collect_cells(element)
    newlines = 1 if renderer.num_items else 2
    writer.line(newlines)
    renderer.render(table.loose)
    writer.line()
    outer_blocks, renderer.has_blocks = renderer.has_blocks, False
    texts: list[list[str]] = []
    block_rows: set[int] = set()  # with a cell that one line cannot hold
    for index, row in enumerate(table.rows):
        texts.append([])
        for cell in row:
            renderer.has_blocks = False
            text = renderer.cell_text(cell.element)
            if renderer.has_blocks and "\n" in text:
                block_rows.add(index)
            texts[-1].append(text)
    is_layout = element.get("role") in ("presentation", "none") or max(map(len, table.rows), default=0) == 1
    is_layout |= len(block_rows) > (0 if renderer.num_cells else len(table.rows) // _LAYOUT_SHARE)
    if is_layout:
        _write_cells(writer, texts)
    else:
        rows = lay_out(table.rows, [[_one_line(text) for text in row] for row in texts])
        blocks = {index: texts[index] for index in block_rows}
        _write_rows(writer, rows, blocks, is_inside=renderer.num_cells > 0)
    renderer.has_blocks = outer_blocks or is_layout or bool(block_rows)
    writer.line(newlines)


def _write_cells(writer: Writer, texts: list[list[str]]) -> None:
    """The cells of a table that only arranges a page, one below the other."""
    for text in (text for row in texts for text in row if text):
        writer.line(2 if "\n" in text else 1)
        writer.glued(text)
        writer.line(2 if "\n" in text else 1)


def _write_rows(writer: Writer, rows: list[list[str]], blocks: dict[int, list[str]], *, is_inside: bool) -> None:
    """One line per row, but the cells of `blocks` one below the other; inside a cell of another table one line in all.

    Args:
        writer: of the page.
        rows: the texts of the cells in their columns.
        blocks: number of a row -> the texts of its cells, of one or more lines.
        is_inside: the table stands in a cell of another.
    """
    if is_inside:
        lines = [", ".join(filter(None, row)) for row in rows]
        writer.apart("; ".join(filter(None, lines)))
        return
    for index, row in enumerate(rows):
        if index in blocks:
            _write_cells(writer, [blocks[index]])
        elif any(row):
            writer.glued(" | ".join(row).rstrip())
            writer.line()


def _one_line(text: str) -> str:
    """The lines of a cell as one, without the marks of headings."""
    if "\n" not in text and not text.startswith("#"):
        return text.strip()
    return " ".join(re.sub("^#{1,6} ", "", line.strip()) for line in text.split("\n") if line.strip())
