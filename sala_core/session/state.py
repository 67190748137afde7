"""A session's model state in memory and on disk: restored from checkpoints, advanced over unread tokens, saved."""

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np
from torch import Tensor

from sala_core.engine.engine import Engine
from sala_core.engine.memory_budget import ROOM_TOKENS, check_budget
from sala_core.engine.speculation import DraftIndex
from sala_core.errors import CorruptStateError
from sala_core.events import ReadPhase, ReadProgress
from sala_core.model.state import SalaState
from sala_core.session.segment_writer import SegmentWriter
from sala_core.session.stream import FileFinder, document_spans, segment_ends
from sala_core.store import Library, PartRow, StateStore

_RATE_WINDOW_S = 10.0


class SessionState:
    """The state of one session. Whoever calls `catch_up` or `save_run` holds the session's lock.

    `state` is None until it is needed, and whenever memory does not equal what the library's head says.
    tokens_read, tokens_reused, load_s: of the last `catch_up`. warnings: damage found, and mended by reading again.
    """

    def __init__(self, library: Library, engine: Engine, session_id: str) -> None:
        self._library = library
        self._engine = engine
        self._session_id = session_id
        self._store = StateStore(library, engine.fingerprint)
        self._writer = SegmentWriter(engine.model.device)
        self._head: str | None = None
        self.state: SalaState | None = None
        self._drafts: DraftIndex | None = None
        self.tokens_read = 0
        self.tokens_reused = 0
        self.load_s = 0.0
        self.warnings: list[str] = []

    @property
    def held_tokens(self) -> int:
        """Tokens that the state in memory stands for."""
        return self.state.position if self.state else 0

    def drafts(self) -> DraftIndex:
        """An index over the tokens that the state in memory holds; whoever advances the state extends it."""
        if self._drafts is None or len(self._drafts) != self.held_tokens:
            self._drafts = DraftIndex(self._library.token_ids(self._session_id, 0, self.held_tokens))
        return self._drafts

    def forget(self) -> None:
        """Let go of the state in memory; the next `catch_up` restores it from disk."""
        self.settle()
        self.state = None

    def settle(self) -> None:
        """Wait until nothing is being written. What could not be saved is not in the library, and is read again."""
        self._writer.settle()

    def make_room(self, num_tokens: int) -> None:
        """Let the state in memory take so many more tokens without moving. Raises MemoryBudgetError."""
        assert self.state is not None
        total = self.state.position + num_tokens
        check_budget(self._engine, total, state=self.state)
        _reserve(self.state, total)

    def catch_up(self, should_stop: Callable[[], bool]) -> Iterator[ReadProgress]:
        """Bring the state to the end of the stream: restore what is stored, read the rest, saving as it goes.

        On a card segments are written while the next ones are read; all are when this ends. Ends early when
        `should_stop()` is true or when it is closed; what was saved stays. Raises StateError, DiskFullError,
        MemoryBudgetError; the library then stands at the last segment saved.
        """
        row = self._library.session(self._session_id)
        parts = self._library.parts(row.id)
        files = FileFinder(document_spans(parts, self._library.documents(row.id)))
        meter = _Meter(files, row.num_tokens)
        started = time.monotonic()
        self.tokens_read = 0
        if self._head != row.head:
            self.forget()
        check_budget(self._engine, row.num_tokens, state=self.state)
        if self.state is None:
            yield from self._restore(parts, row.num_tokens, meter)
        self.load_s = time.monotonic() - started
        assert self.state is not None
        _reserve(self.state, row.num_tokens)
        self.tokens_reused = self.state.position
        meter.begin(self.state.position)
        complete = False
        try:
            for end, keep in self._segment_ends(parts, self.state.position, row.num_tokens):
                start = self.state.position
                ids = self._library.token_ids(row.id, start, end)
                for done, _ in self._engine.read(self.state, ids):
                    yield meter.progress("reading", start + done)
                    if start + done < end and should_stop():
                        self._writer.flush()
                        return
                self.save_run(start, ids, keep=keep)
                self.tokens_read += end - start
                if end < row.num_tokens and should_stop():
                    self._writer.flush()
                    return
            self._writer.flush()
            complete = True
        finally:
            if not complete:
                self.forget()

    def save_run(self, start: int, ids: np.ndarray, *, keep: bool, commit: bool = True) -> tuple[str, int]:
        """Have the tokens from `start` to the state's end, whose ids [n] are given, stored as one checkpoint.

        commit: move the session's head there, once it is stored; otherwise it is stored when this returns. Returns the
        checkpoint's name and end. Raises DiskFullError, for this checkpoint or one before it.
        """
        assert self.state is not None
        end = self.state.position
        parent, self._head = self._head, self._store.name(self._head, ids)
        save = partial(self._save, self._head, parent, start, ids, keep=keep, commit=commit)
        self._writer.put(self.state.segment(start, end), self.state.snapshot(), save)
        if not commit or self._engine.model.device.type != "cuda":
            self._writer.flush()  # a card reads a segment in a moment; elsewhere a kill is to lose one at most
        return self._head, end

    def _save(
        self,
        name: str,
        parent: str | None,
        start: int,
        ids: np.ndarray,
        segment: dict[str, Tensor],
        snapshot: dict[str, Tensor],
        *,
        keep: bool,
        commit: bool,
    ) -> None:
        """On the writing thread: store a checkpoint, then move the head."""
        stored = self._store.save(
            parent=parent, token_ids=ids, start=start, segment=segment, snapshot=snapshot, keep=keep
        )
        assert stored == name
        if commit:
            self._library.set_head(self._session_id, name, start + len(ids))

    def _segment_ends(self, parts: Sequence[PartRow], start: int, end: int) -> list[tuple[int, bool]]:
        return segment_ends(parts, start, end, chunk_tokens=self._engine.chunk_tokens)

    def _restore(self, parts: Sequence[PartRow], num_tokens: int, meter: "_Meter") -> Iterator[ReadProgress]:
        """Rebuild the state from the furthest snapshot that fits; a damaged checkpoint is dropped, then the one before
        it is tried."""
        while True:
            name, position = self._furthest(parts, num_tokens)
            state = self._engine.new_state()
            _reserve(state, num_tokens)
            try:
                for checkpoint in self._store.chain(name) if name else []:
                    reading = checkpoint.name
                    state.append_segment(self._store.load_segment(checkpoint.name), checkpoint.end)
                    yield meter.progress("restoring", checkpoint.end)
                if name:
                    state.restore_snapshot(self._store.load_snapshot(name), position)
            except CorruptStateError as error:
                self.warnings.append(f"{error}; the damaged part is read again")
                self._store.discard(reading)
                continue
            if name != self._library.session(self._session_id).head:
                self._library.set_head(self._session_id, name, position)
            self.state, self._head = state, name
            return

    def _furthest(self, parts: Sequence[PartRow], num_tokens: int) -> tuple[str | None, int]:
        """The last stored checkpoint with a snapshot on this session's path: its head, or one that another session
        with the same tokens has left further on."""
        row = self._library.session(self._session_id)
        best, best_end = row.head, row.position
        parent = row.head
        start = row.position
        for end, _ in self._segment_ends(parts, start, num_tokens):
            parent = self._store.name(parent, self._library.token_ids(row.id, start, end))
            if not self._store.has(parent):
                break
            if self._store.checkpoint(parent).has_snapshot:
                best, best_end = parent, end
            start = end
        return best, best_end


def _reserve(state: SalaState, num_tokens: int) -> None:
    """Make room for so many tokens in all, and for what is then asked and answered."""
    if state.capacity is not None and state.capacity < num_tokens:
        state.reserve(num_tokens + ROOM_TOKENS)


class _Meter:
    """Turns positions of the stream into ReadProgress."""

    def __init__(self, files: FileFinder, num_tokens: int) -> None:
        self._files = files
        self._num_tokens = num_tokens
        self._recent: deque[tuple[float, int]] = deque()

    def begin(self, position: int) -> None:
        """Reading starts here: what came before does not count for the speed."""
        self._recent.clear()
        self._recent.append((time.monotonic(), position))

    def progress(self, phase: ReadPhase, position: int) -> ReadProgress:
        """The progress at `position`; speed over the last ten seconds."""
        now = time.monotonic()
        self._recent.append((now, position))
        while len(self._recent) > 2 and now - self._recent[0][0] > _RATE_WINDOW_S:
            self._recent.popleft()
        (then, before) = self._recent[0]
        rate = (position - before) / (now - then) if phase == "reading" and now > then else 0.0
        files_done, name = self._files.at(position)
        return ReadProgress(
            phase=phase,
            file=name,
            files_done=files_done,
            files_total=self._files.count,
            tokens_done=position,
            tokens_total=self._num_tokens,
            tokens_per_s=rate,
            seconds_left=(self._num_tokens - position) / rate if rate else None,
        )
