"""Marks the passages of an answer that stand word for word in a source, with their place."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from markdown_it.token import Token

from app import wording
from app.page.markdown.parser import parse
from app.page.markdown.writer import MARK, plain_text
from app.page.markup import tag
from app.page.source_viewer.places import short_place
from sala_core.events import Quotation

_CLOSING_QUOTES = "\"'”’»“"


@dataclass(frozen=True, kw_only=True)
class _Piece:
    """One token with text. start: its first character in the whole text; siblings[index] is the token."""

    start: int
    text: str
    siblings: list[Token]
    index: int


def mark_quotations(tokens: list[Token], quotations: Sequence[Quotation]) -> None:
    """Put the mark of each quotation behind it, in place: behind its closing quotation mark, or behind its code.

    A quotation that is not found in what the answer shows stays unmarked. One that stands there twice is marked where
    it comes next.
    """
    ends: dict[str, int] = {}
    for index, quotation in enumerate(quotations):
        pieces = list(_pieces(tokens))
        text = _joined(pieces)
        end = _end_of(quotation.text, text, ends.get(quotation.text, 0))
        if end is not None:
            ends[quotation.text] = end
            _insert(next(piece for piece in reversed(pieces) if piece.start < end), end, _mark_html(quotation, index))


def _joined(pieces: Sequence[_Piece]) -> str:
    """The text of all pieces at their places; a space stands between two blocks."""
    text = ""
    for piece in pieces:
        text = text.ljust(piece.start) + piece.text
    return text


def _pieces(tokens: list[Token]) -> Iterator[_Piece]:
    position = 0
    for index, token in enumerate(tokens):
        siblings = token.children or [] if token.type == "inline" else [token]
        for at, child in enumerate(siblings):
            if text := plain_text(child):
                is_inline = token.type == "inline"
                yield _Piece(
                    start=position,
                    text=text,
                    siblings=siblings if is_inline else tokens,
                    index=at if is_inline else index,
                )
                position += len(text)
        position += 1


def _end_of(passage: str, text: str, start: int) -> int | None:
    """Where the passage ends in the text, from `start` on, with the punctuation and quotation marks that follow."""
    shown = _joined(list(_pieces(parse(passage))))
    for spelling in dict.fromkeys((passage, shown)):
        words = [re.escape(word) for word in spelling.split()]
        if not words:
            continue
        match = re.compile(r"\s+".join(words) + rf"[.,;:!?]?[{re.escape(_CLOSING_QUOTES)}]*").search(text, start)
        if match is not None:
            return match.end()
    return None


def _insert(piece: _Piece, end: int, shown: str) -> None:
    mark = Token(MARK, "", 0, content=shown)
    token = piece.siblings[piece.index]
    offset = end - piece.start
    if token.type != "text" or offset >= len(token.content):
        piece.siblings.insert(piece.index + 1, mark)
        return
    rest = Token("text", "", 0, content=token.content[offset:])
    token.content = token.content[:offset]
    piece.siblings[piece.index + 1 : piece.index + 1] = [mark, rest]


def _mark_html(quotation: Quotation, index: int) -> str:
    """The mark of an answer's quotation with this number. Its key is known to `sala_core.viewing.turn_places`."""
    where = wording.place(quotation.page, quotation.line_start, quotation.line_end, document=quotation.document)
    return " " + tag(
        "button",
        f"word for word, {short_place(quotation)}",
        type="button",
        class_="mark",
        title=f"Stands word for word in {quotation.document}, {where}",
        data_passage=f"q{index}",
    )
