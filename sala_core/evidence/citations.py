"""Places of documents as records: quotations and evidence."""

from typing import Protocol

from sala_core.events import Evidence, Quotation
from sala_core.ingest import Place


class Named(Protocol):
    """A document, as far as a citation names it."""

    @property
    def document_id(self) -> str:
        """Its id in the library."""

    @property
    def name(self) -> str:
        """As the session shows it."""


def quotation(document: Named, place: Place, text: str) -> Quotation:
    """What stands word for word at a place. text: as the answer has it."""
    return Quotation(
        text=text,
        document=document.name,
        document_id=document.document_id,
        page=place.page,
        line_start=place.line_start,
        line_end=place.line_end,
    )


def evidence(document: Named, place: Place, text: str, score: float) -> Evidence:
    """A place that an answer rests on.

    Args:
        document: where it is.
        place: the lines.
        text: what the answer shows of it.
        score: its share, 0 ... 1.
    """
    return Evidence(
        document=document.name,
        document_id=document.document_id,
        page=place.page,
        line_start=place.line_start,
        line_end=place.line_end,
        rows=place.rows,
        header=place.header,
        text=text,
        score=round(score, 4),
    )
