"""A session's model state: restore it from checkpoints, prefill the unread tokens, save it."""

import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import takewhile

import numpy as np
from torch import Tensor

from sala_core.engine.engine import Engine
from sala_core.engine.memory_budget import HEADROOM_TOKENS, check_budget
from sala_core.engine.speculation import DraftIndex
from sala_core.errors import CorruptStateError, StateError, StateMismatchError
from sala_core.events import ReadPhase, ReadProgress
from sala_core.model.state import Mark, SalaState
from sala_core.session.known_states import last_snapshot, snapshot_before
from sala_core.session.segment_writer import SegmentWriter
from sala_core.session.stored_rows.restore import StoredRows
from sala_core.session.stream import FileFinder, document_spans, is_fixed, segment_ends
from sala_core.store import Library, PartRow, SessionRow
from sala_core.store.states import StateStore

_RATE_WINDOW_S = 10.0


class SessionState:
    """The model state of one session, in memory and on disk. The caller holds the session's lock.

    `state` is None until it is needed, and whenever it may differ from the checkpoint at the session's head.
    tokens_read, tokens_reused, load_s, read_s: of the last `catch_up`. document_tokens_read: those of documents among
    the tokens read. tokens_shared: those of the reused ones that only another session had read, `shared_with`.
    warnings: damage that was found on disk, and repaired by reading again.
    """

    def __init__(self, library: Library, engine: Engine, session_id: str) -> None:
        self._library = library
        self._engine = engine
        self._session_id = session_id
        self._rows = StoredRows(library, engine, engine.fingerprint)
        self._writer = SegmentWriter(engine.model.device)
        self._head: str | None = None
        self.state: SalaState | None = None
        self._drafts: DraftIndex | None = None
        self._failure: BaseException | None = None
        self.tokens_read = 0
        self.document_tokens_read = 0
        self.tokens_reused = 0
        self.tokens_shared = 0
        self.shared_with = ""
        self.load_s = self.read_s = 0.0
        self.warnings: list[str] = []

    @property
    def _store(self) -> StateStore:
        return self._rows.store

    def drafts(self) -> DraftIndex:
        """An index over the tokens of the state in memory. A caller that advances the state also extends the index."""
        num_tokens = self.state.position if self.state else 0
        if self._drafts is None or len(self._drafts) != num_tokens:
            self._drafts = DraftIndex(self._library.token_ids(self._session_id, 0, num_tokens))
        return self._drafts

    def forget(self) -> None:
        """Drop the state in memory. The next `catch_up` restores it from disk."""
        self.settle()
        self.state = self._drafts = None

    def move_to(self, session_id: str) -> None:
        """Let the state serve another session, which stands on a checkpoint: what both have in common stays in memory.

        The caller has given up the first session's lock, and holds the other one's before `catch_up`.
        """
        self.settle()
        self._session_id, self._drafts = session_id, None

    def pause(self) -> Mark:
        """Remember the state while `catch_up` is suspended between two chunks, so that a question can be answered.

        After `Mark.rewind` and `resume` the reading goes on as if there had been none. Raises as `finish_writes`.
        """
        assert self.state is not None
        self.finish_writes()
        return self.state.mark()

    def finish_writes(self) -> None:
        """Wait until all writes have ended, while `catch_up` is suspended: the model is about to decode.

        Raises the error of a failed write; `catch_up` then ends with it too.
        """
        self._failure = self._failure or self._writer.settle()
        if self._failure is not None:
            raise self._failure

    def resume(self) -> None:
        """Forget what `drafts` knows of the answer that was given meanwhile."""
        self._drafts = None

    def settle(self) -> None:
        """Wait until all writes have ended. What could not be saved is not in the library, and is read again."""
        self._writer.settle()

    def make_room(self, num_tokens: int) -> None:
        """Reserve memory for `num_tokens` more tokens, so that buffers are not moved. Raises MemoryBudgetError."""
        assert self.state is not None
        total = self.state.position + num_tokens
        check_budget(self._engine, total, state=self.state)
        _reserve(self.state, total)

    def catch_up(self, should_stop: Callable[[], bool]) -> Generator[ReadProgress, None, None]:
        """Bring the state to the end of the stream: restore what is stored, prefill the rest, save every segment.

        On a GPU, segments are written while the next ones are prefilled; all are on disk when this ends. It ends early
        when `should_stop()` is true or when the iterator is closed; saved segments stay. Raises StateError,
        DiskFullError, MemoryBudgetError; the session's head is then the last saved segment.
        """
        row = self._library.session(self._session_id)
        if row.fingerprint != self._store.fingerprint:  # it was read in another format at rest than new sessions are
            self._rows = StoredRows(self._library, self._engine, row.fingerprint)
        parts = self._library.parts(row.id)
        files = FileFinder(document_spans(parts, self._library.documents(row.id)))
        meter = _Meter(files, row.num_tokens)
        started = time.monotonic()
        self.tokens_read = self.document_tokens_read = self.tokens_shared = 0
        self.shared_with, self._failure = "", None
        row = self._go_back(row, parts)
        if self._head != row.head:
            self._rewind(row)
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
                    if self._failure is not None:
                        raise self._failure
                    if start + done < end and should_stop():
                        self._writer.flush()
                        return
                self.save_run(start, ids, keep=keep)
                self._count(parts, start, end)
                if end < row.num_tokens and should_stop():
                    self._writer.flush()
                    return
            self._writer.flush()
            complete = True
        finally:
            if not complete:
                self.forget()

    def go_back_to(self, position: int) -> Iterator[ReadProgress]:
        """Take the state in memory back to an earlier place of the stream; the session's head stays where it is.

        The nearest snapshot before the place is restored, and the tokens between are prefilled. For use after
        `catch_up`, to whose counts this adds. What is saved afterwards is a branch of the stream.
        Raises StateError, DiskFullError, MemoryBudgetError.
        """
        assert self.state is not None
        parts = self._library.parts(self._session_id)
        files = FileFinder(document_spans(parts, self._library.documents(self._session_id)))
        meter = _Meter(files, position)
        self.settle()
        self._drafts = None
        fixed = partial(is_fixed, parts, chunk_tokens=self._engine.chunk_tokens)
        self._restore_before(position, fixed)
        self.tokens_reused = self.state.position
        meter.begin(self.state.position)
        for end, keep in self._segment_ends(parts, self.state.position, position):
            start = self.state.position
            ids = self._library.token_ids(self._session_id, start, end)
            for done, _ in self._engine.read(self.state, ids):
                yield meter.progress("reading", start + done)
            self.save_run(start, ids, keep=keep, commit=False)
            self._count(parts, start, end)

    def _restore_before(self, position: int, fixed: Callable[[int], bool]) -> None:
        """Restore the last usable snapshot of the present chain that ends at `position` or before, at a fixed place."""
        assert self.state is not None
        while True:
            name, end = snapshot_before(self._store, self._head, position, fixed)
            try:
                if name is None:
                    self.state.clear()
                else:
                    snapshot = self._store.load_snapshot(name)
                    self.state.set_position(end)
                    with _as_damage(name):
                        self.state.restore_snapshot(snapshot, end)
            except StateError as error:
                self.warnings.append(f"{error}; an earlier one is used")
                position = end - 1
                continue
            self._head = name
            return

    def _count(self, parts: Sequence[PartRow], start: int, end: int) -> None:
        """Count the tokens start ... end - 1 as read."""
        self.tokens_read += end - start
        documents = (part for part in parts if part.document_id is not None)
        self.document_tokens_read += sum(max(0, min(end, part.end) - max(start, part.start)) for part in documents)

    def save_run(self, start: int, ids: np.ndarray, *, keep: bool, commit: bool = True) -> tuple[str, int]:
        """Queue the storing of one checkpoint: the state's tokens from `start` to its end.

        Returns the checkpoint's name and end.

        Args:
            start: end of the checkpoint before.
            ids: the token ids, [n].
            keep: whether its snapshot stays when a later one is stored.
            commit: move the session's head there once it is stored. False: the head stays, and the checkpoint is on
                disk when this returns.

        Raises DiskFullError, for this checkpoint or for an earlier one.
        """
        assert self.state is not None
        end = self.state.position
        parent, self._head = self._head, self._store.name(self._head, ids)
        save = partial(self._save, self._head, parent, start, ids, keep=keep, commit=commit)
        self._writer.put(self._rows.take(self.state, start, end), self.state.snapshot(), save)
        if not commit or self._engine.model.device.type != "cuda":
            self._writer.flush()  # prefill is slow on a CPU: a crash loses one segment at most
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
        """Store a checkpoint, then move the head. Runs on the writing thread."""
        stored = self._store.save(
            parent=parent, token_ids=ids, start=start, segment=segment, snapshot=snapshot, keep=keep
        )
        assert stored == name
        written, self._store.bytes_written = self._store.bytes_written, 0
        self._library.count_written(self._session_id, written)
        if commit:
            self._library.set_head(self._session_id, name, start + len(ids))

    def _segment_ends(self, parts: Sequence[PartRow], start: int, end: int) -> list[tuple[int, bool]]:
        changed = self._library.first_changed_token(self._session_id)
        return segment_ends(parts, start, end, chunk_tokens=self._engine.chunk_tokens, first_changed=changed)

    def _restore(self, parts: Sequence[PartRow], num_tokens: int, meter: "_Meter") -> Iterator[ReadProgress]:
        """Rebuild the state from the last usable snapshot. Discards damaged checkpoints and tries earlier ones."""
        while True:
            name, position = self._last_snapshot(parts, num_tokens)
            state = self._engine.new_state()
            _reserve(state, num_tokens)
            reading = name or ""
            try:
                chain = self._store.chain(name) if name else []
                ends = iter([checkpoint.end for checkpoint in chain])
                for reading, arrive in self._rows.restore(state, chain):
                    with _as_damage(reading):
                        arrive()
                    yield meter.progress("restoring", next(ends))
                if name:
                    snapshot = self._store.load_snapshot(name)
                    with _as_damage(name):
                        state.restore_snapshot(snapshot, position)
            except StateError as error:
                self.warnings.append(f"{error}; the damaged part is read again")
                if not isinstance(error, StateMismatchError):
                    self._store.discard(reading)
                if self._library.session(self._session_id).head == name:  # not discarded, or not there at all
                    self._library.set_head(self._session_id, None, 0)
                self._go_back(self._library.session(self._session_id), parts)
                continue
            row = self._library.session(self._session_id)
            if name is not None and name != row.head:
                self._note_shared(name, position - row.position)
            if name != row.head:
                self._library.set_head(self._session_id, name, position)
            self.state, self._head = state, name
            return

    def _note_shared(self, name: str, num_tokens: int) -> None:
        """Record whose checkpoint it is, if another session stands on it: tokens that are not read again."""
        owner = self._library.session_that_shares(name, self._session_id)
        if owner is not None:
            self.shared_with, self.tokens_shared = owner, num_tokens

    def _go_back(self, row: SessionRow, parts: Sequence[PartRow]) -> SessionRow:
        """Move the head back to where an uninterrupted reading would have cut the stream, if more is to be read.

        The tokens behind that place, fewer than a segment, are prefilled again in the chunks that they now belong to.
        """
        fixed = partial(is_fixed, parts, chunk_tokens=self._engine.chunk_tokens)
        if row.position == row.num_tokens or fixed(row.position):
            return row
        name, position = snapshot_before(self._store, row.head, row.position, fixed)
        self._library.set_head(row.id, name, position)
        return self._library.session(row.id)

    def _rewind(self, row: SessionRow) -> None:
        """Bring the state in memory back to the session's head; drop it if it never was there."""
        self.settle()
        state, self._drafts = self.state, None
        try:
            if state is not None and row.head is None:
                state.clear()
                self._head = None
                return
            if state is not None and self._head is not None and row.head is not None:
                ours, theirs = self._store.chain(self._head), self._store.chain(row.head)
                same = sum(1 for _ in takewhile(lambda pair: pair[0].name == pair[1].name, zip(ours, theirs)))  # noqa: B905
                common = theirs[same - 1].end if same else 0
                if theirs[-1].end == row.position and 0 < common <= state.position:
                    snapshot = self._store.load_snapshot(row.head)
                    state.set_position(common)
                    for _, arrive in self._rows.restore(state, theirs[same:]):  # of another branch of the conversation
                        arrive()
                    state.restore_snapshot(snapshot, row.position)
                    self._head = row.head
                    return
        except StateError:
            pass  # the state is restored from disk, which says what is damaged
        self.forget()

    def _last_snapshot(self, parts: Sequence[PartRow], num_tokens: int) -> tuple[str | None, int]:
        """Name and end of the last stored checkpoint with a snapshot that fits the session's tokens.

        It is the session's head, or a later checkpoint of another session with the same tokens.
        """
        row = self._library.session(self._session_id)
        ends = [end for end, _ in self._segment_ends(parts, row.position, num_tokens)]
        return last_snapshot(self._store, row.head, row.position, ends, partial(self._library.token_ids, row.id))


@contextmanager
def _as_damage(name: str) -> Iterator[None]:
    """Raise CorruptStateError for a checkpoint of this model that holds other tensors than the model makes."""
    try:
        yield
    except StateMismatchError as error:
        raise CorruptStateError(f"{name} holds other tensors than its model makes: {error}") from error


def _reserve(state: SalaState, num_tokens: int) -> None:
    """Reserve memory for `num_tokens` tokens in all, and for a turn after them."""
    if state.capacity is not None and state.capacity < num_tokens:
        state.reserve(num_tokens + HEADROOM_TOKENS)


class _Meter:
    """Turns positions of the stream into ReadProgress."""

    def __init__(self, files: FileFinder, num_tokens: int) -> None:
        self._files = files
        self._num_tokens = num_tokens
        self._recent: deque[tuple[float, int]] = deque()

    def begin(self, position: int) -> None:
        """Measure the speed from here on."""
        self._recent.clear()
        self._recent.append((time.monotonic(), position))

    def progress(self, phase: ReadPhase, position: int) -> ReadProgress:
        """The progress at `position`, with the speed of the last _RATE_WINDOW_S seconds."""
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
