"""Rows of cells as lines of text: one line per row, ` | ` between cells, as the tables of web pages."""

from bisect import bisect_right
from dataclasses import dataclass, field

SEPARATOR = " | "
_MAX_REPEATED_CHARS = 80  # a longer text is not repeated in the rows that its cell spans
_MAX_COVERED = 200_000  # cells that merges fill


@dataclass(kw_only=True)
class Sheet:
    """One sheet while it is read. rows: number of a row from 0 -> (column from 0 -> text), only cells with text.

    merges: (first row, first column, last row, last column). after: lines that follow the rows.
    """

    name: str
    state: str = ""
    rows: dict[int, dict[int, str]] = field(default_factory=dict)
    merges: list[tuple[int, int, int, int]] = field(default_factory=list)
    hidden_rows: set[int] = field(default_factory=set)
    hidden_columns: set[int] = field(default_factory=set)
    after: list[str] = field(default_factory=list)


def column_name(index: int) -> str:
    """0 -> A, 26 -> AA."""
    name = ""
    index += 1
    while index:
        index, rest = divmod(index - 1, 26)
        name = chr(ord("A") + rest) + name
    return name


def cell_position(reference: str) -> tuple[int, int] | None:
    """`B3` -> (2, 1), row and column from 0; None if it names no cell."""
    letters = reference.replace("$", "").rstrip("0123456789")
    digits = reference.replace("$", "")[len(letters) :]
    if not (letters.isascii() and letters.isalpha() and digits and len(letters) <= 3):
        return None
    column = 0
    for letter in letters.upper():
        column = column * 26 + ord(letter) - ord("A") + 1
    return int(digits) - 1, column - 1


def formula_note(num_formulas: int) -> list[str]:
    """Return a note on formulas without a stored value, [] if there is none."""
    if num_formulas == 1:
        return ["1 formula has no stored value and is shown as a formula"]
    return [f"{num_formulas:,} formulas have no stored value and are shown as formulas"] if num_formulas else []


def sheet_text(sheet: Sheet) -> str:
    """Return a sheet: its name as a heading, its rows, and what follows them.

    Columns without any text are left out, and of empty rows one is kept. A text that spans rows stands in each.
    """
    _fill_merges(sheet)
    lines = [f"## Sheet: {sheet.name}{f' ({sheet.state})' if sheet.state else ''}", ""]
    columns = sorted({column for row in sheet.rows.values() for column in row})
    if hidden := [column_name(column) for column in columns if column in sheet.hidden_columns]:
        lines += [f"(hidden columns: {', '.join(hidden)})"]
    previous = None
    for number in sorted(sheet.rows):
        row = sheet.rows[number]
        if previous is not None and number > previous + 1:
            lines.append("")
        mark = "[hidden row] " if number in sheet.hidden_rows else ""
        last = max(row)
        lines.append(mark + SEPARATOR.join(row.get(column, "") for column in columns if column <= last))
        previous = number
    if sheet.after:
        lines += ["", *sheet.after]
    return "\n".join(lines).rstrip("\n") + "\n\n"


def _fill_merges(sheet: Sheet) -> None:
    num_left, numbers = _MAX_COVERED, sorted(sheet.rows)
    for top, left, bottom, _ in sheet.merges:
        text = sheet.rows.get(top, {}).get(left, "")
        if not text or len(text) > _MAX_REPEATED_CHARS:
            continue
        begin, end = bisect_right(numbers, top), bisect_right(numbers, bottom)
        for number in numbers[begin : min(end, begin + num_left)]:  # an empty row stays empty
            sheet.rows[number].setdefault(left, text)
            num_left -= 1
