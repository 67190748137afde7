"""Renders a text that grows: blocks that can no longer change are parsed once, only the last one again."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from app.page.markdown.formulas import begins_formula
from app.page.markdown.parser import parse
from app.page.markdown.writer import write

if TYPE_CHECKING:
    from markdown_it.token import Token


class GrowingMarkdown:
    """The HTML of one growing text. Any prefix gives what `render` gives, except that open code has no colors.

    Safe to call from any thread.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._settled = self._settled_html = self._text = self._html = ""

    def render(self, text: str) -> str:
        """The HTML of `text`. A text that does not continue the last one is rendered anew."""
        text = text.replace("\r\n", "\n").replace("\r", "\n")
        with self._lock:
            if not text.startswith(self._settled):
                self._settled = self._settled_html = ""
            if text != self._text:
                self._text, self._html = text, self._advance(text)
            return self._html

    def _advance(self, text: str) -> str:
        tail = text[len(self._settled) :]
        lines = tail.split("\n")
        tokens = parse(tail)
        starts = [index for index, token in enumerate(tokens) if token.level == 0 and token.nesting >= 0]
        last = starts[-1] if starts else 0
        shown = self._settled_html + write(tokens[:last]) + write(tokens[last:], highlight=False)
        # while its first line is incomplete, the last block may still turn out to continue the one before it
        settled = [
            index for index in starts if 0 < _line(tokens[index]) < min(len(lines) - 1, _open_formula(lines) + 1)
        ]
        if settled:
            self._settled += "".join(part + "\n" for part in lines[: _line(tokens[settled[-1]])])
            self._settled_html += write(tokens[: settled[-1]])
        return shown


def _line(token: Token) -> int:
    """The first line of a block."""
    assert token.map is not None
    return token.map[0]


def _open_formula(lines: list[str]) -> int:
    """The first line after which a formula may still begin: no empty line has followed it."""
    for number in range(len(lines) - 1, -1, -1):
        if not lines[number].strip() and number < len(lines) - 1:
            return len(lines)
        if begins_formula(lines[number]):
            return next(at for at in range(number, -1, -1) if at == 0 or not lines[at - 1].strip())
    return len(lines)
