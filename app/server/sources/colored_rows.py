"""Rows of a document as JSON: text in runs with Pygments' classes, never HTML."""

from __future__ import annotations

from bisect import bisect_right
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from pygments.lexers import get_lexer_for_filename
from pygments.lexers.special import TextLexer
from pygments.token import STANDARD_TYPES
from pygments.util import ClassNotFound

if TYPE_CHECKING:
    from pygments.lexer import Lexer
    from pygments.token import _TokenType

    from sala_core.viewing.document_text import DocumentText, Row

MAX_COLORED_CHARS = 250_000
"""A longer file is colored from a little before the rows that are shown, not from its beginning."""
_LEAD_ROWS = 200
_PLAIN, _TABLE = "text/plain", "text/csv"


def layout_of(text: DocumentText) -> str:
    """How a document's text is set: "code", "table" or "prose"."""
    if text.document.media_type == _TABLE:
        return "table"
    return "code" if _lexer(text) is not None else "prose"


def rows_json(text: DocumentText, first: int, count: int) -> list[dict[str, Any]]:
    """The rows from `first` on. `line` is 0 for the second and further rows of a line; `level` is a heading's."""
    rows = text.rows(first, count)
    lexer = _lexer(text)
    if lexer is not None and rows:
        return [_row_json(row) | {"runs": runs} for row, runs in zip(rows, _runs(text, lexer, rows), strict=True)]
    levels = {heading.row: heading for heading in text.headings}
    shown = []
    for index, row in enumerate(rows, start=first):
        heading = levels.get(index)
        marks = {"level": heading.level} if heading is not None else {}
        shown.append(_row_json(row) | marks | {"runs": [["", row.text]]})
    return shown


def _row_json(row: Row) -> dict[str, Any]:
    return {"line": row.line if row.is_first else 0, "start": row.start}


def _lexer(text: DocumentText) -> Lexer | None:
    """The lexer of a source file, by its name; None for everything else."""
    return _lexer_of(text.document.name) if text.document.media_type == _PLAIN else None


@lru_cache(maxsize=256)
def _lexer_of(name: str) -> Lexer | None:
    try:
        lexer = get_lexer_for_filename(name, stripnl=False, ensurenl=False)
    except ClassNotFound:
        return None
    return None if isinstance(lexer, TextLexer) else lexer


def _runs(text: DocumentText, lexer: Lexer, rows: list[Row]) -> list[list[tuple[str, str]]]:
    """(class, text) of the runs of each row."""
    if len(text.text) <= MAX_COLORED_CHARS:
        starts, names = _whole(text.document.content_hash, text.text, lexer)
        offset = 0
    else:
        lead = text.rows(max(0, text.row_of(rows[0].start) - _LEAD_ROWS), 1)[0]
        offset = lead.start
        starts, names = _lexed(text.text[offset : rows[-1].start + len(rows[-1].text)], lexer)
    return [_cut(row, starts, names, offset) for row in rows]


@lru_cache(maxsize=8)
def _whole(content_hash: str, text: str, lexer: Lexer) -> tuple[list[int], list[str]]:
    return _lexed(text, lexer)


def _lexed(text: str, lexer: Lexer) -> tuple[list[int], list[str]]:
    """Where runs of one class begin, and their classes."""
    starts, names = [0], [""]
    for start, kind, _ in lexer.get_tokens_unprocessed(text):
        name = _name_of(kind)
        if name != names[-1]:
            starts.append(start)
            names.append(name)
    return starts, names


def _name_of(kind: _TokenType) -> str:
    return STANDARD_TYPES.get(kind) or STANDARD_TYPES.get(kind.parent or kind, "")


def _cut(row: Row, starts: list[int], names: list[str], offset: int) -> list[tuple[str, str]]:
    """The runs of one row."""
    begin = row.start - offset
    end = begin + len(row.text)
    index = max(0, bisect_right(starts, begin) - 1)
    runs: list[tuple[str, str]] = []
    at = begin
    while at < end:
        after = min(end, starts[index + 1]) if index + 1 < len(starts) else end
        if after > at:
            runs.append((names[index], row.text[at - begin : after - begin]))
        at = max(at, after)
        index += 1
    return runs or [("", "")]
