"""The paragraphs and tables of one story of a Rich Text document: its body, a note, a header or a text box."""

from bisect import bisect_right
from dataclasses import dataclass, field

from ...html.tree import Element
from ..formats import Format, formatted
from ..render import element, grouped

Blocks = list[Element | str]
_EDGE_TWIPS = 20  # edges of cells that are nearer are one


@dataclass(kw_only=True)
class CellDefinition:
    """What a row says about one of its cells. is_..._covered: it continues the cell there. right: edge, in twips."""

    is_left_covered: bool = False
    is_above_covered: bool = False
    right: int = 0


class RowDefinition:
    """The cells of the next row, as its control words define them. is_header: it is repeated on each page."""

    def __init__(self) -> None:
        self.cells: list[CellDefinition] = []
        self.is_header = False
        self._next = CellDefinition()

    def word(self, word: str, number: int) -> bool:
        """Take a control word about rows and cells. False if it is about something else."""
        match word:
            case "trowd":
                self.cells, self._next, self.is_header = [], CellDefinition(), False
            case "trhdr":
                self.is_header = True
            case "clmrg":
                self._next.is_left_covered = True
            case "clvmrg":
                self._next.is_above_covered = True
            case "cellx":
                self._next.right = number
                self.cells.append(self._next)
                self._next = CellDefinition()
            case _:
                return False
        return True


@dataclass(kw_only=True)
class _Cell:
    blocks: Blocks
    name: str = "td"
    num_columns: int = 1
    num_rows: int = 1
    right: int = 0
    is_covered: bool = False


@dataclass(kw_only=True)
class _Table:
    rows: list[list[_Cell]] = field(default_factory=list)
    cells: list[Blocks] = field(default_factory=list)
    blocks: Blocks = field(default_factory=list)
    columns: dict[int, _Cell] = field(default_factory=dict)
    """Right edge -> cell of the row before."""

    def element(self) -> Element:
        self._span_columns()
        made = [
            element("tr", *(_cell_element(cell) for cell in row if not cell.is_covered))
            for row in [*self.rows, *([[_Cell(blocks=blocks) for blocks in self.cells]] if self.cells else [])]
        ]
        return element("table", *made)

    def _span_columns(self) -> None:
        """Let a cell span the columns that other rows have between its edges."""
        if not all(cell.right for row in self.rows for cell in row):
            return
        edges: list[int] = []
        for right in sorted({cell.right for row in self.rows for cell in row}):
            if not edges or right > edges[-1] + _EDGE_TWIPS:
                edges.append(right)
        for row in self.rows:
            before = 0
            for cell in row:
                last = bisect_right(edges, cell.right)
                cell.num_columns = max(1, last - before)
                before = max(last, before + 1)


def _cell_element(cell: _Cell) -> Element:
    return element(cell.name, *cell.blocks, colspan=str(cell.num_columns), rowspan=str(cell.num_rows))


class Story:
    """Collects text, and ends paragraphs, cells and rows. notes: follow the present paragraph."""

    def __init__(self) -> None:
        self.notes: Blocks = []
        self._blocks: Blocks = []
        self._spans: list[tuple[Format, Element | str]] = []
        self._tables: list[_Table] = []

    def add(self, piece: Element | str, form: Format) -> None:
        """Add text or an element to the present paragraph."""
        self._spans.append((form, piece))

    def replace_last(self, old: str, new: str) -> bool:
        """Replace the last piece of the present paragraph if it is `old`. Returns whether it is."""
        if self._spans and self._spans[-1][1] == old:
            self._spans[-1] = self._spans[-1][0], new
            return True
        return False

    @property
    def has_words(self) -> bool:
        """Whether the present paragraph holds anything that is shown."""
        return any(
            piece.strip() if isinstance(piece, str) else piece.name not in ("br", "tab") for _, piece in self._spans
        )

    def paragraph(self, level: int, mark: str = "", *, heading: int = 0, indent: int = 0) -> None:
        """End a paragraph.

        Args:
            level: number of tables around it.
            mark: of a list item.
            heading: 1 to 6, 0 for none.
            indent: number of lists around a list item.
        """
        self._close(level)
        target = self._tables[level - 1].blocks if level else self._blocks
        if self.has_words:
            content = formatted(self._spans)
            if heading:
                target.append(element(f"h{heading}", f"{mark} " if mark.strip("-·•") else "", *content))
            elif mark:
                shown = "-" if not mark.isascii() and len(mark) == 1 else mark
                target.append(element("item", *content, mark=shown, level=str(indent)))
            else:
                target.append(element("p", *content))
        self._spans = []
        if self.notes and not level:
            target += self.notes
            self.notes = []

    def cell(self, level: int) -> None:
        """End a cell of a table."""
        level = max(level, 1)
        self._close(level)
        table = self._tables[level - 1]
        table.cells.append(grouped(table.blocks))
        table.blocks = []

    def row(self, level: int, definition: RowDefinition) -> None:
        """End a row of a table."""
        level = max(level, 1)
        self._close(level)
        table = self._tables[level - 1]
        cells: list[_Cell] = []
        columns: dict[int, _Cell] = {}
        for index, blocks in enumerate(table.cells):
            found = definition.cells[index] if index < len(definition.cells) else CellDefinition()
            edge = found.right or -index
            above = table.columns.get(edge)
            if found.is_left_covered and cells and not blocks:
                cells[-1].num_columns += 1
                cells[-1].right = found.right
                columns[edge] = cells[-1]
            elif found.is_above_covered and above is not None and not blocks:
                above.num_rows += 1
                columns[edge] = above
                covered = _Cell(blocks=[], right=found.right, is_covered=True)
                cells.append(covered)
            else:
                cells.append(_Cell(blocks=blocks, name="th" if definition.is_header else "td", right=found.right))
                columns[edge] = cells[-1]
        table.columns = columns
        table.cells, table.blocks = [], []
        table.rows.append(cells)

    def finished(self) -> Blocks:
        """Return all blocks."""
        if self.has_words:
            self.paragraph(0)
        self._close(0)
        self._blocks += self.notes
        self.notes = []
        return grouped(self._blocks)

    def _close(self, level: int) -> None:
        """End the tables inside of others that are deeper than a level, and begin those up to it."""
        while len(self._tables) > level:
            table = self._tables.pop()
            if table.blocks:
                table.cells.append(grouped(table.blocks))
            if table.rows or table.cells:
                (self._tables[-1].blocks if self._tables else self._blocks).append(table.element())
        while len(self._tables) < level:
            self._tables.append(_Table())
