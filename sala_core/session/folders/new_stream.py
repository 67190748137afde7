"""The token stream of a session after files have changed, and what it costs to read it.

What stands before the first change stays as it is. Behind it, the unchanged documents come first, then those that have
changed, then the conversation: a file that changes again then costs little more than its own tokens.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from sala_core.session.known_states import last_snapshot, snapshot_before
from sala_core.session.stream import is_fixed, segment_ends
from sala_core.store import Library, PartDraft, PartRow, SessionRow
from sala_core.store.states import StateStore

STABLE_TOKENS = 16_384
"""A changed document keeps its place while fewer document tokens stand behind it. Otherwise it moves behind them: they
are read again this once, and not at its next change."""

Part = PartRow | PartDraft


def arrange(
    parts: Sequence[PartRow], changes: Mapping[str, PartDraft | None], added: Sequence[PartDraft]
) -> list[Part]:
    """Return the new stream.

    Args:
        parts: the session's stream.
        changes: id of a document that goes -> the one that takes its place; None for no other.
        added: documents that are new. They stand behind the conversation unless something before it changes.
    """
    first = next((index for index, part in enumerate(parts) if part.document_id in changes), None)
    if first is None:
        return [*parts, *added]
    behind = parts[first:]
    placed: list[Part] = []
    moved: list[Part] = []
    left = sum(_length(part) for part in behind if part.document_id is not None and part.document_id not in changes)
    for part in behind:
        if part.document_id is None:
            continue
        if part.document_id not in changes:
            left -= _length(part)
            placed.append(part)
        elif (new := changes[part.document_id]) is not None:
            (placed if left < STABLE_TOKENS else moved).append(new)
    turns = [part for part in behind if part.document_id is None]
    return [*parts[:first], *placed, *moved, *added, *turns]


def _length(part: Part) -> int:
    return len(part.token_ids) if isinstance(part, PartDraft) else part.end - part.start


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a new stream costs. head, position: the checkpoint of the session that it begins with; None and 0 for none.

    tokens: of the whole stream. tokens_read: those that no stored state covers. tokens_new: those of them that belong
    to parts which the session did not have.
    """

    head: str | None
    position: int
    tokens: int
    tokens_read: int
    tokens_new: int


def cost(library: Library, store: StateStore, session: SessionRow, parts: Sequence[Part], *, chunk_tokens: int) -> Cost:
    """Return what it costs to bring the session to the stream `parts`. Changes nothing.

    Args:
        library: holds the session.
        store: of the session's model.
        session: as it is.
        parts: the new stream.
        chunk_tokens: tokens per prefill chunk.
    """
    stream = _Stream(library, session, parts)
    fixed = partial(is_fixed, stream.rows, chunk_tokens=chunk_tokens)
    head, position = snapshot_before(store, session.head, stream.num_common(), fixed)
    ends = [end for end, _ in segment_ends(stream.rows, position, stream.num_tokens, chunk_tokens=chunk_tokens)]
    _, restored = last_snapshot(store, head, position, ends, stream.token_ids)
    new = sum(
        max(0, row.end - max(row.start, restored))
        for row, part in zip(stream.rows, parts, strict=True)
        if isinstance(part, PartDraft)
    )
    return Cost(
        head=head,
        position=position,
        tokens=stream.num_tokens,
        tokens_read=stream.num_tokens - restored,
        tokens_new=new,
    )


class _Stream:
    """A stream that is not stored yet: its parts at their new positions, and its tokens."""

    def __init__(self, library: Library, session: SessionRow, parts: Sequence[Part]) -> None:
        self._library = library
        self._session = session
        self._parts = parts
        self.rows: list[PartRow] = []
        position = 0
        for ordinal, part in enumerate(parts):
            end = position + _length(part)
            self.rows.append(
                PartRow(
                    ordinal=ordinal,
                    kind=part.kind,
                    start=position,
                    end=end,
                    document_id=part.document_id,
                    body_start=part.body_start,
                    message_id=part.message_id,
                )
            )
            position = end
        self.num_tokens = position

    def num_common(self) -> int:
        """How many tokens it has in common with the stored stream, from the beginning."""
        for row, part in zip(self.rows, self._parts, strict=True):
            if isinstance(part, PartRow) and part.start == row.start and part.ordinal == row.ordinal:
                continue
            length = min(row.end, self._session.num_tokens) - row.start
            if length <= 0:
                return min(row.start, self._session.num_tokens)
            old = self._library.token_ids(self._session.id, row.start, row.start + length)
            different = np.flatnonzero(old != self._of_part(part, 0, length))
            if different.size or row.end > self._session.num_tokens:
                return row.start + (int(different[0]) if different.size else length)
        return min(self.num_tokens, self._session.num_tokens)

    def token_ids(self, start: int, end: int) -> np.ndarray:
        """Return tokens [start, end), int32 [end - start]."""
        pieces = [
            self._of_part(part, max(start, row.start) - row.start, min(end, row.end) - row.start)
            for row, part in zip(self.rows, self._parts, strict=True)
            if row.start < end and row.end > start
        ]
        return np.concatenate(pieces) if pieces else np.empty(0, np.int32)

    def _of_part(self, part: Part, start: int, end: int) -> np.ndarray:
        """Tokens [start, end) of one part."""
        if isinstance(part, PartDraft):
            return np.asarray(part.token_ids[start:end], np.int32)
        return self._library.token_ids(self._session.id, part.start + start, part.start + end)
