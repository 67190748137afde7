"""One session, open for writing: read files into it, ask questions, hand it to another model."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from sala_core.engine.engine import Engine
from sala_core.engine.generate import Token
from sala_core.engine.release_memory import release_memory
from sala_core.engine.sampling import SamplingParams
from sala_core.errors import (
    SalaError,
    SessionExistsError,
    SessionNotFoundError,
    StateMismatchError,
)
from sala_core.events import Answer, PromptProgress, ReadProgress, ReadReceipt
from sala_core.ingest import FileChoice, Limits
from sala_core.ingest.load import PasswordOf, no_password
from sala_core.session.context import SessionContext
from sala_core.session.hosting.follow import Given, check_expected, follow
from sala_core.session.index_ahead import index_ahead
from sala_core.session.lists.aside import Aside
from sala_core.session.planning.timing import catch_up
from sala_core.session.queue.recorded import recorded
from sala_core.session.reading import Approve, Reading, ReadOrder, retokenized_parts
from sala_core.session.remote.turn import Writer, WrittenTurn
from sala_core.session.state import SessionState
from sala_core.session.stream import StreamWriter
from sala_core.session.turn import Turn
from sala_core.session.versions import find_turn, go_before, question_of, retokenized_versions
from sala_core.stopping import never
from sala_core.store import JobRequest, Library, SessionRow, TurnRow
from sala_core.store.turns.operations import numbered

E = TypeVar("E")


class Session:
    """A session of a library, on an engine. Holds the session's lock until it is closed. Example::

        with Library.open(Path("library")) as library:
            with Session.open(library, Engine.load("embedded"), "novel", create=True) as session:
                for event in session.read([Path("novel.txt")]):
                    print(event)
                for event in session.ask("Who came first?"):
                    print(event)

    `state` may be kept, and given to a later Session of the same session: then nothing is loaded twice.
    """

    def __init__(
        self,
        library: Library,
        engine: Engine,
        row: SessionRow,
        lock: ExitStack,
        state: SessionState | None = None,
    ) -> None:
        """Take a session whose lock is held; `open` is the usual way. An empty session gets its system message.

        Args:
            library: holds the session.
            engine: prefills and answers.
            row: the session, as the library has it.
            lock: is closed with the session.
            state: of an earlier Session of the same session; None starts without one in memory.
        """
        self._lock = lock
        self._is_new = self._read_nothing = False
        self.state = state or SessionState(library, engine, row.id)
        writer = StreamWriter(engine.tokenizer, engine.chat)
        self._context = SessionContext(
            library=library, engine=engine, session_id=row.id, writer=writer, state=self.state
        )
        if row.num_tokens == 0:
            parts = [writer.system(row.system_prompt)]
            library.reset_session(row.id, model=engine.name, fingerprint=engine.fingerprint, parts=parts)

    @classmethod
    def open(
        cls,
        library: Library,
        engine: Engine,
        name: str,
        *,
        create: bool = False,
        state: SessionState | None = None,
    ) -> Self:
        """Open a session by its name or id.

        Args:
            library, engine: what the session is in, and what answers.
            name: name or id.
            create: add the session if there is none.
            state: of an earlier Session of the same session.

        Raises SessionNotFoundError, SessionBusyError (another process or thread has it open).
        """
        is_new = False
        try:
            row = library.session(name)
        except SessionNotFoundError:
            if not create:
                raise
            try:
                row, is_new = library.create_session(name, model=engine.name, fingerprint=engine.fingerprint), True
            except SessionExistsError:  # another process has just begun to read into it: its lock says so
                row = library.session(name)
        with ExitStack() as stack:
            row = stack.enter_context(library.lock_session(row.id))
            session = cls(library, engine, row, stack, state)
            session.state.warnings += library.take_notices()
            session._lock, session._is_new = stack.pop_all(), is_new
            return session

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Wait until everything that was read is on disk, then release the lock.

        A session that `open` has created, and into which nothing could be read, is deleted.
        """
        self.state.settle()
        self._lock.close()
        if self._is_new and self._read_nothing:
            self._is_new = False
            self._context.library.delete_if_blank(self._context.session_id)

    @property
    def context(self) -> SessionContext:
        """What the parts of the open session share."""
        return self._context

    @property
    def row(self) -> SessionRow:
        """The session's present row in the library."""
        return self._context.row

    def turn(self, number: int) -> TurnRow:
        """The turn with this number, counted from 1; 0 for the last one. Raises LibraryError if there is none."""
        turns = self._context.library.turns(self._context.session_id)
        return numbered(turns, number)

    def recorded(self, request: JobRequest, events: Iterable[E]) -> Iterator[E]:
        """Pass on the events of `read`, `remove` or `ask`, and keep a job's row of them (`queue.recorded`)."""
        return recorded(self._context.library, self._context.session_id, request, events)

    @property
    def sampling_defaults(self) -> SamplingParams:
        """The model's own sampling parameters."""
        return self._context.engine.sampling_defaults

    def read(
        self,
        paths: Sequence[Path],
        *,
        should_stop: Callable[[], bool] = never,
        limits: Limits | None = None,
        choice: FileChoice | None = None,
        drop_gone: bool = False,
        is_chosen: bool = False,
        password_of: PasswordOf = no_password,
        approve: Approve | None = None,
    ) -> Iterator[ReadProgress | ReadReceipt]:
        """Read files and folders into the session; the last event is the receipt.

        A file that the session has already is not read again, so the same call continues a reading that was stopped or
        killed. The text of a file that has changed since takes the place of the old one, which leaves the token stream;
        what stands behind it is prefilled again. Without paths it continues whatever is unread.

        Args:
            paths: files and folders.
            should_stop: ends the reading when it returns True.
            limits: bounds on the files; None for the defaults.
            choice: which files of a folder are wanted; None for the defaults.
            drop_gone: take out the texts of files that are not in their folders any more.
            is_chosen: each file was chosen, so those that were once taken out of the session are read again.
            password_of: called for encrypted files. Passwords are not stored.
            approve: asked before anything is changed; None agrees.

        Raises IngestError for a path that does not exist, StateMismatchError, DiskFullError, MemoryBudgetError.
        """
        self._check_model()
        order = ReadOrder(
            paths=tuple(paths),
            drop_gone=drop_gone,
            limits=limits,
            choice=choice or FileChoice(),
            is_chosen=is_chosen,
            password_of=password_of,
        )
        try:
            for event in Reading(self._context, order).run(should_stop, approve):
                if isinstance(event, ReadReceipt):
                    self._read_nothing = not event.stopped
                yield event
        except SalaError:
            self._read_nothing = True
            raise

    def remove(
        self, document_ids: Sequence[str], *, should_stop: Callable[[], bool] = never, approve: Approve | None = None
    ) -> Iterator[ReadProgress | ReadReceipt]:
        """Take documents out of the session, and prefill again what stands behind them; the last event is the receipt.

        Ids that the session does not have are passed over. Earlier turns stay, with their evidence. Their files are not
        read again with their folder, only by their own paths. Arguments and errors as for `read`.
        """
        self._check_model()
        yield from Reading(self._context, ReadOrder(remove=tuple(document_ids))).run(should_stop, approve)

    def ask(
        self,
        question: str,
        sampling: SamplingParams | None = None,
        *,
        should_stop: Callable[[], bool] = never,
        instead_of: str | None = None,
        writer: Writer | None = None,
    ) -> Iterator[ReadProgress | PromptProgress | Token | Answer]:
        """Ask and stream the answer; the last event is the Answer, which is saved by then.

        What is unread is read first. When `should_stop()` becomes true, the answer ends there and is kept, with
        finish_reason "stopped"; if nothing of it was written by then, there is no Answer. Closing the iterator leaves
        the session as it was before the question.

        Args:
            question: its text.
            sampling: None for the model's own.
            should_stop: ends the answer when it returns True.
            instead_of: id of an earlier question or answer: the turn becomes another version of that one, which is
                hidden with what follows it once this answer is saved. It continues from the nearest snapshot before it.
            writer: an engine elsewhere that writes the answer; `sampling` does not count then. None for the model here.

        Raises StateMismatchError, DiskFullError, MemoryBudgetError, SettingsError for `sampling.think` with a model
        that does not think, LibraryError if there is no turn `instead_of`, EngineError of a writer, and ValueError for
        an empty question.
        """
        if not question.strip():
            raise ValueError("the question is empty")
        self._check_model()
        if writer is None:
            self._context.engine.chat.generation_prompt(sampling.think if sampling else None)
        turn = find_turn(self._context, instead_of).id if instead_of is not None else None
        if writer is not None or (sampling or self.sampling_defaults).finds:
            index_ahead(self._context)
        if turn is None:
            yield from catch_up(self._context, should_stop)
        else:
            yield from go_before(self._context, turn, should_stop)
        if self.state.state is None or should_stop():
            return
        saved = False
        try:
            if writer is not None:
                saved = yield from WrittenTurn(self._context, question, writer, instead_of=turn).run(should_stop)
            else:
                saved = yield from Turn(self._context, question, sampling, instead_of=turn).run(should_stop)
        finally:
            if not saved and (writer is None or turn is not None):  # a writer elsewhere leaves the state as it was
                self.state.forget()
            release_memory()

    def follow(self, given: Given) -> None:
        """Give the session the stream that another program has ordered, for `read` or `ask` to prefill.

        A session of another model is handed to this one. Raises as `hosting.follow.follow`, and EngineChangedError
        if the order is for another model than this one.
        """
        check_expected(self._context, given)
        if self._context.engine.at_rest(self.row.fingerprint) is None:
            self.reset()
        follow(self._context, given)

    def regenerate(
        self,
        turn_id: str,
        sampling: SamplingParams | None = None,
        *,
        should_stop: Callable[[], bool] = never,
        writer: Writer | None = None,
    ) -> Iterator[ReadProgress | PromptProgress | Token | Answer]:
        """Ask the question of an earlier turn once more; the new answer becomes another version. As `ask`.

        Args:
            turn_id: id of its question or answer.
            sampling, should_stop, writer: as `ask` takes them.
        """
        question = question_of(self._context, find_turn(self._context, turn_id))
        yield from self.ask(question, sampling, should_stop=should_stop, instead_of=turn_id, writer=writer)

    def aside(self) -> Aside:
        """Ask many questions of what was read, each from the same state, without the conversation and without a trace.

        Raises StateMismatchError.
        """
        self._check_model()
        return Aside(self._context)

    @property
    def can_ask_meanwhile(self) -> bool:
        """Whether `ask_meanwhile` has something to answer from: a document of which the state holds a part."""
        state = self.state.state
        parts = self._context.library.parts(self._context.session_id)
        position = state.position if state is not None else 0
        return any(part.document_id is not None and part.start + part.body_start < position for part in parts)

    def ask_meanwhile(
        self,
        question: str,
        sampling: SamplingParams | None = None,
        *,
        should_stop: Callable[[], bool] = never,
        writer: Writer | None = None,
    ) -> Iterator[ReadProgress | PromptProgress | Token | Answer]:
        """Ask while this session's `read` is suspended between two chunks; the last event is the Answer.

        The question is answered from what is read so far, on a fork of the state, which is dropped afterwards: the
        reading goes on with the same bits, and documents keep the order in which they were given. The turn is stored
        behind all documents, at once and durably, and is prefilled there when the reading comes to it. The other ways
        were worse: tokens of a turn in the middle of a document would stand in it for good, and an answer kept in
        memory until the end of the reading could be lost. `Answer.read_so_far` says what the model knew. A model that
        only finds, and an engine elsewhere, have the whole texts from the beginning. As `ask`.

        Args:
            question, sampling, should_stop, writer: as `ask` takes them.
        """
        if not question.strip():
            raise ValueError("the question is empty")
        if writer is None:
            self._context.engine.chat.generation_prompt(sampling.think if sampling else None)
        mark = self.state.pause()
        try:
            num_tokens = self.row.num_tokens
            if writer is not None:
                yield from WrittenTurn(self._context, question, writer, num_tokens=num_tokens).run(should_stop)
            else:
                yield from Turn(self._context, question, sampling, num_tokens=num_tokens).run(should_stop)
        finally:
            mark.rewind()
            self.state.resume()
            release_memory()

    def reset(self) -> None:
        """Hand the session to this engine's model; its next reading or question reads everything again.

        The stored tokens stay where tokenizer and system prompt are the same and nothing is damaged. Otherwise they are
        made again from texts and messages.
        """
        library, engine, session_id = self._context.library, self._context.engine, self._context.session_id
        documents = library.documents(session_id)
        own = engine.tokenizer.fingerprint
        same = all(row.tokenizer_fingerprint == own for row in documents) and bool(documents)
        same = same and not library.is_session_damaged(session_id) and self._begins_as_asked()
        library.reset_session(
            session_id,
            model=engine.name,
            fingerprint=engine.fingerprint,
            parts=None if same else retokenized_parts(self._context),
            hidden=() if same else retokenized_versions(self._context),
        )
        self.state.forget()
        library.collect_garbage()

    def _begins_as_asked(self) -> bool:
        """Whether the stream begins with the system prompt that is set for the session."""
        parts, row = self._context.library.parts(self.row.id), self.row
        wanted = self._context.writer.system(row.system_prompt).token_ids.tolist()
        return bool(parts) and self._context.library.token_ids(row.id, 0, parts[0].end).tolist() == wanted

    def _check_model(self) -> None:
        row, engine = self.row, self._context.engine
        if engine.at_rest(row.fingerprint) is None:
            raise StateMismatchError(
                f"session {row.name!r} was read by the model {row.model!r} in another version, number format, --kv or "
                f"--bos than the current {engine.name!r}, so its saved state does not fit; start the program as it was "
                f"then, or let this model read it again with: read {row.name!r} --again"
            )
