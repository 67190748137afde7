"""A tree of HTML elements to readable text: what a browser shows, and what a script would show on a click."""

import re
from collections.abc import Callable

from .controls import choice_text, drawing_texts, drawing_title, input_text
from .elements import BLOCKS, HEADINGS, PARAGRAPHS, UNSEEN
from .lists import ListMarks
from .math import formula, lowered, raised
from .meaning import meaning
from .tables import collect_cells, lay_out
from .tree import MAX_MEANING_DEPTH, Element, parse_tree
from .writer import Writer

_ORDINAL = re.compile("(?:st|nd|rd|th)", re.IGNORECASE)
_QUOTES = {"de": ("„“", "‚‘"), "fr": ("«»", "‹›"), "": ("“”", "‘’")}  # by language, outside and inside
_MAX_RAISED_CHARS = 80
_MAX_LETTERS_CHARS = 12  # a picture with a longer alternative text is no part of a word
_MAX_FRAMES = 2
_MAX_NESTING = MAX_MEANING_DEPTH + 10  # what is in frames and slots adds to the depth of the tree


class Renderer:
    """Writes elements to a `Writer`. drop_navigation: leave out `nav` elements and what has their role."""

    def __init__(self, *, drop_navigation: bool, has_tex_scripts: bool) -> None:
        self.writer = Writer()
        self._drop_navigation = drop_navigation
        self._has_tex_scripts = has_tex_scripts
        self._lists: list[ListMarks] = []
        self._depth = 0
        self._num_items = 0  # open list items and table cells
        self._num_pre = 0
        self._num_quotes = 0
        self._num_raised = 0
        self._num_cells = 0
        self._num_frames = 0
        self._has_blocks = False  # in the present cell: what one line cannot hold
        self._slotted: list[dict[str, list[Element | str]]] = []

    def render(self, nodes: list[Element | str]) -> None:
        """Write nodes one after the other. Those too deep inside each other lose their marks, not their words."""
        self._depth += 1
        for index, node in enumerate(nodes):
            if isinstance(node, str):
                (self.writer.verbatim if self._num_pre else self.writer.words)(node)
            elif self._depth > _MAX_NESTING:
                self.writer.words(node.text())
            elif node.name == "template" and (node.get("shadowrootmode") or node.get("shadowroot")):
                self._shadow_root(node, nodes[index + 1 :])
                break
            else:
                if node.name == "img" and index and _is_picture(nodes[index - 1]):
                    self.writer.space()
                self._element(node)
        self._depth -= 1

    def inline(self, element: Element) -> str:
        """Return the text of an element's content, without writing it."""
        outer, self.writer = self.writer, Writer()
        self.render(element.children)
        text = self.writer.result().removesuffix("\n")
        self.writer = outer
        return text

    def _element(self, element: Element) -> None:
        name = element.name
        if name in UNSEEN or (name == "nav" and self._drop_navigation):
            return
        if element.has_attributes and self._by_meaning(element):
            return
        if handler := _HANDLERS.get(name):
            handler(self, element)
        elif name in BLOCKS:
            self._block(element)
        else:
            self.render(element.children)

    def _by_meaning(self, element: Element) -> bool:
        """Handle an element by its attributes. False if its name decides after all."""
        match meaning(element, has_tex_scripts=self._has_tex_scripts):
            case "formula":
                math = element.find("math")
                assert math
                self._math(math)
            case "control":
                self._button(element)
            case "unseen":
                return True
            case "navigation":
                return self._drop_navigation
            case "raised" if not self._num_raised:
                self._raised(element)
            case "lowered" if not self._num_raised:
                self._lowered(element)
            case "preformatted" if not self._num_pre:
                self._num_pre += 1
                self._block(element) if element.name in BLOCKS else self.render(element.children)
                self._num_pre -= 1
            case _:
                return False
        return True

    def _block(self, element: Element) -> None:
        is_paragraph = element.name in PARAGRAPHS and not (element.name == "p" and self._num_items)
        self.writer.line(2 if is_paragraph else 1)
        self.render(element.children)
        self.writer.line(2 if is_paragraph else 1)

    def _heading(self, element: Element) -> None:
        self._has_blocks = True
        mark = self.writer.waiting_mark
        self.writer.line(2)
        self.writer.mark("#" * int(element.name[1]) + " ")
        self.render(element.children)
        self.writer.restore_mark(mark)
        self.writer.line(2)

    def _list(self, element: Element) -> None:
        newlines = 1 if self._lists and self._num_items else 2
        self.writer.line(newlines)
        self._lists.append(ListMarks(element, depth=len(self._lists)))
        self.render(element.children)
        self._lists.pop()
        self.writer.line(newlines)

    def _item(self, element: Element) -> None:
        mark = self.writer.waiting_mark
        self.writer.line()
        self.writer.mark(self._lists[-1].next_mark(element) if self._lists else "- ")
        self._num_items += 1
        self.render(element.children)
        self._num_items -= 1
        self.writer.restore_mark(mark)
        self.writer.line()

    def _pre(self, element: Element) -> None:
        self.writer.line(2)
        children = element.children
        if children and isinstance(children[0], str):
            children = [re.sub(r"\A(?:\r\n?|\n)", "", children[0]), *children[1:]]
        if any("\n" in child if isinstance(child, str) else True for child in children):
            self._has_blocks = True
        self._num_pre += 1
        self.render(children)
        self._num_pre -= 1
        self.writer.line(2)

    def _line_break(self, _: Element) -> None:
        if self._num_pre:
            self.writer.verbatim("\n")
        else:
            self.writer.line_break()

    def _raised(self, element: Element) -> None:
        text = self._shifted_text(element)
        if _ORDINAL.fullmatch(text) and self.writer.is_after_digit:
            self._spaced(element, text)
        else:
            self._spaced(element, raised(text) if len(text) <= _MAX_RAISED_CHARS else text)

    def _lowered(self, element: Element) -> None:
        text = self._shifted_text(element)
        self._spaced(element, lowered(text) if len(text) <= _MAX_RAISED_CHARS else text)

    def _shifted_text(self, element: Element) -> str:
        self._num_raised += 1
        text = self.inline(element)
        self._num_raised -= 1
        return text

    def _spaced(self, element: Element, text: str) -> None:
        """Write text for an element, with the spaces that its content begins and ends with."""
        if not text or not element.children:
            return
        if "\n" in text and not self._num_pre:
            self.writer.line()
            self.writer.glued(text)
            self.writer.line()
            return
        first, last = element.children[0], element.children[-1]
        if isinstance(first, str) and first[:1].isspace() and not self._num_raised and element.name != "sup":
            self.writer.space()
        self.writer.glued(text)
        if isinstance(last, str) and last[-1:].isspace():
            self.writer.space()

    def _deleted(self, element: Element) -> None:
        if text := self.inline(element):
            self._spaced(element, f"~~{text}~~")

    def _quotation(self, element: Element) -> None:
        quotes = _QUOTES.get(element.get("lang").lower().partition("-")[0], _QUOTES[""])
        marks = quotes[self._num_quotes % 2]
        self._num_quotes += 1
        text = self.inline(element)
        self._num_quotes -= 1
        self._spaced(element, f"{marks[0]}{text}{marks[1]}")

    def _ruby_text(self, element: Element) -> None:
        if text := self.inline(element).strip():
            self.writer.glued(f"({text})")

    def _picture(self, element: Element) -> None:
        alt = " ".join(element.get("alt").split())
        if " " in alt or len(alt) > _MAX_LETTERS_CHARS:
            self.writer.apart(alt)
        else:  # the first letter of a chapter, or a letter that the font does not have
            self.writer.words(alt)

    def _drawing(self, element: Element) -> None:
        texts = drawing_texts(element)
        for text in texts:
            self.writer.space()
            self.render(text.children)
            self.writer.space()
        if not texts:
            self.writer.apart(drawing_title(element))

    def _math(self, element: Element) -> None:
        is_display = element.get("display") == "block" and not self._num_cells
        if is_display:
            self.writer.line()
        self.writer.apart(formula(element))
        if is_display:
            self.writer.line()

    def _script(self, element: Element) -> None:
        if element.get("type").lower().startswith("math/tex"):
            self.writer.apart(" ".join(element.text().split()))
        elif element.get("type").lower().startswith("math/mml"):
            self.render(parse_tree(element.text()).children)

    def _frame(self, element: Element) -> None:
        if (page := element.get("srcdoc")) and self._num_frames < _MAX_FRAMES:
            self._num_frames += 1
            self.writer.line()
            self.render(parse_tree(page).children)
            self.writer.line()
            self._num_frames -= 1

    def _head(self, element: Element) -> None:
        """Nothing in it is shown. Its title is written by `html_to_text`."""

    def _button(self, element: Element) -> None:
        if self.writer.is_in_word:
            self.writer.space()
        self.render(element.children)
        self.writer.pad()

    def _input(self, element: Element) -> None:
        self.writer.apart(input_text(element))

    def _text_area(self, element: Element) -> None:
        text = element.text().strip("\n") or element.get("placeholder")
        if "\n" in text:
            self.writer.line()
            self.writer.verbatim(text)
            self.writer.line()
        else:
            self.writer.apart(text.strip())

    def _choice(self, element: Element) -> None:
        self.writer.apart(choice_text(element, self.inline))

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
        table = collect_cells(element)
        newlines = 1 if self._num_items else 2
        self.writer.line(newlines)
        self.render(table.loose)
        self.writer.line()
        outer_blocks, self._has_blocks = self._has_blocks, False
        texts: list[list[str]] = []
        is_layout = element.get("role") in ("presentation", "none") or max(map(len, table.rows), default=0) == 1
        for row in table.rows:
            texts.append([])
            for cell in row:
                self._has_blocks = False
                text = self._cell(cell.element)
                is_layout |= self._has_blocks and "\n" in text
                texts[-1].append(text)
        if is_layout:
            self._write_cells(texts)
        else:
            self._write_rows(lay_out(table.rows, [[_one_line(text) for text in row] for row in texts]))
        self._has_blocks = outer_blocks or is_layout
        self.writer.line(newlines)

    def _cell(self, cell: Element) -> str:
        """The text of a cell, of one or more lines."""
        lists, self._lists = self._lists, []
        self._num_items += 1
        self._num_cells += 1
        text = self.inline(cell)
        self._num_items -= 1
        self._num_cells -= 1
        self._lists = lists
        return text

    def _write_cells(self, texts: list[list[str]]) -> None:
        """The cells of a table that only arranges a page, one below the other."""
        for text in (text for row in texts for text in row if text):
            self.writer.line(2 if "\n" in text else 1)
            self.writer.glued(text)
            self.writer.line(2 if "\n" in text else 1)

    def _write_rows(self, rows: list[list[str]]) -> None:
        """One line per row; inside a cell of another table one line in all."""
        if self._num_cells:
            lines = [", ".join(filter(None, row)) for row in rows]
            self.writer.apart("; ".join(filter(None, lines)))
            return
        for row in rows:
            if any(row):
                self.writer.glued(" | ".join(row).rstrip())
                self.writer.line()


def _is_picture(node: Element | str) -> bool:
    """Whether it is a picture with more than one letter for its alternative text."""
    return isinstance(node, Element) and node.name == "img" and len(node.get("alt")) > 1


def _one_line(text: str) -> str:
    """The lines of a cell as one, without the marks of headings."""
    if "\n" not in text and not text.startswith("#"):
        return text.strip()
    return " ".join(re.sub("^#{1,6} ", "", line.strip()) for line in text.split("\n") if line.strip())


_HANDLERS: dict[str, Callable[[Renderer, Element], None]] = {
    **{name: Renderer._heading for name in HEADINGS},
    **{name: Renderer._list for name in ("ol", "ul", "menu", "dir")},
    **{name: Renderer._pre for name in ("pre", "listing", "xmp")},
    **{name: Renderer._deleted for name in ("del", "s", "strike")},
    **{name: Renderer._orphan_cell for name in ("td", "th")},
    **{name: Renderer._choice for name in ("select", "datalist")},
    "br": Renderer._line_break,
    "button": Renderer._button,
    "epub:switch": Renderer._switch,
    "head": Renderer._head,
    "iframe": Renderer._frame,
    "img": Renderer._picture,
    "input": Renderer._input,
    "li": Renderer._item,
    "math": Renderer._math,
    "q": Renderer._quotation,
    "rt": Renderer._ruby_text,
    "script": Renderer._script,
    "slot": Renderer._slot,
    "sub": Renderer._lowered,
    "sup": Renderer._raised,
    "svg": Renderer._drawing,
    "table": Renderer._table,
    "textarea": Renderer._text_area,
}
