"""The cells of an HTML table as rows of equal columns."""

from dataclasses import dataclass, field

from .tree import Element

_MAX_ROWSPAN = 65_534  # WHATWG HTML, section 4.9.11
_MAX_REPEATED_CHARS = 80  # a longer text is not repeated in the rows that its cell spans
_GROUPS = ("thead", "tbody", "tfoot")


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A cell. num_rows is 0 if it spans all that follow."""

    element: Element
    num_columns: int
    num_rows: int


@dataclass(frozen=True, kw_only=True)
class Table:
    """rows: the cells of each row, those of `tfoot` last. loose: all else in the table, captions among it."""

    rows: list[list[Cell]] = field(default_factory=list)
    loose: list[Element | str] = field(default_factory=list)


def collect_cells(table: Element) -> Table:
    """Return the cells of a table in the order in which its rows are shown, and the content outside of cells."""
    found, footer = Table(), Table()
    _collect(table, found, footer)
    return Table(rows=found.rows + footer.rows, loose=found.loose)


def _collect(parent: Element, found: Table, footer: Table) -> None:
    is_row_open = False
    for child in parent.children:
        if isinstance(child, str):
            if child.strip():
                found.loose.append(child)
        elif child.name in ("td", "th"):
            if parent.name != "tr" and not is_row_open:
                found.rows.append([])
                is_row_open = True
            if not found.rows:
                found.rows.append([])
            found.rows[-1].append(
                Cell(element=child, num_columns=_span(child, "colspan", 1), num_rows=_span(child, "rowspan", 0))
            )
        elif child.name == "tr":
            is_row_open = False
            found.rows.append([])
            _collect(child, found, footer)
        elif child.name in _GROUPS:
            _collect(child, footer if child.name == "tfoot" else found, footer)
        elif child.name == "form":  # around rows, in careless markup
            _collect(child, found, footer)
        else:
            found.loose.append(child)


def _span(cell: Element, name: str, least: int) -> int:
    value = cell.get(name).strip()
    if not (value.isascii() and value.isdigit()) or len(value) > 6:
        return 1
    return max(least, min(int(value), _MAX_ROWSPAN))


def lay_out(rows: list[list[Cell]], texts: list[list[str]]) -> list[list[str]]:
    """Return one list of texts per row, in which every text stands in its column.

    A text that spans rows is repeated in each, as is a heading (`th`) in the columns that it spans, unless it is alone
    in its row; other cells that span columns are followed by empty ones. rows, texts: the same cells.
    """
    max_columns = _max_columns(rows)
    num_left = 1000 + 20 * sum(len(row) for row in rows)  # cells: spans must not fill the memory
    grid: list[list[str]] = []
    spanning: dict[int, tuple[int, str]] = {}  # column -> (rows left, text)
    for index, (row, row_texts) in enumerate(zip(rows, texts, strict=True)):
        line: list[str] = []
        next_spanning: dict[int, tuple[int, str]] = {}
        is_title = len(row) == 1 and not spanning
        for cell, text in zip(row, row_texts, strict=True):
            while len(line) in spanning:
                line.append(spanning[len(line)][1])
            num_rows = min(cell.num_rows or len(rows), len(rows) - index) - 1
            for offset in range(min(cell.num_columns, max_columns) if num_left > 0 else 1):
                shown = text if offset == 0 or (cell.element.name == "th" and not is_title) else ""
                if num_rows > 0 and num_left > 0:
                    next_spanning[len(line)] = (num_rows, shown if len(shown) <= _MAX_REPEATED_CHARS else "")
                line.append(shown)
        if row:
            line += [spanning.get(column, (0, ""))[1] for column in range(len(line), max(spanning, default=-1) + 1)]
        num_left -= len(line)
        spanning = {column: (count - 1, text) for column, (count, text) in spanning.items() if count > 1}
        spanning = spanning | next_spanning if num_left > 0 else {}
        grid.append(line)
    return grid


def _max_columns(rows: list[list[Cell]]) -> int:
    """Columns of the widest row. A row of one cell that spans any number of columns says nothing about it."""
    widths = (sum(cell.num_columns for cell in row) for row in rows if len(row) > 1)
    return max(max(widths, default=1), 1)
