"""Builds what the HTML renderer reads, so that office documents and web pages become text in the same words.

Beside HTML's elements there are `list` (of items), `item` (with its own `mark` and `level`), `tab`, and `aside`.
"""

from html import escape

from ..html.render import Page, Renderer
from ..html.styles import Styles
from ..html.tree import Element

PAGE_MARK = "\ufdd0"
"""A character that no text holds (`xml_tree.py` drops it): a page begins here."""


def element(name: str, *children: "Element | str", **attributes: str) -> Element:
    """Return an element with these children; empty attributes are left out."""
    made = Element(name, "".join(f' {key}="{escape(value)}"' for key, value in attributes.items() if value))
    made.children = [child for child in children if child != ""]
    return made


class OfficeRenderer(Renderer):
    """Writes elements as `Renderer` does, and list items with the marks that their document gives them."""

    def __init__(self) -> None:
        super().__init__(Page(styles=Styles()), drop_navigation=False)

    def _element(self, element: Element) -> None:
        match element.name:
            case "item":
                self._marked_item(element)
            case "list":
                newlines = 1 if self.num_items else 2
                self.writer.line(newlines)
                self.render(element.children)
                self.writer.line(newlines)
            case "tab":
                self.writer.tab()
            case _:
                super()._element(element)

    def _marked_item(self, element: Element) -> None:
        self.writer.line()
        outer = self.writer.waiting_mark
        self.writer.mark("  " * int(element.get("level") or 0) + (element.get("mark") or "-") + " ")
        self.num_items += 1
        self.render(element.children)
        self.num_items -= 1
        self.writer.restore_mark(outer)
        self.writer.line()


def render(nodes: list[Element | str]) -> str:
    """Return the text of elements, with one newline at its end, "" if there is none."""
    renderer = OfficeRenderer()
    renderer.render(nodes)
    return renderer.writer.result()


def grouped(blocks: list[Element | str]) -> list[Element | str]:
    """Return blocks with each run of list items inside a `list`."""
    result: list[Element | str] = []
    for block in blocks:
        if isinstance(block, Element) and block.name == "item":
            if not (result and isinstance(result[-1], Element) and result[-1].name == "list"):
                result.append(element("list"))
            holder = result[-1]
            assert isinstance(holder, Element)
            holder.children.append(block)
        else:
            result.append(block)
    return result


def without_page_marks(text: str) -> tuple[str, tuple[int, ...]]:
    """Return (text without `PAGE_MARK`, offset of each page); no offsets if there is no mark."""
    if PAGE_MARK not in text:
        return text, ()
    pieces = text.split(PAGE_MARK)
    kept, starts, length = [pieces[0]], [0], len(pieces[0])
    for piece in pieces[1:]:
        if kept[-1][-1:].isspace() and piece.startswith(" "):
            piece = piece[1:]
        starts.append(length)
        kept.append(piece)
        length += len(piece)
    return "".join(kept), tuple(starts)
