"""Elements inside of a line: superscripts, quotations, links, pictures, formulas, form controls."""

import re

from .controls import choice_text, drawing_description, drawing_texts, drawing_title, gauge_text, input_text
from .math import formula, lowered, raised
from .quotes import quotation_marks
from .ruby import joined_readings, split_ruby
from .tree import Element
from .writer import Writer

_ORDINAL = re.compile("(?:st|nd|rd|th)", re.IGNORECASE)
_PERMALINKS = frozenset("¶#§🔗⚓")
_NOTE_NUMBER = re.compile(r"\d{1,4}")
_NOTE_TARGET = re.compile(r"note|(?:^|\W)_?(?:fn|ftn|edn|en|n)[\d_-]", re.IGNORECASE)
_MAX_RAISED_CHARS = 80
_LETTERS = re.compile(r"[“”\"'‘’«»„¿¡(]?(?:[^\W\d_]{1,2}|\d)[.’']?")  # the alternative text of a part of a word


class InlineRenderer:
    """Writes elements inside of a line to `writer`. The derived class writes all others."""

    def __init__(self) -> None:
        self.writer = Writer()
        self.language = ""
        self.is_heading = False
        self.last_alt = ""
        self.caption = ""  # of the present figure
        self.num_cells = 0
        self.num_pre = 0
        self.num_quotes = 0
        self.num_raised = 0

    def render(self, nodes: list[Element | str]) -> None:
        """Write nodes one after the other."""
        raise NotImplementedError

    def inline(self, element: Element) -> str:
        """Return the text of an element's content, without writing it."""
        outer, self.writer = self.writer, Writer()
        self.render(element.children)
        text = self.writer.result().removesuffix("\n")
        self.writer = outer
        return text

    def _line_break(self, _: Element) -> None:
        if self.num_pre:
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
        self.num_raised += 1
        text = self.inline(element)
        self.num_raised -= 1
        return text

    def _spaced(self, element: Element, text: str) -> None:
        """Write text for an element, with the spaces that its content begins and ends with."""
        if not text or not element.children:
            return
        if "\n" in text and not self.num_pre:
            self.writer.line()
            self.writer.glued(text)
            self.writer.line()
            return
        first, last = element.children[0], element.children[-1]
        if isinstance(first, str) and first[:1].isspace() and not self.num_raised and element.name != "sup":
            self.writer.space()
        self.writer.glued(text)
        if isinstance(last, str) and last[-1:].isspace():
            self.writer.space()

    def _deleted(self, element: Element) -> None:
        if text := self.inline(element):
            self._spaced(element, f"~~{text}~~")

    def _quotation(self, element: Element) -> None:
        marks = quotation_marks(self.language, self.num_quotes)
        self.num_quotes += 1
        text = self.inline(element)
        self.num_quotes -= 1
        self._spaced(element, f"{marks[0]}{text}{marks[1]}")

    def _ruby(self, element: Element) -> None:
        base, levels = split_ruby(element)
        self.render(base)
        for level in levels:
            if text := joined_readings([self.inline(reading).strip() for reading in level]):
                self.writer.glued(f"({text})")

    def _ruby_text(self, element: Element) -> None:
        """A reading outside of its element."""
        if text := self.inline(element).strip():
            self.writer.glued(f"({text})")

    def _link(self, element: Element) -> None:
        """A link. A number that leads to a note is raised, as a sheet does it that is not here: otherwise "9.1"."""
        if element.mentions("#") and not self.num_raised and (self.is_heading or self.writer.is_in_line):
            text = element.text().strip()
            if self.is_heading and text in _PERMALINKS:
                return
            is_number = _NOTE_NUMBER.fullmatch(text) and not element.find("sup", "img")
            if is_number and (self.writer.is_in_word or _NOTE_TARGET.search(_note_signs(element))):
                self._raised(element)
                return
        self.render(element.children)

    def _picture(self, element: Element) -> None:
        alt = element.get("alt") if "alt" in element.attributes else element.get("title") or element.get("aria-label")
        self.last_alt = alt = " ".join(alt.split())
        if alt == self.caption:
            return
        if len(alt) == 1 or _LETTERS.fullmatch(alt):
            # the first letter of a chapter, or a letter that the font does not have
            self.writer.words(alt)
        else:
            self.writer.apart(alt)

    def _unscripted(self, element: Element) -> None:
        """What is shown without scripts. Of it a reader sees the picture that a script would load later."""
        picture = element.find("img")
        if picture and picture.get("alt") != self.last_alt:
            self._picture(picture)

    def _gauge(self, element: Element) -> None:
        text = self.inline(element)
        self.writer.apart(text or gauge_text(element))

    def _drawing(self, element: Element) -> None:
        texts = drawing_texts(element)
        for text in texts:
            self.writer.space()
            self._drawn_text(text.children)
            self.writer.space()
        self.writer.apart(drawing_description(element) if texts else drawing_title(element))

    def _drawn_text(self, nodes: list[Element | str]) -> None:
        """Text of a drawing. A piece that is placed by itself is a word or a line of its own."""
        for node in nodes:
            if isinstance(node, Element) and node.name in ("tspan", "a", "textpath"):
                if not {"x", "y", "dy"}.isdisjoint(node.attributes):
                    self.writer.space()
                self._drawn_text(node.children)
            else:
                self.render([node])

    def _math(self, element: Element) -> None:
        is_display = element.get("display") == "block" and not self.num_cells
        if is_display:
            self.writer.line()
        self.writer.apart(formula(element))
        if is_display:
            self.writer.line()

    def _button(self, element: Element) -> None:
        if self.writer.is_in_word or (self.num_pre and self.writer.is_after_sign):
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


def _note_signs(element: Element) -> str:
    """What shows that a link leads to a note."""
    return f"{element.get('href').rpartition('#')[2]} {element.get('class')} {element.get('id')}"
