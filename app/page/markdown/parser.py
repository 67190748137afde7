"""The parser of every Markdown text on the page: CommonMark with tables, struck out text and formulas, without HTML."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from markdown_it import MarkdownIt

from app.page.markdown.formulas import add_formulas
from app.page.markdown.writer import is_web_address, write

if TYPE_CHECKING:
    from markdown_it.token import Token

MAX_NESTING = 20


@cache
def _parser() -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"html": False, "maxNesting": MAX_NESTING})
    parser.enable(["table", "strikethrough"])
    # definitions of link targets change paragraphs above them: what was shown must not depend on what follows
    parser.disable(["html_block", "html_inline", "reference"])
    parser.validateLink = is_web_address  # type: ignore[method-assign]
    add_formulas(parser)
    return parser


def parse(text: str) -> list[Token]:
    """The block tokens of a Markdown text."""
    return _parser().parse(text)


def render(text: str, *, breaks: bool = False) -> str:
    """The HTML of a Markdown text, on one line. breaks: show a line break inside a paragraph as one."""
    tokens = parse(text)
    for child in (child for token in tokens for child in token.children or [] if breaks):
        if child.type == "softbreak":
            child.type = "hardbreak"
    return write(tokens)
