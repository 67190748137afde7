"""A tree of HTML elements to readable text: what a browser shows, and what a script would show on a click."""

import base64
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote

from .controls import box_text
from .elements import BLOCKS, HEADINGS, PARAGRAPHS, UNSEEN
from .inline import InlineRenderer
from .lists import ListMarks
from .meaning import meaning
from .styles import Styles
from .table_text import write_table
from .tree import MAX_MEANING_DEPTH, Element, parse_tree
from .typeset import typeset_text

_LANGUAGE = re.compile(r"\blang\s*=", re.IGNORECASE)
_MAX_FRAMES = 2
_MAX_NESTING = MAX_MEANING_DEPTH + 10  # what is in frames and slots adds to the depth of the tree


@dataclass(frozen=True, kw_only=True)
class Page:
    """What holds for a whole page. has_tex_scripts: scripts hold its formulas. frames: address -> markup."""

    styles: Styles
    has_tex_scripts: bool = False
    frames: Mapping[str, str] = field(default_factory=dict)


class Renderer(InlineRenderer):
    """Writes elements to a `Writer`. drop_navigation: leave out `nav` elements and what has their role."""

    def __init__(self, page: Page, *, drop_navigation: bool) -> None:
        super().__init__()
        self._drop_navigation = drop_navigation
        self._has_tex_scripts = page.has_tex_scripts
        self._styles = page.styles
        self._frames = page.frames
        self._lists: list[ListMarks] = []
        self._depth = 0
        self.num_items = 0  # open list items and table cells
        self._num_frames = 0
        self.has_blocks = False  # in the present cell: what one line cannot hold
        self._slotted: list[dict[str, list[Element | str]]] = []

    def render(self, nodes: list[Element | str]) -> None:
        """Write nodes one after the other. Those too deep inside each other lose their marks, not their words."""
        self._depth += 1
        for index, node in enumerate(nodes):
            if isinstance(node, str):
                (self.writer.verbatim if self.num_pre else self.writer.words)(node)
            elif self._depth > _MAX_NESTING:
                self.writer.words(node.text())
            elif node.name == "template" and (
                node.get("shadowrootmode") or node.get("shadowroot") or node.get("shadowmode")
            ):
                self._shadow_root(node, nodes[index + 1 :])
                break
            else:
                if node.name == "img" and index and _is_picture(nodes[index - 1]):
                    self.writer.space()
                if node.name == "code" and self.num_pre and index and _is_code(nodes[index - 1]):
                    self.writer.line()
                self._element(node)
        self._depth -= 1

    def _element(self, element: Element) -> None:
        name = element.name
        if name in UNSEEN or (name == "nav" and self._drop_navigation):
            return
        outer = self.language
        if element.mentions("lang") and element.search(_LANGUAGE):
            self.language = element.get("lang") or element.get("xml:lang") or outer
        if self._by_meaning(element):
            pass
        elif handler := _HANDLERS.get(name):
            handler(self, element)
        elif name in BLOCKS:
            self._block(element)
        else:
            self.render(element.children)
        self.language = outer

    def _by_meaning(self, element: Element) -> bool:
        """Handle an element by its attributes. False if its name decides after all."""
        style = self._styles.of(element)
        if not style and not element.has_attributes:
            return False
        match meaning(element, style, has_tex_scripts=self._has_tex_scripts):
            case "formula":
                math = element.find("math")
                assert math
                self._math(math)
            case "typeset":
                if text := typeset_text(element):
                    self.writer.apart(text)
                else:
                    self.render(element.children)
            case "control":
                self._button(element)
            case "unseen":
                return True
            case "navigation":
                return self._drop_navigation
            case "raised" if not self.num_raised:
                self._raised(element)
            case "lowered" if not self.num_raised:
                self._lowered(element)
            case "preformatted" if not self.num_pre:
                self.num_pre += 1
                self._block(element) if element.name in BLOCKS else self.render(element.children)
                self.num_pre -= 1
            case "deleted":
                self._deleted(element)
            case "box":
                self.writer.apart(box_text(element))
                self._button(element)
            case "denominator" if self.writer.is_after_digit:
                self.writer.glued("/")
                self.render(element.children)
            case _:
                return self._by_place(element, style)
        return True

    def _by_place(self, element: Element, style: str) -> bool:
        """Handle an element that stands elsewhere than its name says. False if its name decides after all."""
        match meaning(element, style, has_tex_scripts=self._has_tex_scripts):
            case "apart":
                self._button(element)
            case "number":
                self.render(element.children)
                self.writer.pad()
            case "heading":
                self._heading(element)
            case "item":
                self._item(element)
            case "line":
                if element.name == "a":
                    self.writer.line()
                    self._link(element)
                    self.writer.line()
                else:
                    self._block(element)
            case "lines":
                self._kept_lines(element)
            case "flex":
                self._flex(element)
            case "row":
                self.writer.line()
                self.render(element.children)
                self.writer.line()
            case "cell":
                self._orphan_cell(element)
            case _:
                return False
        return True

    def _flex(self, element: Element) -> None:
        """Children beside each other, with spaces between them."""
        is_block = element.name in BLOCKS
        if is_block:
            self.writer.line()
        for child in element.children:
            if isinstance(child, Element):
                self.writer.space()
            self.render([child])
            if isinstance(child, Element):
                self.writer.space()
        if is_block:
            self.writer.line()

    def _kept_lines(self, element: Element) -> None:
        """Text whose line breaks are shown, but not its other white space."""
        self.writer.line()
        for child in element.children:
            if isinstance(child, str):
                for index, line in enumerate(child.split("\n")):
                    if index:
                        self.writer.line_break()
                    self.writer.words(line)
            else:
                self.render([child])
        self.writer.line()

    def _block(self, element: Element) -> None:
        is_paragraph = element.name in PARAGRAPHS and not (element.name == "p" and self.num_items)
        self.writer.line(2 if is_paragraph else 1)
        self.render(element.children)
        self.writer.line(2 if is_paragraph else 1)

    def _figure(self, element: Element) -> None:
        """A picture whose alternative text is its caption is described once."""
        children = (child for child in element.children if isinstance(child, Element))
        caption = next((child for child in children if child.name == "figcaption"), None)
        outer, self.caption = self.caption, " ".join(caption.text().split()) if caption else ""
        self._block(element)
        self.caption = outer

    def _definitions(self, element: Element) -> None:
        """Terms and what they mean, or an aside. Notes of docutils are either: each begins with its number."""
        is_note = not {"footnote", "citation"}.isdisjoint(element.get("class").split())
        if not is_note or not any(map(_is_note_label, element.children)):
            self._block(element)
            return
        self.writer.line(2 if element.name == "dl" else 1)
        label, outer = "", self.writer.waiting_mark
        for child in [*element.children, None]:
            if child is None or _is_note_label(child):
                if label and self.writer.waiting_mark not in ("", outer):  # a note without words
                    self.writer.restore_mark(outer)
                    self.writer.words(label)
                self.writer.line()
            if isinstance(child, Element) and _is_note_label(child):
                label = re.sub(r"(?<=\S)\s*\(.*", "", " ".join(child.text().split()))  # links back to the text
                label = label if label.startswith("[") or not label else f"[{label}]"
                self.writer.mark(f"{label} " if label else "")
            elif child is not None:
                self.num_items += 1
                self.render([child])
                self.num_items -= 1
        self.writer.line(2 if element.name == "dl" else 1)

    def _heading(self, element: Element) -> None:
        self.has_blocks = True
        mark = self.writer.waiting_mark
        self.writer.line(2)
        level = element.name[1:] if element.name in HEADINGS else element.get("aria-level")
        self.writer.mark("#" * (int(level) if level in ("1", "2", "3", "4", "5", "6") else 2) + " ")
        outer, self.is_heading = self.is_heading, True
        self.render(element.children)
        self.is_heading = outer
        self.writer.restore_mark(mark)
        self.writer.line(2)

    def _list(self, element: Element) -> None:
        newlines = 1 if self._lists and self.num_items else 2
        self.writer.line(newlines)
        self._lists.append(ListMarks(element, self._styles.of(element), depth=len(self._lists)))
        self.render(element.children)
        self._lists.pop()
        self.writer.line(newlines)

    def _item(self, element: Element) -> None:
        mark = self.writer.waiting_mark
        self.writer.line()
        self.writer.mark(self._lists[-1].next_mark(element) if self._lists else "- ")
        self.num_items += 1
        self.render(element.children)
        self.num_items -= 1
        self.writer.restore_mark(mark)
        self.writer.line()

    def _pre(self, element: Element) -> None:
        self.writer.line(2)
        children = element.children
        if children and isinstance(children[0], str):
            children = [re.sub(r"\A(?:\r\n?|\n)", "", children[0]), *children[1:]]
        if any("\n" in child if isinstance(child, str) else True for child in children):
            self.has_blocks = True
        self.num_pre += 1
        self.render(children)
        self.num_pre -= 1
        self.writer.line(2)

    def _script(self, element: Element) -> None:
        if element.get("type").lower().startswith("math/tex"):
            self.writer.apart(" ".join(element.text().split()))
        elif element.get("type").lower().startswith("math/mml"):
            self.render(parse_tree(element.text()).children)

    def _frame(self, element: Element) -> None:
        page = element.get("srcdoc") or self._frames.get(element.get("src"), "") or _page_in(element.get("src"))
        if page and self._num_frames < _MAX_FRAMES:
            self._num_frames += 1
            self.writer.line()
            self.render(parse_tree(page).children)
            self.writer.line()
            self._num_frames -= 1

    def _head(self, element: Element) -> None:
        """Nothing in it is shown. Its title is written by `html_to_text`."""

    def _switch(self, element: Element) -> None:
        """An EPUB's choice between a formula and its picture: the first of them, because both say the same."""
        choices = [child for child in element.children if isinstance(child, Element)]
        for choice in choices[:1]:
            self.render(choice.children)

    def _orphan_cell(self, element: Element) -> None:
        self.writer.cell()
        self.render(element.children)

    def _slot(self, element: Element) -> None:
        assigned = self._slotted.pop() if self._slotted else {}
        nodes = assigned.pop(element.get("name"), None)
        self.render(nodes or element.children)
        self._slotted.append(assigned)

    def _shadow_root(self, template: Element, light: list[Element | str]) -> None:
        """The content of a shadow root, with the host's own children in its slots; those without a slot follow."""
        assigned: dict[str, list[Element | str]] = {}
        for node in light:
            name = "" if isinstance(node, str) else node.get("slot")
            assigned.setdefault(name, []).append(node)
        if all(isinstance(node, str) and not node.strip() for node in assigned.get("", ["x"])):
            del assigned[""]
        self._slotted.append(assigned)
        self.render(template.children)
        for nodes in self._slotted.pop().values():
            self.render(nodes)

    def _table(self, element: Element) -> None:
        write_table(self, element)

    def cell_text(self, cell: Element) -> str:
        """Return the text of a cell, of one or more lines."""
        lists, self._lists = self._lists, []
        self.num_items += 1
        self.num_cells += 1
        text = self.inline(cell)
        self.num_items -= 1
        self.num_cells -= 1
        self._lists = lists
        return text


def _page_in(address: str) -> str:
    """The markup of a page that stands in the address itself (`data:text/html,`), "" for another address."""
    head, _, body = address.partition(",")
    if not head.lower().startswith("data:text/html"):
        return ""
    if not head.lower().endswith(";base64"):
        return unquote(body)
    try:
        return base64.b64decode(unquote(body), validate=True).decode(errors="replace")
    except ValueError:
        return ""


def _is_picture(node: Element | str) -> bool:
    """Whether it is a picture with more than one letter for its alternative text."""
    return isinstance(node, Element) and node.name == "img" and len(node.get("alt")) > 1


def _is_note_label(node: Element | str) -> bool:
    """Whether it is the number of a note as docutils marks it."""
    if isinstance(node, str):
        return False
    return node.name == "dt" or (node.name == "span" and "label" in node.get("class").split())


def _is_code(node: Element | str) -> bool:
    """Whether it is a block of code; inside `pre` another one beside it is its other version, or the next line."""
    return isinstance(node, Element) and node.name == "code"


_HANDLERS: dict[str, Callable[[Renderer, Element], None]] = {
    **{name: Renderer._heading for name in HEADINGS},
    **{name: Renderer._list for name in ("ol", "ul", "menu", "dir")},
    **{name: Renderer._pre for name in ("pre", "listing", "xmp")},
    **{name: Renderer._deleted for name in ("del", "s", "strike")},
    **{name: Renderer._orphan_cell for name in ("td", "th")},
    **{name: Renderer._choice for name in ("select", "datalist")},
    **{name: Renderer._gauge for name in ("meter", "progress")},
    "a": Renderer._link,
    "aside": Renderer._definitions,
    "br": Renderer._line_break,
    "button": Renderer._button,
    "dl": Renderer._definitions,
    "epub:switch": Renderer._switch,
    "head": Renderer._head,
    "iframe": Renderer._frame,
    "figure": Renderer._figure,
    "frame": Renderer._frame,
    "img": Renderer._picture,
    "input": Renderer._input,
    "li": Renderer._item,
    "math": Renderer._math,
    "noscript": Renderer._unscripted,
    "q": Renderer._quotation,
    **{name: Renderer._ruby_text for name in ("rt", "rtc")},
    "ruby": Renderer._ruby,
    "script": Renderer._script,
    "slot": Renderer._slot,
    "sub": Renderer._lowered,
    "sup": Renderer._raised,
    "svg": Renderer._drawing,
    "table": Renderer._table,
    "textarea": Renderer._text_area,
}
