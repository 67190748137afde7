"""Rows of a CSV or TSV text: where each begins, and the header. A line break inside quotation marks ends no row."""

import csv
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

_DELIMITERS = ",;\t|"
_SAMPLE_CHARS = 64 << 10
_SAMPLE_ROWS = 200
_MAX_HEADER_CHARS = 400
_MAX_ROW_LINES = 1000
_MAX_BROKEN_ROWS = 20


@dataclass(frozen=True, kw_only=True, eq=False)
class TableRows:
    """The rows of a table. Rows count from 1 as in a spreadsheet: the header is row 1.

    delimiter: between the cells. header: the names of the columns as written, on one line, cut to 400 characters; "" if
    the first row is data. row_lines: int64 [rows], the 1-based line at which each row begins.
    """

    delimiter: str
    header: str
    row_lines: NDArray[np.int64] = field(repr=False)

    def at(self, line_start: int, line_end: int) -> tuple[int, int]:
        """Return the first and last row of a range of lines, inclusive."""
        first, last = np.searchsorted(self.row_lines, (line_start, line_end), side="right")
        return max(1, int(first)), max(1, int(last))


def table_rows(text: str, line_starts: NDArray[np.int64]) -> TableRows:
    """Find the rows of a table. line_starts: int64 [lines], character offset of each line; the first is 0.

    A quotation mark that is never closed would join all that follows to one row: a row of more than 1,000 lines, or
    with a cell of more than 128 KiB, ends with its first line instead.
    """
    delimiter, skip = _delimiter(text)
    starts: list[int] = []
    line, num_broken = 0, 0
    while line < len(line_starts):
        lines = _lines(text, line_starts[line:])
        if num_broken <= _MAX_BROKEN_ROWS:
            reader = csv.reader(lines, delimiter=delimiter)
        else:
            reader = csv.reader(lines, delimiter=delimiter, quoting=csv.QUOTE_NONE)
        base, begin = line, line
        try:
            for _ in reader:
                if base + reader.line_num - begin > _MAX_ROW_LINES:
                    break
                starts.append(begin + 1)
                begin = base + reader.line_num
            else:
                break
        except csv.Error:
            pass
        starts.append(begin + 1)
        line, num_broken = begin + 1, num_broken + 1
    header = _header(text, delimiter, skip)
    return TableRows(delimiter=delimiter, header=header, row_lines=np.array(starts or [1], np.int64))


def sheet_header(text: str, start: int) -> str:
    """Return the names of the columns of a spreadsheet's sheet: its first row, "" if that holds numbers.

    start: character offset of the sheet, which begins with its name as a heading.
    """
    rows = [line for line in text[start : start + _SAMPLE_CHARS].split("\n")[1:8] if line.strip()]
    cells = [cell.strip() for cell in rows[0].split(" | ")] if len(rows) > 1 else []
    if len(cells) < 2 or any(_is_number(cell) for cell in cells) or sum(map(bool, cells)) < 2:
        return ""
    shown = ", ".join(cells)
    return shown if len(shown) <= _MAX_HEADER_CHARS else shown[:_MAX_HEADER_CHARS] + "…"


def _lines(text: str, starts: NDArray[np.int64]) -> Iterator[str]:
    """The lines of `text` that begin at `starts`, with their line breaks. An empty one at the end is no line."""
    for index, start in enumerate(starts):
        end = int(starts[index + 1]) if index + 1 < len(starts) else len(text)
        if start < len(text):
            yield text[start:end]


def _delimiter(text: str) -> tuple[str, int]:
    """(delimiter, rows before the header). A first line `sep=;`, as spreadsheets write it, decides."""
    first = text[:8].split("\n")[0].strip()
    if first.lower().startswith("sep=") and len(first) == 5:
        return first[4], 1
    if first.lower() == "sep=":  # a tab, stripped
        return "\t", 1
    return max(_DELIMITERS, key=lambda delimiter: _evenness(_sample(text, delimiter))), 0


def _evenness(rows: Sequence[Sequence[str]]) -> tuple[float, int]:
    """How much the rows look like those of a table: the share of those with the most frequent number of cells."""
    counts = Counter(len(row) for row in rows if row)
    if not counts:
        return 0.0, 0
    cells, number = max(counts.items(), key=lambda item: (item[0] > 1, item[1], item[0]))
    return (number / counts.total(), cells) if cells > 1 else (0.0, 1)


def _sample(text: str, delimiter: str) -> list[list[str]]:
    rows: list[list[str]] = []
    try:
        for row in csv.reader(text[:_SAMPLE_CHARS].splitlines(keepends=True), delimiter=delimiter):
            rows.append(row)
            if len(rows) > _SAMPLE_ROWS:
                break
    except csv.Error:
        return rows
    return rows[:-1] if len(text) > _SAMPLE_CHARS and len(rows) <= _SAMPLE_ROWS else rows  # the last may be cut


def _header(text: str, delimiter: str, skip: int) -> str:
    """The names of the columns; "" if a cell of the first row is empty or a number, or there is no other row."""
    rows = [row for row in _sample(text, delimiter) if row][skip : skip + 2]
    if len(rows) < 2 or not all(cell.strip() and not _is_number(cell) for cell in rows[0]):
        return ""
    shown = ", ".join(" ".join(cell.split()) for cell in rows[0])
    return shown if len(shown) <= _MAX_HEADER_CHARS else shown[:_MAX_HEADER_CHARS] + "…"


def _is_number(cell: str) -> bool:
    return any(char.isdigit() for char in cell) and not any(char.isalpha() for char in cell)
