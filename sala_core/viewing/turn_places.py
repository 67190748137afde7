"""The places of one answer: its quotations and its evidence, by keys that the page uses."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from sala_core.attention_map import AttentionMap
from sala_core.errors import LibraryError
from sala_core.events import AnswerStats, Evidence, Quotation
from sala_core.store import Library
from sala_core.store.rows import MessageRow

PlaceKind = Literal["quotation", "evidence"]
QUOTATION_PREFIX, EVIDENCE_PREFIX = "q", "e"
"""A place's key is one of these and its number from 0: of `AnswerStats.quotations`, or of `MessageRow.evidence`."""


@dataclass(frozen=True, kw_only=True)
class TurnPlace:
    """A quotation or a piece of evidence. rank: from 1 among its kind. text: as the answer or the evidence has it."""

    key: str
    kind: PlaceKind
    rank: int
    document_id: str
    document: str
    page: int | None
    line_start: int
    line_end: int
    rows: tuple[int, int] | None
    text: str


@dataclass(frozen=True, kw_only=True)
class TurnPlaces:
    """All places of an answer, quotations first, and its attention map; None where none was kept."""

    places: tuple[TurnPlace, ...]
    attention_map: AttentionMap | None

    def place(self, key: str) -> TurnPlace:
        """The place with a key. Raises LibraryError."""
        for one in self.places:
            if one.key == key:
                return one
        raise LibraryError(f"the answer has no place {key!r}; reload the page")


def turn_places(library: Library, session_id: str, message_id: str) -> TurnPlaces:
    """The places of an answer. Raises LibraryError (also SessionNotFoundError) where there is none with this id."""
    message = _find(library.messages(session_id), message_id)
    stats = message.stats or AnswerStats()
    quotations = [_place("quotation", QUOTATION_PREFIX, index, one) for index, one in enumerate(stats.quotations)]
    evidence = [_place("evidence", EVIDENCE_PREFIX, index, one) for index, one in enumerate(message.evidence)]
    return TurnPlaces(places=(*quotations, *evidence), attention_map=stats.attention_map)


def _place(kind: PlaceKind, prefix: str, index: int, item: Quotation | Evidence) -> TurnPlace:
    return TurnPlace(
        key=f"{prefix}{index}",
        kind=kind,
        rank=index + 1,
        document_id=item.document_id,
        document=item.document,
        page=item.page,
        line_start=item.line_start,
        line_end=item.line_end,
        rows=item.rows if isinstance(item, Evidence) else None,
        text=item.text,
    )


def _find(messages: Sequence[MessageRow], message_id: str) -> MessageRow:
    for message in messages:
        if message.id == message_id and message.role == "assistant":
            return message
    raise LibraryError("this answer is not in the session any more; reload the page")
