"""Paragraphs, lists, tables and drawings of OpenDocument files (OpenDocument 1.3, part 3, sections 5 to 10)."""

import re
from collections.abc import Callable

from ...html.tree import Element
from ..formats import Format, formatted
from ..render import PAGE_MARK, element, grouped, render
from ..xml_tree import Node
from .styles import ListNumbers, OdfStyles

Blocks = list[Element | str]
_UNSEEN = frozenset(
    {
        "text:number", "text:tracked-changes", "text:sequence-decls", "text:variable-decls", "text:user-field-decls",
        "text:dde-connection-decls", "office:forms", "svg:title", "svg:desc", "office:event-listeners", "text:bookmark",
        "text:table-of-content-source", "text:illustration-index-source", "text:table-index-source", "dc:creator",
        "text:object-index-source", "text:user-index-source", "text:alphabetical-index-source", "dc:date",
        "text:bibliography-source", "text:change-start", "text:change-end", "office:binary-data", "text:note-citation",
        "pres:notes", "draw:glue-point", "draw:image-map", "text:alphabetical-index-mark", "text:toc-mark",
    }
)  # fmt: skip
_PARAGRAPHS = ("text:p", "text:h")
_INLINE = frozenset({"text:span", "text:a", "text:meta", "text:ruby"})
_REPEATED_CELLS = 1000
_HAS_MARK = re.compile("p|h[1-6]")


class OdfReader:
    """Turns the content of an OpenDocument file into elements, in order.

    object_blocks: the content of an embedded object by its reference. notes: of the paragraphs since `take_notes`.
    """

    def __init__(self, styles: OdfStyles, object_blocks: Callable[[str], Blocks]) -> None:
        self.notes: Blocks = []
        self.endnotes: Blocks = []
        self.deletions: dict[str, Node] = {}
        self.title = ""
        self._styles = styles
        self._object_blocks = object_blocks
        self._outline = ListNumbers(style=styles.outline)
        self._lists: dict[str, ListNumbers] = {}
        self._last: dict[str, ListNumbers] = {}  # by style
        self._boxes: Blocks = []
        self._depth = 0
        self._page_marks = 0

    def take_notes(self) -> Blocks:
        """Return the footnotes and comments since the last call."""
        notes, self.notes = self.notes, []
        return notes

    def blocks(self, nodes: list[Node]) -> Blocks:
        """Return the blocks of a text, a text box, a cell or a note."""
        blocks: Blocks = []
        for node in nodes:
            if node.name in _PARAGRAPHS:
                blocks += self._paragraph(node)
            elif node.name == "text:list":
                blocks += self._list(node, 0, None)
            elif node.name == "table:table":
                blocks.append(self._table(node))
            elif node.name == "text:soft-page-break":
                self._page_marks += not self._depth
            elif node.name == "text:section" and node.get("text:display") == "none":
                blocks += [element("p", "[hidden:"), *self.blocks(node.nodes), element("p", "]")]
            elif node.name.startswith("draw:"):
                blocks += self.drawing(node)
            elif node.name == "office:annotation":
                self._comment(node)
            elif node.name in _INLINE:  # outside of a paragraph, as in a text that is nested too deeply
                holder = Node("text:p", {})
                holder.children = [node]
                blocks += self._paragraph(holder)
            elif node.name not in _UNSEEN:
                blocks += self.blocks(node.nodes)
        return blocks

    def inner(self, nodes: list[Node]) -> Blocks:
        """Return blocks inside of another block."""
        outer, self._boxes = self._boxes, []
        self._depth += 1
        blocks = self.blocks(nodes)
        self._depth -= 1
        self._boxes = outer
        return grouped(blocks)

    def line(self, nodes: list[Node]) -> str:
        """Return blocks as one line of text."""
        return " ".join(render(self.inner(nodes)).replace(PAGE_MARK, "").split("\n")).strip()

    def _paragraph(self, node: Node) -> Blocks:
        style = node.get("text:style-name")
        boxes_before, self._boxes = self._boxes, []
        content = self._inline(node, self._styles.format_of("paragraph", style))
        boxes, self._boxes = self._boxes, boxes_before
        if self._depth:
            content = [piece for piece in content if piece != PAGE_MARK]
        if not any(_is_shown(piece) for piece in content):
            return boxes
        if self._page_marks and not self._depth:
            content = [*[PAGE_MARK] * self._page_marks, *content]
            self._page_marks = 0
        if node.name == "text:h":
            level = node.get("text:outline-level")
            number = node.child("text:number")
            mark = number.text().strip() if number else ""
            if not mark and level.isdigit() and self._styles.outline and node.get("text:is-list-header") != "true":
                mark = self._outline.mark(int(level), node.get("text:start-value"))
            title = [mark + " ", *content] if mark.strip("-") else content
            return [element(f"h{min(max(int(level), 1), 6) if level.isdigit() else 1}", *title), *boxes]
        if not self._depth and self._styles.is_title(style):
            return [element("h1", *content), *boxes]
        return [element("p", *content), *boxes]

    def _list(self, node: Node, level: int, numbers: ListNumbers | None) -> Blocks:
        if numbers is None or node.get("text:style-name"):
            numbers = self._numbers(node, numbers)
        blocks: Blocks = []
        for item in node.all("text:list-item", "text:list-header"):
            is_marked = item.name == "text:list-item"
            holder: Element | None = None
            for part in item.nodes:
                if part.name == "text:list":
                    blocks += self._list(part, level + 1, numbers)
                    holder = None
                    continue
                for block in self.blocks([part]):
                    if is_marked and isinstance(block, Element) and _HAS_MARK.fullmatch(block.name):
                        number = item.child("text:number")
                        counted = numbers.mark(level + 1, item.get("text:start-value"))
                        mark = (number.text().strip() if number else "") or counted
                        holder = _marked(block, mark, level)
                        blocks.append(holder)
                        is_marked = False
                    elif holder is not None and holder.name == "item":
                        if isinstance(block, Element) and block.name == "p":
                            block = element("div", *block.children)
                        holder.children.append(block)
                    else:
                        blocks.append(block)
        return blocks

    def _numbers(self, node: Node, outer: ListNumbers | None) -> ListNumbers:
        """The counters of a list: new ones, those of the list that it continues, or those of the list around it."""
        name = node.get("text:style-name")
        if not name:
            first = next(iter(node.below("text:p", "text:h")), None)
            name = self._styles.list_style(first.get("text:style-name")) if first else ""
        style = self._styles.lists.get(name)
        if outer is not None and (style is None or style is outer.style):
            return outer
        numbers = self._lists.get(node.get("text:continue-list"))
        if numbers is None and node.get("text:continue-numbering") == "true":
            numbers = self._last.get(name)
        numbers = numbers or ListNumbers(style=style, counts=dict(outer.counts) if outer else {})
        self._last[name] = numbers
        if key := node.get("xml:id"):
            self._lists[key] = numbers
        return numbers

    def _table(self, node: Node) -> Element:
        rows: list[Element] = []
        for row, is_header in _rows(node, False):
            made = element("tr")
            for cell in row.all("table:table-cell"):
                repeated = cell.get("table:number-columns-repeated")
                content = self.inner(cell.nodes)
                spans = {
                    "colspan": cell.get("table:number-columns-spanned"),
                    "rowspan": cell.get("table:number-rows-spanned"),
                }
                name = "th" if is_header else "td"
                count = min(int(repeated), _REPEATED_CELLS) if repeated.isdigit() else 1
                made.children += [element(name, *content, **spans) for _ in range(max(count, 1))]
            rows.append(made)
        _drop_empty_columns(rows)
        return element("table", *rows)

    def _inline(self, parent: Node, form: Format) -> Blocks:
        content: Blocks = []
        for child in parent.children:
            pieces = [child] if isinstance(child, str) else self._piece(child)
            content += pieces
        return formatted([(form, piece) for piece in content])

    def _piece(self, node: Node) -> Blocks:
        match node.name:
            case "text:s":
                return [" "]
            case "text:tab":
                return [element("tab")]
            case "text:line-break":
                return [element("br")]
            case "text:soft-page-break":
                return [PAGE_MARK]
            case "text:span":
                return self._inline(node, self._styles.format_of("text", node.get("text:style-name")))
            case "text:note":
                return [self._note(node)]
            case "office:annotation":
                self._comment(node)
                return []
            case "text:ruby":
                base, reading = node.child("text:ruby-base"), node.child("text:ruby-text")
                made = self._inline(base, Format()) if base else []
                return [*made, element("rt", reading.text() if reading else "")]
            case "text:change":
                deleted = self.deletions.get(node.get("text:change-id"))
                text = self.line(deleted.nodes) if deleted else ""
                return [element("del", text)] if text else []
            case "text:hidden-text" | "text:hidden-paragraph":
                text = node.get("text:string-value") or node.text()
                return [f"[hidden: {text}]"] if text else []
            case "text:drop-down":
                return [_rest(node)]
            case name if name.startswith("draw:"):
                return self._anchored(node)
            case name if name in _UNSEEN:
                return []
        return self._inline(node, Format())

    def _anchored(self, node: Node) -> Blocks:
        """A drawing in a line: formulas and pictures stay in it, all else follows the paragraph."""
        inline: Blocks = []
        for block in self.drawing(node):
            is_inline = isinstance(block, Element) and block.name in ("img", "math")
            (inline if is_inline else self._boxes).append(block)
        return inline

    def drawing(self, node: Node) -> Blocks:
        """Return what a frame or a shape shows."""
        if node.name in ("draw:g", "draw:a"):
            alt = _alternative(node)
            return alt + [
                block for child in node.nodes if child.name.startswith("draw:") for block in self.drawing(child)
            ]
        blocks: Blocks = []
        for child in node.nodes:
            if child.name in ("draw:object", "draw:object-ole"):
                blocks += self._embedded(child)
            elif child.name == "draw:text-box":
                blocks += self.inner(child.nodes)
            elif child.name in ("table:table", "text:p", "text:h", "text:list"):
                blocks += self.inner([child])
        return blocks or _alternative(node)

    def _embedded(self, node: Node) -> Blocks:
        if node.child("math:math") or node.child("office:document"):
            return embedded_blocks(node.nodes[0], self)
        return self._object_blocks(node.get("xlink:href"))

    def _note(self, node: Node) -> str:
        citation, body = node.child("text:note-citation"), node.child("text:note-body")
        label = (citation.get("text:label") or citation.text()).strip() if citation else ""
        kind = "Endnote" if node.get("text:note-class") == "endnote" else "Footnote"
        text = self.line(body.nodes) if body else ""
        if text:
            (self.endnotes if kind == "Endnote" else self.notes).append(element("p", f"[{kind} {label}: {text}]"))
        return f"[{label}]"

    def _comment(self, node: Node) -> None:
        author = node.child("dc:creator")
        text = self.line(node.all("text:p", "text:list"))
        if text:
            by = f" by {author.text()}" if author and author.text() else ""
            self.notes.append(element("p", f"[Comment{by}: {text}]"))


def embedded_blocks(root: Node, reader: OdfReader) -> Blocks:
    """Return an embedded formula, or the title and the table of a chart."""
    if root.name == "math:math":
        return [_math(root)]
    blocks: Blocks = []
    for chart in root.below("chart:chart"):
        for title in chart.all("chart:title", "chart:subtitle"):
            blocks.append(element("p", f"Chart: {reader.line(title.nodes)}"))
        blocks += reader.inner(chart.all("table:table"))
    return blocks or reader.inner(list(root.below("office:text", "office:spreadsheet")))


def _math(node: Node) -> Element:
    """A formula with the names that MathML has in web pages."""
    children = [child if isinstance(child, str) else _math(child) for child in node.children]
    kept = {
        key: node.get(key)
        for key in ("open", "close", "separators", "form", "encoding", "stretchy")
        if key in node.attributes
    }
    return element(node.name.partition(":")[2], *children, **kept)


def _marked(block: Element, mark: str, level: int) -> Element:
    if block.name != "p":  # a numbered heading
        return element(block.name, f"{mark} " if mark.strip("-") else "", *block.children)
    return element("item", *block.children, mark=mark, level=str(min(level, 8))) if mark else block


def _alternative(node: Node) -> Blocks:
    parts = [child.text().strip() for child in node.all("svg:title", "svg:desc")]
    alt = " ".join(dict.fromkeys(filter(None, parts)))
    return [element("img", alt=alt)] if alt else []


def _rest(node: Node) -> str:
    return "".join(child for child in node.children if isinstance(child, str))


def _rows(node: Node, is_header: bool) -> list[tuple[Node, bool]]:
    rows: list[tuple[Node, bool]] = []
    for child in node.nodes:
        if child.name == "table:table-row":
            rows.append((child, is_header))
        elif child.name in ("table:table-header-rows", "table:table-rows", "table:table-row-group"):
            rows += _rows(child, is_header or child.name == "table:table-header-rows")
    return rows


def _drop_empty_columns(rows: list[Element]) -> None:
    """Drop the cells to the right of all content: a row of an embedded sheet ends with all columns of the sheet."""
    filled = 0
    for row in rows:
        column = 0
        for cell in row.children:
            column += _num_columns(cell)
            filled = max(filled, column) if isinstance(cell, Element) and cell.children else filled
    for row in rows:
        width = sum(map(_num_columns, row.children))
        while width > filled and (last := row.children[-1]) and isinstance(last, Element) and not last.children:
            width -= _num_columns(row.children.pop())


def _num_columns(cell: Element | str) -> int:
    spanned = cell.get("colspan") if isinstance(cell, Element) else ""
    return int(spanned) if spanned.isdigit() else 1


def _is_shown(piece: Element | str) -> bool:
    return piece.strip(PAGE_MARK + " \n\t") != "" if isinstance(piece, str) else piece.name not in ("br", "tab")
