"""Word documents (.docx, .docm, .dotx) to text, read from their XML (ECMA-376 part 1, section 17).

Everything that a reader of the document sees is in the text; notes follow the paragraph that refers to them.
"""

from dataclasses import dataclass, field

from ...failures import PIECE_FAILURES
from ...html.tree import Element, parse_tree
from ...result import Parsed, ParseError, ParseLimits, normalize_text
from ..numbering import Numbering
from ..package import Package, macro_note, merged_notes, open_package
from ..render import PAGE_MARK, element, grouped, render, without_page_marks
from ..xml_tree import Node
from .notes import Notes
from .runs import Runs
from .styles import Styles

_WHAT = "a Word document"
_DEFAULT_PART = "word/document.xml"


def parse_docx(path: str, limits: ParseLimits) -> Parsed:
    """Return the text of a Word document. Its pages are those that Word last laid out, if the file tells.

    Raises ParseError for a document that is encrypted, damaged beyond repair or empty, and for one over the limits.
    """
    with open_package(path, limits, _WHAT) as members:
        package = Package(members)
        main, root = _main_part(package)
        text = normalize_text(_Document(package, main).text(root))
        notes = package.notes + macro_note(package)
    text, page_starts = without_page_marks(text)
    if not text.strip():
        raise ParseError(f"{_WHAT} without any text")
    if len(text.encode()) > limits.max_text_bytes:
        raise ParseError(f"more than {limits.max_text_bytes / 2**20:,.1f} MiB of text")
    return Parsed(text=text, page_starts=page_starts, warnings=merged_notes(notes))


def _main_part(package: Package) -> tuple[str, Node]:
    """(name, tree) of the part with the text, by its place if what refers to it is damaged."""
    others = [name for name in package.names if name.lower().endswith("document.xml")]
    for name in dict.fromkeys([*package.related("", "officeDocument"), _DEFAULT_PART, *others]):
        if package.has(name) and (root := package.tree(name)) is not None:
            return name, root
    raise ParseError(f"{_WHAT} that is damaged: its text cannot be found")


@dataclass(kw_only=True)
class _Cell:
    """A cell of a table. column: of the grid, from 0. merge: over rows, as `_cell_spans` tells."""

    column: int
    num_columns: int
    merge: str = ""
    blocks: list[Element | str] = field(default_factory=list)
    name: str = "td"
    num_rows: int = 1
    is_covered: bool = False

    def element(self) -> Element:
        """Return the cell as the HTML renderer reads it."""
        return element(self.name, *self.blocks, colspan=str(self.num_columns), rowspan=str(self.num_rows))


class _Document:
    """Turns the blocks of a document into elements, in order, because numbers and fields go on from one to the next."""

    def __init__(self, package: Package, part: str) -> None:
        self._package = package
        self._part = part
        one = {kind: next(iter(package.related(part, kind)), "") for kind in ("styles", "numbering", "settings")}
        self._styles = Styles(package.optional(one["styles"]))
        self._numbering = Numbering(package.optional(one["numbering"]))
        self._settings = package.optional(one["settings"])
        self._notes = Notes(package, part, self._other_part)
        self._runs = Runs(package, self._styles, self._notes, self._inner_blocks)
        self._runs.part = part
        self._depth = 0
        self._page_marks = 0  # that wait for a paragraph with words

    def text(self, root: Node) -> str:
        """Return the whole text, headers and footers at its end."""
        body = root.child("w:body") or root
        sections = list(root.below("w:sectPr"))
        self._notes.use_formats(self._settings, sections)
        blocks: list[Element | str] = []
        for node in body.nodes:
            try:
                blocks += self._blocks([node])
            except PIECE_FAILURES:
                self._package.notes.append("a part of the document that cannot be read is shown without its format")
                blocks.append(element("p", node.text()))
            blocks += self._notes.after_block()
        blocks += self._notes.at_end()
        blocks += self._margins(sections)
        if self._notes.has_objects:
            self._package.notes.append("embedded files (objects) are not read")
        return render(grouped(blocks))

    def _inner_blocks(self, nodes: list[Node]) -> list[Element | str]:
        """The blocks of a text box, a cell or a note."""
        self._depth += 1
        outer, self._runs.boxes = self._runs.boxes, []
        blocks = self._blocks(nodes)
        self._runs.boxes = outer
        self._depth -= 1
        return grouped(blocks)

    def _other_part(self, nodes: list[Node], part: str) -> list[Element | str]:
        outer, self._runs.part = self._runs.part, part
        blocks = self._inner_blocks(nodes)
        self._runs.part = outer
        return blocks

    def _blocks(self, nodes: list[Node]) -> list[Element | str]:
        blocks: list[Element | str] = []
        for node in nodes:
            match node.name:
                case "w:p":
                    blocks += self._paragraph(node)
                case "w:tbl":
                    blocks.append(self._table(node))
                case "w:sdt":
                    content = node.child("w:sdtContent")
                    blocks += self._blocks(content.nodes if content else [])
                case "w:altChunk":
                    blocks += self._foreign(node)
                case "w:del" | "w:moveFrom":
                    blocks += [element("del", block) for block in self._blocks(node.nodes)]
                case "m:oMathPara" | "m:oMath" | "w:r" | "w:hyperlink":  # in no paragraph, as some programs write
                    holder = Node("w:p", {})
                    holder.children = [node]
                    blocks += self._paragraph(holder)
                case "w:sectPr" | "w:tblPr" | "w:tblGrid" | "w:pPr":
                    continue
                case "w:commentRangeStart" | "w:commentRangeEnd":
                    self._notes.range(node)
                case _:
                    blocks += self._blocks(node.nodes)
        return blocks

    def _paragraph(self, node: Node) -> list[Element | str]:
        properties = node.child("w:pPr")
        content = self._runs.read(node)
        boxes, self._runs.boxes = self._runs.boxes, []
        marks = content.count(PAGE_MARK)
        if self._depth or not any(piece != PAGE_MARK for piece in content):
            content = [piece for piece in content if piece != PAGE_MARK]
            self._page_marks += marks
        if not any(_is_shown(piece) for piece in content):
            return boxes
        if not self._depth and self._page_marks:
            content = [*[PAGE_MARK] * self._page_marks, *content]
            self._page_marks = 0
        level = self._styles.heading_level(properties)
        number = self._styles.number_of(properties, self._numbering.by_style)
        mark = self._numbering.mark(*number) if number else None
        if level:
            title = [mark + " ", *content] if mark and mark != "-" else content
            return [element(f"h{level}", *title), *boxes]
        if mark:
            indent = str(min(number[1], 8)) if number else ""
            return [element("item", *content, mark=mark, level=indent), *boxes]
        return [element("p", *content), *boxes]

    def _table(self, table: Node) -> Element:
        rows = [self._row(row) for row in table.below("w:tr", "w:tc", "w:p")]  # some programs leave out the rows
        spanning: dict[int, _Cell] = {}  # column -> the cell that the cells below it continue
        for row in rows:
            continued: dict[int, _Cell] = {}
            for cell in row:
                above = spanning.get(cell.column)
                if cell.merge == "continue" and above is not None and not cell.blocks:
                    above.num_rows += 1
                    cell.is_covered = True
                    continued[cell.column] = above
                elif cell.merge:
                    continued[cell.column] = cell
            spanning = continued
        return element("table", *(element("tr", *(c.element() for c in row if not c.is_covered)) for row in rows))

    def _row(self, row: Node) -> list["_Cell"]:
        properties = row.child("w:trPr")
        before = properties.child("w:gridBefore") if properties else None
        column = min(int(before.get("val")), 100) if before is not None and before.get("val").isdigit() else 0
        cells = [_Cell(column=0, num_columns=column)] if column else []
        is_header = properties is not None and properties.child("w:tblHeader") is not None
        is_deleted = properties is not None and properties.child("w:del") is not None
        for node in row.below("w:tc", "w:p") if row.name == "w:tr" else [row]:
            span, merge = _cell_spans(node)
            blocks = self._inner_blocks(node.nodes if node.name == "w:tc" else [node])
            blocks = [element("del", *blocks)] if is_deleted and blocks else blocks
            cells.append(
                _Cell(column=column, num_columns=span, merge=merge, blocks=blocks, name="th" if is_header else "td")
            )
            column += span
        return cells

    def _foreign(self, node: Node) -> list[Element | str]:
        """A document of another format inside of this one (`w:altChunk`)."""
        relation = self._package.relations(self._part).get(node.get("r:id"))
        name = relation.name if relation else ""
        if name.lower().endswith((".html", ".htm", ".xhtml", ".txt")):
            data = self._package.read(name) or b""
            markup = data.decode("utf-8", errors="replace")
            if name.lower().endswith(".txt"):
                return [element("pre", markup)]
            return [*parse_tree(markup).children]
        self._package.notes.append(f"{name or 'an embedded document'} is not read")
        return []

    def _margins(self, sections: list[Node]) -> list[Element | str]:
        """Headers and footers, each text once."""
        lines: dict[str, None] = {}
        for section in sections:
            for node in section.all("w:headerReference", "w:footerReference"):
                relation = self._package.relations(self._part).get(node.get("r:id"))
                root = self._package.optional(relation.name) if relation else None
                if relation is None or root is None:
                    continue
                text = render(self._other_part(root.nodes, relation.name))
                text = " ".join(line.strip() for line in text.split("\n") if line.strip()).replace(PAGE_MARK, "")
                name = "Header" if node.name == "w:headerReference" else "Footer"
                if text:
                    lines[f"[{name}: {text}]"] = None
        return [element("p", line) for line in lines]


def _is_shown(piece: Element | str) -> bool:
    return piece.strip() != "" if isinstance(piece, str) else piece.name not in ("br", "tab")


def _cell_spans(cell: Node) -> tuple[int, str]:
    """(number of columns; `restart` or `continue` of a merge over rows, otherwise "")."""
    properties = cell.child("w:tcPr")
    if properties is None:
        return 1, ""
    span, merge = properties.child("w:gridSpan"), properties.child("w:vMerge")
    number = int(span.get("val")) if span and span.get("val").isdigit() else 1
    return max(1, min(number, 200)), merge.get("val", "continue") if merge is not None else ""
