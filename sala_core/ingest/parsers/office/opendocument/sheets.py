"""The sheets of OpenDocument spreadsheets (OpenDocument 1.3, part 3, section 9)."""

from ..render import render
from ..sheets.rows import Sheet, column_name
from ..xml_tree import Node
from .styles import OdfStyles
from .text import OdfReader

_MAX_REPEATED = 1000  # rows or cells with the same text
_HIDDEN = ("collapse", "filter")


class SheetReader:
    """Reads sheets. num_formulas: cells without a stored value. is_over: more characters than the limit."""

    def __init__(self, reader: OdfReader, styles: OdfStyles, max_bytes: int) -> None:
        """Prepare to read the sheets of a document.

        Args:
            reader: of the texts in cells.
            styles: of the document.
            max_bytes: most characters of all cells together.
        """
        self.num_formulas = 0
        self.is_over = False
        self._reader = reader
        self._styles = styles
        self._left = max_bytes
        self._sheet = Sheet(name="")
        self._row = 0

    def read(self, table: Node) -> Sheet:
        """Return one sheet."""
        shown = self._styles.value("table", table.get("table:style-name"), "table-properties", "table:display")
        self._sheet = Sheet(name=table.get("table:name"), state="hidden" if shown == "false" else "")
        self._row = 0
        column = 0
        for node in table.below("table:table-column"):
            count = _repeated(node, "table:number-columns-repeated")
            if node.get("table:visibility") in _HIDDEN:
                self._sheet.hidden_columns.update(range(column, column + min(count, _MAX_REPEATED)))
            column += count
        self._rows(table)
        shapes = table.child("table:shapes")
        text = render([block for shape in shapes.nodes for block in self._reader.drawing(shape)]) if shapes else ""
        self._sheet.after += ["", text.strip("\n")] if text else []
        return self._sheet

    def _rows(self, parent: Node) -> None:
        for node in parent.nodes:
            if node.name == "table:table-row":
                self._one_row(node)
            elif node.name in ("table:table-header-rows", "table:table-rows", "table:table-row-group"):
                self._rows(node)

    def _one_row(self, row: Node) -> None:
        count = _repeated(row, "table:number-rows-repeated")
        cells: dict[int, str] = {}
        column = 0
        for cell in row.all("table:table-cell", "table:covered-table-cell"):
            repeated = _repeated(cell, "table:number-columns-repeated")
            text = self._cell(cell, column)
            if text:
                for index in range(min(repeated, _MAX_REPEATED)):
                    cells[column + index] = text
                rows = cell.get("table:number-rows-spanned")
                if rows.isdigit() and int(rows) > 1:
                    self._sheet.merges.append((self._row, column, self._row + int(rows) - 1, column))
            column += repeated
        if cells:
            for index in range(min(count, _MAX_REPEATED)):
                self._sheet.rows[self._row + index] = dict(cells)
                self._left -= sum(map(len, cells.values()))
                if row.get("table:visibility") in _HIDDEN:
                    self._sheet.hidden_rows.add(self._row + index)
        self.is_over = self._left < 0
        self._row += count

    def _cell(self, cell: Node, column: int) -> str:
        for note in cell.all("office:annotation"):
            author = note.child("dc:creator")
            by = f" by {author.text()}" if author and author.text() else ""
            if text := self._reader.line(note.all("text:p", "text:list")):
                place = f"{column_name(column)}{self._row + 1}"
                self._sheet.after.append(f"[Comment{by} on {place}: {text}]")
        content = [node for node in cell.nodes if node.name != "office:annotation"]
        if text := self._reader.line(content):
            return text
        stored = cell.get("office:value") or cell.get("office:string-value") or cell.get("office:date-value")
        stored = stored or cell.get("office:time-value") or cell.get("office:boolean-value").upper()
        if not stored and cell.get("table:formula") and not cell.get("office:value-type"):
            self.num_formulas += 1
            return "=" + cell.get("table:formula").partition(":=")[2]
        return stored


def _repeated(node: Node, key: str) -> int:
    value = node.get(key)
    return max(1, min(int(value), 1 << 24)) if value.isdigit() else 1
