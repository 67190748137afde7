"""The cells of one worksheet, read row by row (ECMA-376 part 1, section 18.3)."""

import re

from ..xml_stream import ElementStream
from ..xml_tree import Node
from .rows import Sheet, cell_position
from .workbook import SharedStrings, WorkbookStyles, rich_text

_BLANKS = re.compile(r"\s*[\r\n]+\s*|[\t\r\n]")
_MARGIN_CODE = re.compile(r'&(?:"[^"]*"|K[0-9A-Fa-f]{6}|K\d\d[+-]\d{3}|\d{1,3}|[LCRBIUSXYEGAPNDTFZOH&])')
_MARGIN_WORDS = {"&&": "&", "&L": " ", "&C": " ", "&R": " "}
_MAX_ROWS = 1_048_576
_MAX_COLUMNS = 16_384


class Worksheet:
    """Fills a `Sheet`. margins: headers and footers. num_formulas: without a stored value. is_over: of the limit."""

    def __init__(self, sheet: Sheet, styles: WorkbookStyles, strings: SharedStrings, max_bytes: int) -> None:
        """Prepare to fill a sheet.

        Args:
            sheet: to be filled.
            styles: formats of the workbook.
            strings: texts of the workbook.
            max_bytes: most characters of all cells together.
        """
        self.margins: list[str] = []
        self.num_formulas = 0
        self.is_over = False
        self._sheet = sheet
        self._styles = styles
        self._strings = strings
        self._left = max_bytes
        self._row = -1

    def read(self, data: bytes) -> str:
        """Read the part of a sheet. Returns what is wrong with it, or ""."""
        elements = ElementStream(
            data, "row", "mergeCell", "col", "oddHeader", "oddFooter", "firstHeader", "firstFooter"
        )
        for node in elements:
            match node.name:
                case "s:row":
                    self._read_row(node)
                case "s:mergeCell":
                    self._merge(node.get("ref"))
                case "s:col":
                    self._column(node)
                case _:
                    kind = "Header" if node.name.endswith("Header") else "Footer"
                    shown = _MARGIN_CODE.sub(lambda match: _MARGIN_WORDS.get(match[0], ""), node.text())
                    if words := " ".join(shown.split()):
                        self.margins.append(f"[{kind}: {words}]")
            if self.is_over:
                break
        self.margins = list(dict.fromkeys(self.margins))
        return elements.problem

    def _read_row(self, row: Node) -> None:
        number = row.get("r")
        self._row = int(number) - 1 if number.isdigit() and 0 < int(number) <= _MAX_ROWS else self._row + 1
        cells: dict[int, str] = {}
        column = -1
        for cell in row.all("s:c"):
            position = cell_position(cell.get("r"))
            column = position[1] if position and position[1] < _MAX_COLUMNS else column + 1
            if text := self._cell(cell):
                cells[column] = text
                self._left -= len(text)
        self.is_over = self._left < 0
        if cells:
            self._sheet.rows[self._row] = cells
            if row.get("hidden") in ("1", "true"):
                self._sheet.hidden_rows.add(self._row)

    def _cell(self, cell: Node) -> str:
        kind, style = cell.get("t", "n"), cell.get("s")
        value = cell.child("s:v")
        stored = value.text() if value else ""
        if kind == "inlineStr":
            inline = cell.child("s:is")
            text = rich_text(inline) if inline else ""
            return _one_line(self._styles.text(text, style))
        if not stored.strip():
            formula = cell.child("s:f")
            if formula is not None and kind != "str":  # an empty text is a value
                self.num_formulas += 1
                return _one_line("=" + (formula.text().strip() or "?"))
            return _one_line(self._styles.text(stored, style))
        if kind == "s":
            index = int(stored) if stored.strip().isdigit() else -1
            if not 0 <= index < len(self._strings.values):
                return "\ufffd"
            text = self._strings.values[index]
            if cell.get("ph") in ("1", "true") and (reading := self._strings.readings.get(index)):
                text += f"({reading})"
            return _one_line(self._styles.text(text, style))
        if kind == "b":
            return self._styles.struck("TRUE" if stored.strip() in ("1", "true") else "FALSE", style)
        if kind in ("str", "e", "d"):
            return _one_line(self._styles.text(stored, style))
        return self._styles.number(stored.strip(), style)

    def _merge(self, reference: str) -> None:
        first, _, last = reference.partition(":")
        start, end = cell_position(first), cell_position(last or first)
        if start and end:
            self._sheet.merges.append((*start, *end))

    def _column(self, node: Node) -> None:
        if node.get("hidden") in ("1", "true") and node.get("min").isdigit() and node.get("max").isdigit():
            last = min(int(node.get("max")), _MAX_COLUMNS)
            self._sheet.hidden_columns.update(range(int(node.get("min")) - 1, last))


def _one_line(text: str) -> str:
    """The lines of a cell as one."""
    return _BLANKS.sub(" ", text).strip()
