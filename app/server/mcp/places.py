"""Places of documents as results, with the addresses of resources."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from app import wording
from app.server.mcp.records import Passage, QuotationPlace, Quoted, Where

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sala_core.events import Evidence, Quotation
    from sala_core.viewing.session_texts import QuotationPlace as FoundPlace

_MAX_LINES_CHARS = 600


def document_uri(session_id: str, document_id: str) -> str:
    """The address of a document's text."""
    return f"sala://sessions/{quote(session_id, safe='')}/documents/{quote(document_id, safe='')}"


def lines_uri(session_id: str, document_id: str, line_start: int, line_end: int) -> str:
    """The address of some lines of a document.

    Args:
        session_id, document_id: which document.
        line_start, line_end: from 1, inclusive.
    """
    return f"{document_uri(session_id, document_id)}/lines/{line_start}/{line_end}"


def passages(session_id: str, found: Iterable[Evidence]) -> list[Passage]:
    """Evidence, or what the finder found, as results."""
    return [
        Passage(
            document=item.document,
            document_id=item.document_id,
            page=item.page,
            line_start=item.line_start,
            line_end=item.line_end,
            place=wording.place(item.page, item.line_start, item.line_end, item.rows, item.document),
            uri=lines_uri(session_id, item.document_id, item.line_start, item.line_end),
            text=f"{item.header}\n{item.text}" if item.header else item.text,
            score=item.score,
        )
        for item in found
    ]


def quotation_place(session_id: str, found: FoundPlace) -> QuotationPlace:
    """A place of a quotation as a result. Very long lines are cut."""
    place, row = found.place, found.document
    lines = found.lines if len(found.lines) <= _MAX_LINES_CHARS else found.lines[:_MAX_LINES_CHARS] + " …"
    return QuotationPlace(
        document=row.name,
        document_id=row.id,
        page=place.page,
        line_start=place.line_start,
        line_end=place.line_end,
        place=wording.place(place.page, place.line_start, place.line_end, place.rows, row.name),
        uri=lines_uri(session_id, row.id, place.line_start, place.line_end),
        lines=lines,
    )


def quoted(session_id: str, verified: Iterable[Quotation], unverified: Iterable[str]) -> list[Quoted]:
    """The quotations of an answer: those that stand in a document, then the others."""
    found = [
        Quoted(
            text=item.text,
            word_for_word=True,
            where=Where(
                document=item.document,
                document_id=item.document_id,
                page=item.page,
                line_start=item.line_start,
                line_end=item.line_end,
                place=wording.place(item.page, item.line_start, item.line_end, document=item.document),
                uri=lines_uri(session_id, item.document_id, item.line_start, item.line_end),
            ),
        )
        for item in verified
    ]
    return found + [Quoted(text=text, word_for_word=False, where=None) for text in unverified]
