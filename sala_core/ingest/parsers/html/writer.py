"""Running text, lines and marks to plain text, with white space collapsed as in a browser."""

import re

from ..result import normalize_text

_SPACE = re.compile(r"[ \t\n\r\v\f\u00a0]+")
# soft hyphen, places for a line break, marks of direction
_UNSEEN = re.compile("[\u00ad\u200b\u200e\u200f\u202a-\u202e\u2060\u2066-\u2069\ufeff]")


class Writer:
    """Collects text, and leaves at most one empty line between blocks."""

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._newlines = 2  # at the end of the output; its start counts as an empty line
        self._space = False
        self._is_padded = False  # a letter or digit that comes next has to be kept apart
        self._mark = ""  # "- " of a list item or "# " of a heading, written before the next words

    @property
    def waiting_mark(self) -> str:
        """The marks that are written before the next words."""
        return self._mark

    @property
    def is_in_line(self) -> bool:
        """Whether something stands in the present line."""
        return bool(self._pieces) and not self._newlines

    @property
    def is_in_word(self) -> bool:
        """Whether the last thing written was a letter or digit, with no space after it."""
        return bool(self._pieces) and not self._newlines and not self._space and self._pieces[-1][-1].isalnum()

    @property
    def is_after_sign(self) -> bool:
        """Whether the last thing written in the present line was no white space."""
        return bool(self._pieces) and not self._newlines and not self._space and not self._pieces[-1][-1].isspace()

    @property
    def is_after_digit(self) -> bool:
        """Whether the last thing written was a digit, with no space after it."""
        return self.is_in_word and self._pieces[-1][-1].isdigit()

    def words(self, text: str) -> None:
        """Add running text. White space at its ends becomes one space, except at the start and end of a line."""
        if not text.isascii():
            text = _UNSEEN.sub("", text)
        collapsed = _SPACE.sub(" ", text)
        if self._is_padded and collapsed:
            self._space |= collapsed[0].isalnum()
            self._is_padded = False
        if collapsed.startswith(" "):
            self._space = True
        has_space_after = collapsed.endswith(" ")
        if not (collapsed := collapsed.strip(" ")):
            return
        self._begin()
        self._pieces.append(collapsed)
        self._newlines = 0
        self._space = has_space_after

    def glued(self, text: str) -> None:
        """Add text as it is, in the line: what it holds is already collapsed."""
        if text:
            self._space |= self._is_padded and text[0].isalnum()
            self._begin()
            self._pieces.append(text)
            self._newlines = 0
            self._space = self._is_padded = False

    def space(self) -> None:
        """Leave one space before the next words of this line."""
        self._space = True

    def apart(self, text: str) -> None:
        """Add text as it is, with a space wherever a letter or digit would touch it."""
        if text:
            self._space |= self.is_in_word
            self.glued(text)
            self._is_padded = True

    def pad(self) -> None:
        """Keep a letter or digit that comes next apart."""
        self._is_padded = True

    def tab(self) -> None:
        """Add a tab inside a line. At the start of a line it only indents, and is left out."""
        if not self._newlines:
            self._pieces.append("\t")
            self._space = self._is_padded = False

    def cell(self) -> None:
        """Begin a table cell: separate it from the one before it in the same line."""
        if not self._newlines:
            self.words(" | ")

    def verbatim(self, text: str) -> None:
        """Add preformatted text unchanged."""
        text = normalize_text(text)
        if text:
            if self._mark or not text.isspace():
                self._begin()
            if self._is_padded and text[0].isalnum():
                text = " " + text
            self._pieces.append(text)
            self._newlines = min(len(text) - len(text.rstrip("\n")), 2)
            self._space = self._is_padded = False

    def mark(self, mark: str) -> None:
        """Write this mark before the next words, after a mark that still waits."""
        self._mark = self._mark + mark.lstrip(" ") if self._mark else mark

    def restore_mark(self, mark: str) -> None:
        """Return to `mark` if no words came after the marks set since."""
        if self._mark:
            self._mark = mark

    def line(self, newlines: int = 1) -> None:
        """End the line. newlines=2 also leaves an empty line."""
        if self._newlines < newlines:
            self._pieces.append("\n" * (newlines - self._newlines))
            self._newlines = newlines
        self._space = self._is_padded = False

    def line_break(self) -> None:
        """End the line; if it has ended already, leave one empty line."""
        self.line(min(self._newlines + 1, 2))

    def result(self) -> str:
        """Return all text, with one newline at the end, "" if there is none."""
        text = "".join(self._pieces).strip("\n")
        return text + "\n" if text else ""

    def _begin(self) -> None:
        """Write the space or the mark that comes before the next text."""
        if self._space and not self._newlines:
            self._pieces.append(" ")
        if self._mark:
            self._pieces.append(self._mark)
            self._mark = ""
