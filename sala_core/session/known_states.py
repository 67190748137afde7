"""How far a token stream is covered by checkpoints that are stored, by whichever session."""

from collections.abc import Callable, Sequence

import numpy as np

from sala_core.errors import StateError
from sala_core.store.states import StateStore


def last_snapshot(
    store: StateStore,
    name: str | None,
    position: int,
    ends: Sequence[int],
    token_ids: Callable[[int, int], np.ndarray],
) -> tuple[str | None, int]:
    """Follow the stored checkpoints of a stream from `name`; return the last one that has a snapshot, and its end.

    Args:
        store: of the model's states.
        name: a checkpoint of the stream with a snapshot; None for its beginning.
        position: where it ends.
        ends: where the checkpoints behind it end, as `segment_ends` gives them.
        token_ids: (start, end) -> the stream's tokens, int32 [end - start].
    """
    best, best_end, parent, start = name, position, name, position
    for end in ends:
        parent = store.name(parent, token_ids(start, end))
        if not store.has(parent):
            break
        if store.checkpoint(parent).has_snapshot:
            best, best_end = parent, end
        start = end
    return best, best_end


def snapshot_before(
    store: StateStore, head: str | None, position: int, is_fixed: Callable[[int], bool]
) -> tuple[str | None, int]:
    """Return the last snapshot on the chain to `head` from which a reading can go on, and its end; else None, 0.

    Args:
        store: of the model's states.
        head: the end of the chain; None for an empty one.
        position: the snapshot ends here or before.
        is_fixed: whether every reading of the stream ends a checkpoint at a position (`stream.is_fixed`).
    """
    if head is None:
        return None, 0
    try:
        chain = store.chain(head)
    except StateError:
        return None, 0  # a part of it is gone: what is left is found by its tokens, or read again
    usable = [row for row in chain if row.has_snapshot and row.end <= position and is_fixed(row.end)]
    return (usable[-1].name, usable[-1].end) if usable else (None, 0)
