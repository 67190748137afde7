"""What a finder searches: documents, each as far as it is known. And what it gives: an answer with its places."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from sala_core.events import Evidence, Quotation
from sala_core.ingest import SourceMap

if TYPE_CHECKING:
    from sala_core.evidence.places import DocumentSpan


@dataclass(frozen=True, kw_only=True)
class SearchedDocument:
    """A document, of which the first `num_tokens` tokens are read. lines: its map; None where its text is lost."""

    document_id: str
    name: str
    num_tokens: int
    lines: Callable[[], SourceMap | None]

    def text(self) -> str:
        """The characters that are read; "" where the text is lost."""
        lines = self.lines()
        if lines is None or not self.num_tokens:
            return ""
        return lines.text(lines.place_of_chars(0, lines.place(0, self.num_tokens - 1).char_end))


def searched_documents(
    spans: Iterable[DocumentSpan], source_map: Callable[[str], SourceMap | None]
) -> list[SearchedDocument]:
    """The documents of a stream, each as far as its span goes. source_map: gives a document's map by its id."""
    return [
        SearchedDocument(
            document_id=span.document_id,
            name=span.name,
            num_tokens=span.end - span.start,
            lines=partial(source_map, span.document_id),
        )
        for span in spans
    ]


@dataclass(frozen=True, kw_only=True)
class FoundAnswer:
    """What was found. confidence: the chance that the first quotation answers the question, 0 ... 1."""

    text: str
    evidence: tuple[Evidence, ...]
    quotations: tuple[Quotation, ...]
    confidence: float
