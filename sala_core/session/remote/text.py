"""A session as an engine elsewhere sees it: documents, earlier turns, and the passages that the model here finds."""

from collections.abc import Callable, Sequence
from functools import cached_property, partial
from itertools import zip_longest

from sala_core.events import Evidence
from sala_core.evidence.finding import DocumentFinder, share_a_line
from sala_core.evidence.places import find_evidence
from sala_core.evidence.searched import SearchedDocument
from sala_core.ingest import Document
from sala_core.model.forward import AttentionTrace
from sala_core.remote.engine import PastTurn, TextDocument
from sala_core.session.context import SessionContext
from sala_core.session.text_mending import load_text
from sala_core.session.turn import Sources, messages_before
from sala_core.store import DocumentRow

_FINDER_SHARE = 2
"""Places of the finder for each one that received attention: it was right more often with the embedded model."""


class ReadText:
    """What is read of a session, for one question: a `SessionText`. The state stays as it is."""

    def __init__(
        self,
        context: SessionContext,
        question: str,
        sources: Sources,
        instead_of: str | None,
        *,
        is_aside: bool = False,
    ) -> None:
        """Prepare it; nothing is loaded yet.

        Args:
            context: the session; its state is in memory.
            question: its text.
            sources: the documents. While they are read here, the engine gets all of them all the same.
            instead_of: id of the turn of which the question becomes another version; what follows it is not told.
            is_aside: whether the question follows no other one: no turn is told.
        """
        self.session_id = context.session_id
        self.trace = AttentionTrace()
        """Attention of the question, once `passages` has been called."""
        self._context, self._question, self._sources, self._instead_of = context, question, sources, instead_of
        self._is_aside = is_aside

    @cached_property
    def documents(self) -> Sequence[TextDocument]:
        """The documents in the order of the stream, as far as they are known."""
        rows = {row.id: row for row in self._context.library.documents(self.session_id)}
        return [
            _document(each, rows[each.document_id], partial(self._load, each.document_id)) for each in self._searched
        ]

    def _load(self, document_id: str) -> Document:
        return load_text(self._context, document_id).document

    @cached_property
    def turns(self) -> Sequence[PastTurn]:
        """The shown turns before the question; none where it is asked aside."""
        messages = [] if self._is_aside else messages_before(self._context, self._instead_of)
        return [
            PastTurn(
                id=asked.id,
                question=asked.text,
                answer=answered.text,
                written_by=answered.stats.written_by if answered.stats else None,
            )
            for asked, answered in zip(messages[::2], messages[1::2], strict=False)
            if answered.text.strip()
        ]

    def passages(self, limit: int) -> Sequence[Evidence]:
        """The finder's places and those that received the model's attention, in turn; none of them twice."""
        before = self.turns[-1].question if self.turns else ""
        found = DocumentFinder(self._searched).passages(self._question, limit, before=before)
        groups = [found[start : start + _FINDER_SHARE] for start in range(0, len(found), _FINDER_SHARE)]
        chosen: list[Evidence] = []
        for group, attended in zip_longest(groups, self._attended(), fillvalue=None):
            for item in (*(group or ()), *([attended] if attended else [])):
                if item.text.strip() and not any(share_a_line(item, other) for other in chosen):
                    chosen.append(item)
        return chosen[:limit]

    def _attended(self) -> tuple[Evidence, ...]:
        """The places that the question attends to."""
        engine, state = self._context.engine, self._context.state.state
        assert state is not None
        if not self.trace.mass:
            engine.look_up(state, self._question, self.trace)
        sources = self._sources
        return find_evidence(self.trace, sources.spans, state.position, engine.model.layout, sources.source_map)

    @cached_property
    def _searched(self) -> list[SearchedDocument]:
        return self._sources.searched()


def _document(searched: SearchedDocument, row: DocumentRow, load: Callable[[], Document]) -> TextDocument:
    is_whole = searched.num_tokens >= row.num_tokens
    return TextDocument(
        id=row.id,
        name=row.name,
        content_hash=row.content_hash if is_whole else f"{row.content_hash}:{searched.num_tokens}",
        num_chars=row.num_chars,
        num_tokens=searched.num_tokens,
        text=searched.text,
        load=load,
    )
