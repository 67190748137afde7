"""A session's model state in memory and on disk: restored from checkpoints, advanced over unread tokens, saved."""

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from sala_core.engine import Engine
from sala_core.errors import CorruptStateError
from sala_core.events import ReadPhase, ReadProgress
from sala_core.memory import check_budget
from sala_core.state import SalaState
from sala_core.store import Library, PartRow, StateStore
from sala_core.stream import FileFinder, document_spans, segment_ends

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
        self._head: str | None = None
        self.state: SalaState | None = None
        self.tokens_read = 0
        self.tokens_reused = 0
        self.load_s = 0.0
        self.warnings: list[str] = []

    @property
    def held_tokens(self) -> int:
        """Tokens that the state in memory stands for."""
        return self.state.position if self.state else 0

    def forget(self) -> None:
        """Let go of the state in memory; the next `catch_up` restores it from disk."""
        self.state = None

    def catch_up(self, should_stop: Callable[[], bool]) -> Iterator[ReadProgress]:
        """Bring the state to the end of the stream: restore what is stored, read the rest, saving as it goes.

        Ends early when `should_stop()` is true or when it is closed; what was saved stays. Raises StateError,
        DiskFullError, MemoryBudgetError; the library then stands at the last segment saved.
        """
        row = self._library.session(self._session_id)
        parts = self._library.parts(row.id)
        files = FileFinder(document_spans(parts, self._library.documents(row.id)))
        meter = _Meter(files, row.num_tokens)
        started = time.monotonic()
        self.tokens_read = 0
        check_budget(self._engine, row.num_tokens, held_tokens=self.held_tokens)
        if self.state is None or self._head != row.head:
            yield from self._restore(parts, row.num_tokens, meter)
        self.load_s = time.monotonic() - started
        assert self.state is not None
        self.tokens_reused = self.state.position
        meter.begin(self.state.position)
        complete = False
        try:
            for end, keep in segment_ends(parts, self.state.position, row.num_tokens):
                start = self.state.position
                ids = self._library.token_ids(row.id, start, end)
                for done, _ in self._engine.read(self.state, ids):
                    yield meter.progress("reading", start + done)
                    if start + done < end and should_stop():
                        return
                self.save_run(start, ids, keep=keep)
                self.tokens_read += end - start
                if end < row.num_tokens and should_stop():
                    return
            complete = True
        finally:
            if not complete:
                self.forget()

    def save_run(self, start: int, ids: np.ndarray, *, keep: bool, commit: bool = True) -> tuple[str, int]:
        """Store the tokens from `start` to the state's end, whose ids [n] are given, as one checkpoint.

        commit: move the session's head there. Returns the checkpoint's name and end. Raises DiskFullError.
        """
        assert self.state is not None
        end = self.state.position
        self._head = self._store.save(
            parent=self._head,
            token_ids=ids,
            start=start,
            segment=self.state.segment(start, end),
            snapshot=self.state.snapshot(),
            keep=keep,
        )
        if commit:
            self._library.set_head(self._session_id, self._head, end)
        return self._head, end

    def _restore(self, parts: Sequence[PartRow], num_tokens: int, meter: "_Meter") -> Iterator[ReadProgress]:
        """Rebuild the state from the furthest snapshot that fits; a damaged checkpoint is dropped, then the one before
        it is tried."""
        while True:
            name, position = self._furthest(parts, num_tokens)
            state = self._engine.new_state()
            state.reserve(num_tokens)
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
        for end, _ in segment_ends(parts, start, num_tokens):
            parent = self._store.name(parent, self._library.token_ids(row.id, start, end))
            if not self._store.has(parent):
                break
            if self._store.checkpoint(parent).has_snapshot:
                best, best_end = parent, end
            start = end
        return best, best_end


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
