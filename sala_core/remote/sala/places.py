"""The places of an answer that came from another Sala, as places of the documents here.

The server names documents by the hash of name and text, which both sides compute. A place counts only if what it quotes
stands there in the text that is kept here: nothing is shown as evidence because a server says so.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache

import numpy as np

from sala_core.attention_map import AttentionMap
from sala_core.events import Answer, Evidence, Quotation
from sala_core.ingest import Document, SourceMap

_CACHED = 8


class LocalPlaces:
    """Maps places of one session's documents."""

    def __init__(self, ids: dict[str, str], load: Callable[[str], Document]) -> None:
        """ids: content hash -> id here. load: a document by its id."""
        self._ids = ids
        self._document = lru_cache(_CACHED)(load)

    def answer(self, answer: Answer) -> tuple[Answer, int]:
        """The answer with places here, and how many of its places do not stand here, and were left out."""
        evidence = tuple(filter(None, map(self._evidence, answer.evidence)))
        quotations = tuple(filter(None, map(self._quotation, answer.quotations)))
        lost = len(answer.evidence) + len(answer.quotations) - len(evidence) - len(quotations)
        shown = self._map(answer.attention_map)
        return replace(answer, evidence=evidence, quotations=quotations, attention_map=shown), lost

    def _evidence(self, item: Evidence) -> Evidence | None:
        if (document_id := self._ids.get(item.document_id)) is None:
            return None
        document = self._document(document_id)
        lines = _lines(document.text, item.line_start, item.line_end)
        at = document.text.find(item.text, *lines) if lines is not None and item.text else -1
        if at < 0:
            return None
        source_map = _source_map(document)
        place = source_map.place_of_chars(at, at + len(item.text))
        last = source_map.place_of_chars(at + len(item.text), at + len(item.text)).page
        page = item.page  # of the token with the most attention: it can be behind the first of these lines
        if place.page is None or last is None or page is None or not place.page <= page <= last:
            page = place.page
        return replace(
            item,
            document=document.name,
            document_id=document_id,
            page=page,
            rows=place.rows if item.rows is not None else None,
            header=place.header,
        )

    def _quotation(self, item: Quotation) -> Quotation | None:
        if (document_id := self._ids.get(item.document_id)) is None:
            return None
        document = self._document(document_id)
        source_map = _source_map(document)
        lines = _lines(document.text, item.line_start, item.line_end)
        place = None
        if lines is not None and (start := _start_of(document.text[slice(*lines)], item.text)) is not None:
            place = source_map.place_of_chars(lines[0] + start[0], lines[0] + start[1])
        place = place or source_map.find(item.text)
        if place is None:
            return None
        return replace(
            item,
            document=document.name,
            document_id=document_id,
            page=place.page,
            line_start=place.line_start,
            line_end=place.line_end,
        )

    def _map(self, shown: AttentionMap | None) -> AttentionMap | None:
        if shown is None or not all(name in self._ids for name, _ in shown.documents):
            return None
        return replace(shown, documents=tuple((self._ids[name], start) for name, start in shown.documents))


def _source_map(document: Document) -> SourceMap:
    """The map of a document whose tokens are not needed."""
    starts = np.empty(0, np.int64)
    return SourceMap(document.text, document.page_starts, starts, media_type=document.media_type)


def _lines(text: str, first: int, last: int) -> tuple[int, int] | None:
    """The characters [start, end) of these lines, counted from 1; None if the text does not have them."""
    starts = [0]
    while (end := text.find("\n", starts[-1])) >= 0:
        starts.append(end + 1)
    if not 1 <= first <= last <= len(starts):
        return None
    return starts[first - 1], starts[last] if last < len(starts) else len(text)


def _start_of(text: str, quotation: str) -> tuple[int, int] | None:
    """Where a quotation stands word for word in a part of a text, as characters [start, end)."""
    place = SourceMap(text, (), np.empty(0, np.int64)).find(quotation)
    return None if place is None else (place.char_start, place.char_end)
