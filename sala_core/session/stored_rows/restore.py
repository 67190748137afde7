"""Keys and values of a state to and from stored segments: read straight into its rows, by several threads, verified."""

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from torch import Tensor

from sala_core.engine.engine import Engine
from sala_core.model.state import SalaState
from sala_core.session.stored_rows import int8
from sala_core.store import CheckpointRow, Library
from sala_core.store.states import StateStore

_MAX_THREADS = 4
"""Threads that read and hash. More of them do not get more out of the memory."""

_STAGED = 4
"""Segments that are loaded ahead where they do not go straight into the state; each takes memory until it is used."""

Arrive = Callable[[], None]
"""Waits until a segment's rows are in the state. Raises StateError if they cannot be used."""


class StoredRows:
    """The rows of states with one fingerprint, and so of one number format at rest."""

    def __init__(self, library: Library, engine: Engine, fingerprint: str) -> None:
        """fingerprint: of the states, which the engine can continue (`Engine.at_rest`)."""
        self.store = StateStore(library, fingerprint)
        self._is_int8 = engine.at_rest(fingerprint) == "int8"
        self._is_direct = engine.model.device.type == "cpu" and not self._is_int8

    def take(self, state: SalaState, start: int, end: int) -> dict[str, Tensor]:
        """The rows of tokens start ... end - 1, not stored yet, in their stored form. Rounds them in the state too."""
        return int8.rounded_segment(state, start, end) if self._is_int8 else state.segment(start, end)

    def restore(self, state: SalaState, chain: Sequence[CheckpointRow]) -> Iterator[tuple[str, Arrive]]:
        """Load segments behind a state's rows. Yields each one's name, in order; the caller calls `Arrive`.

        Reading and checksums release the interpreter's lock, so that disk, memory and processor cores work at the same
        time. In the format of the memory, on a CPU, nothing is copied and nothing allocated beside the state. When the
        iterator is closed, what is under way is finished first.

        Args:
            state: ends where the first segment begins; its capacity is grown to the end of the last one.
            chain: checkpoints that follow each other (`StateStore.chain`).
        """
        if chain:
            state.reserve(chain[-1].end)
        pending: deque[tuple[CheckpointRow, Future[dict[str, Tensor]]]] = deque()
        with ThreadPoolExecutor(min(_MAX_THREADS, os.cpu_count() or 1), "sala-load") as pool:
            try:
                for row in chain:
                    pending.append((row, pool.submit(self._load, state, row)))
                    if len(pending) == _STAGED and not self._is_direct:
                        yield self._arriving(state, *pending.popleft())
                while pending:
                    yield self._arriving(state, *pending.popleft())
            finally:
                for _, future in pending:
                    future.cancel()

    def _load(self, state: SalaState, row: CheckpointRow) -> dict[str, Tensor]:
        """Read and verify a segment. Returns what is still to be put into the state. Runs on a thread of the pool."""
        if self._is_direct:
            self.store.load_segment_into(row, state.segment(row.start, row.end))
            return {}
        if not self._is_int8:
            return self.store.load_segment(row.name)
        segment = int8.stored_form(state, row.start, row.end)
        self.store.load_segment_into(row, segment)
        return segment

    def _arriving(self, state: SalaState, row: CheckpointRow, loading: Future[dict[str, Tensor]]) -> tuple[str, Arrive]:
        def arrive() -> None:
            segment = loading.result()
            if self._is_int8:
                int8.write_rows(state, segment, row.start, row.end)
            if self._is_int8 or self._is_direct:
                state.accept_rows(row.end)
            else:
                state.append_segment(segment, row.end)

        return row.name, arrive
