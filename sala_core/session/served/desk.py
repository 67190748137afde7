"""Takes conversations of other programs, and answers them on the workspace's one thread, in its one queue."""

import threading
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import replace

from sala_core.disk.files import new_id
from sala_core.engine.memory_budget import check_budget
from sala_core.engine.sampling import SamplingParams
from sala_core.errors import MemoryBudgetError, SalaError, SessionBusyError, SettingsError
from sala_core.events import ReadProgress, ReadReceipt
from sala_core.session.job_runner import Task
from sala_core.session.queue.line import Event
from sala_core.session.queue.questions import QuestionOfOthers
from sala_core.session.served.answering import Asked, ask_served
from sala_core.session.served.conversation import Conversation, Exchange
from sala_core.session.served.layout import Layouts, exchange_signature
from sala_core.session.served.match import fork_for, session_for, shown_exchanges, turn_signatures
from sala_core.session.served.request import Request
from sala_core.session.session import Session
from sala_core.session.stream import SEGMENT_TOKENS
from sala_core.session.workspace import Workspace
from sala_core.store import AskRequest, ReadRequest, SessionRow

ASK_DIRECTLY_TOKENS = 2 * SEGMENT_TOKENS
"""A question with more unread tokens than these before it waits for a reading, which other questions interrupt."""
_LOOK_AGAIN_S = 0.3
_TIDY_EVERY = 64
"""Conversations between two looks for small sessions that can go."""

Work = Callable[[Task], Generator[Event, None, None]]


class Desk:
    """Serves other programs with a workspace. Safe to call from any thread; the calls that prepare take a while."""

    def __init__(self, workspace: Workspace) -> None:
        """Nothing is done before the first request."""
        self._workspace = workspace
        self._layouts = Layouts(workspace.library)
        self._lock = threading.Lock()
        self._num_answers = 0
        self._taken: set[str] = set()
        """Ids of sessions that a request is about to be asked in."""

    def answer(self, sent: Conversation, request: Request) -> None:
        """Answer a conversation that was sent as a whole. Raises SalaError before anything is queued."""
        workspace, engine = self._workspace, self._workspace.engine
        self._check(request)
        self._num_answers += 1
        if self._num_answers % _TIDY_EVERY == 0:
            workspace.runner.call(workspace.library.tidy)
        with self._lock:
            laid = self._layouts.lay(sent, engine)
            check_budget(engine, sum(piece.num_tokens for piece in (*laid.base, *laid.tail)))
            row = session_for(workspace.library, laid, engine, self._is_free)
            self._taken.add(row.id)
        request.session_id = row.id
        asked = Asked(text=sent.question, is_open=sent.is_open, is_raw=sent.is_raw)
        self._read_then_ask(row, asked, request)

    def go_on(self, session: SessionRow, turn_id: str, question: str, request: Request) -> None:
        """Ask behind a turn; behind an earlier one than the last, a fork is asked.

        Args:
            session: holds the turn.
            turn_id: id of its question or answer.
            question: what is asked now.
            request: takes the events.

        Raises SalaError before anything is queued.
        """
        turns = []
        for turn, exchange in shown_exchanges(self._workspace.library, session.id):
            turns.append(exchange)
            if turn_id in (turn.id, turn.answer_id):
                break
        self.ask_session(session, tuple(turns), question, request)

    def ask_session(self, session: SessionRow, turns: Sequence[Exchange], question: str, request: Request) -> None:
        """Ask about a session. Where its turns are not those of the conversation, a fork that no list shows is asked.

        Args:
            session: what is asked about.
            turns: the earlier turns of the conversation.
            question: what is asked now.
            request: takes the events.

        Raises SalaError before anything is queued.
        """
        self._check(request)
        workspace = self._workspace
        if (refusal := workspace.refusal(session.id)) is not None:
            raise SettingsError(refusal)
        wanted = [exchange_signature(each.question, each.answer) for each in turns]
        with self._lock:
            is_same = turn_signatures(workspace.library, session.id) == wanted and session.id not in self._taken
            if is_same:
                self._taken.add(session.id)
        request.session_id = session.id
        if is_same:
            self._ask_in(session, question, request)
            return
        self._wait_for_reading(session.id, request)
        if request.has_left:
            request.end()
            return
        with self._lock:
            row = fork_for(
                workspace.library, workspace.library.session(session.id), turns, workspace.engine, self._is_free
            )
            self._taken.add(row.id)
        request.session_id = row.id
        self._read_then_ask(row, Asked(text=question), request)

    def ask_aside(self, session: SessionRow, question: str, request: Request) -> None:
        """Ask about a session without a trace, such as for a title. Raises SalaError before anything is queued."""
        self._check(request)
        request.session_id, request.is_kept = session.id, False

        def work(task: Task) -> Generator[Event, None, None]:
            with self._workspace.open_session(session.id) as opened:
                aside = opened.aside()
                yield from aside.prepare(task.should_stop)
                if aside.is_ready:
                    yield from aside.ask(question, self._params(opened, request), task.should_stop)

        self._submit(session.id, question, work, request)

    def leave(self, request: Request) -> None:
        """The client has gone: its answer ends, and is kept as far as it was written. A reading goes on."""
        request.has_left = True
        if request.job_id:
            self._workspace.stop(request.job_id)
            self._taken.discard(request.session_id)

    def forget(self, session_id: str) -> None:
        """Delete a session that serves programs. Raises SessionNotFoundError, SessionBusyError."""
        self._workspace.library.delete_session(session_id)

    def _check(self, request: Request) -> None:
        """Raise ModelError where no model is loaded, SettingsError for settings that this model does not have."""
        engine = self._workspace.engine
        engine.chat.generation_prompt(request.sampling.get("think"))
        try:
            replace(engine.sampling_defaults, **request.sampling)
        except ValueError as error:
            raise SettingsError(str(error)) from error

    def _read_then_ask(self, row: SessionRow, asked: Asked, request: Request) -> None:
        """Queue the question of a served session, behind a reading if much is unread."""
        row = self._workspace.library.session(row.id)
        if row.num_tokens - row.position <= ASK_DIRECTLY_TOKENS:
            self._queue_question(row.id, asked, request)
            return

        def ask_next() -> None:
            if request.has_left:
                self._finish(row.id, request)
            else:
                self._queue_question(row.id, asked, request)

        self._queue_reading(row.id, request, ask_next)

    def _queue_reading(self, session_id: str, request: Request, then: Callable[[], None]) -> None:
        """Read what is unread of a session, then call `then`. The reading goes on when the client leaves."""

        def work(task: Task) -> Generator[Event, None, None]:
            try:
                with self._open(session_id) as session:
                    for event in session.read([], should_stop=task.should_stop):
                        if isinstance(event, ReadReceipt):
                            request.tokens_read += event.tokens_read
                        elif not request.has_left:
                            request.tell(event)
                        yield event
            except Exception as error:
                self._finish(session_id, request, error)
                raise
            if isinstance(task.result, ReadReceipt) and task.result.stopped:
                self._finish(session_id, request, SettingsError("the reading was stopped; ask again, and it goes on"))
            else:
                self._workspace.runner.call(then)

        self._workspace.runner.submit(session_id, ReadRequest(), work)

    def _queue_question(self, session_id: str, asked: Asked, request: Request) -> None:
        def work(task: Task) -> Generator[Event, None, None]:
            with self._open(session_id) as session:
                params = self._params(session, request)
                yield from ask_served(session.context, asked, params, task.should_stop)

        self._submit(session_id, asked.text, work, request)

    def _submit(self, session_id: str, question: str, work: Work, request: Request) -> None:
        """Queue a question whose events are told."""
        request.job_id = new_id()
        self._workspace.runner.submit(
            session_id,
            AskRequest(question=question),
            self._told(work, session_id, request),
            is_ready=lambda suspended: suspended is None or suspended.row.session_id != session_id,
            job_id=request.job_id,
        )
        if request.has_left:
            self._workspace.stop(request.job_id)

    def _ask_in(self, session: SessionRow, question: str, request: Request) -> None:
        """Ask in the session itself, as its page would."""

        def told(work: Work) -> Work:
            return self._told(work, session.id, request)

        request.job_id = new_id()
        others = QuestionOfOthers(job_id=request.job_id, before=lambda opened: None, told=told)
        try:
            self._workspace.questions.submit(session.id, question, changes=request.sampling, others=others)
        except SalaError:
            self._taken.discard(session.id)
            raise
        if request.has_left:
            self._workspace.stop(request.job_id)

    def _told(self, work: Work, session_id: str, request: Request) -> Work:
        """The work, whose events are told, and its end. A task that only has to wait is not at its end."""

        def run(task: Task) -> Generator[Event, None, None]:
            try:
                for event in work(task):
                    request.tell(event)
                    yield event
            except SalaError as error:
                waits = isinstance(error, SessionBusyError) or (
                    isinstance(error, MemoryBudgetError) and self._workspace.runner.suspended is not None
                )
                if not waits:  # otherwise the runner queues it again
                    self._finish(session_id, request, error)
                raise
            except Exception as error:
                self._finish(session_id, request, error)
                raise
            self._finish(session_id, request)

        return run

    def _finish(self, session_id: str, request: Request, error: Exception | None = None) -> None:
        self._taken.discard(session_id)
        request.end(error)

    def _params(self, session: Session, request: Request) -> SamplingParams:
        return replace(session.sampling_defaults, **request.sampling)

    def _is_free(self, session_id: str) -> bool:
        return session_id not in self._taken and self._workspace.active_job(session_id) is None

    def _open(self, session_id: str) -> Session:
        """Open a served session on the longest state that is stored of its tokens by now."""
        self._workspace.library.advance_served(session_id)
        return self._workspace.open_session(session_id)

    def _wait_for_reading(self, session_id: str, request: Request) -> None:
        """Wait until a session is read, and tell the progress: a fork would have to read the rest by itself."""
        while not request.has_left and (active := self._workspace.active_reading(session_id)) is not None:
            if isinstance(active.progress, ReadProgress):
                request.tell(active.progress)
            time.sleep(_LOOK_AGAIN_S)
