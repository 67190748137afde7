"""The questions of a workspace: kept on disk until they are answered, whatever is before them."""

from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from sala_core.engine.sampling import SamplingParams
from sala_core.errors import SalaError, SessionBusyError
from sala_core.events import ReadProgress
from sala_core.session.job_runner import JobRunner, JobView
from sala_core.session.queue.line import Event, Task
from sala_core.session.remote.turn import Writer
from sala_core.session.session import Session
from sala_core.store import AskRequest, JobRow, Library
from sala_core.store.locks import is_held
from sala_core.store.sessions import is_own

MAX_WAITING = 20
"""Questions of one session that may wait. A question list holds more."""
Work = Callable[[Task], Generator[Event, None, None]]
_PREPARING = "preparing"
_READING = "reading"


@dataclass(frozen=True, kw_only=True)
class QuestionOfOthers:
    """How another program asks here.

    job_id: the job's, chosen by it. before: called with the open session before it is asked, unless it is just being
    read. told: wraps the work, to follow its events.
    """

    job_id: str
    before: Callable[[Session], None]
    told: Callable[[Work], Work]


class Questions:
    """Queues questions. Safe to call from any thread."""

    def __init__(
        self,
        library: Library,
        runner: JobRunner,
        open_session: Callable[[str], Session],
        opened: Callable[[str], Session | None],
        writer: Callable[[Mapping[str, Any]], Writer | None] = lambda changes: None,
    ) -> None:
        """Serve one library.

        Args:
            library: holds the sessions.
            runner: runs the questions.
            open_session: opens a session, by its id, on the engine's thread.
            opened: the session that was opened last under an id.
            writer: the engine elsewhere that answers, with the user's settings; None for the model here.
        """
        self._library, self._runner = library, runner
        self._open_session, self._opened, self._writer = open_session, opened, writer

    def submit(
        self,
        session_id: str,
        question: str,
        sampling: SamplingParams | None = None,
        *,
        changes: Mapping[str, Any] | None = None,
        instead_of: str | None = None,
        others: "QuestionOfOthers | None" = None,
    ) -> str:
        """Queue a question, and return the job's id.

        It goes before all readings, and behind the questions of its session that wait already. If its own session is
        being read, it is answered from what is read so far; if another program is at work in the session, as soon as
        that is done. Until then it is kept on disk.

        Args:
            session_id: which session.
            question: its text.
            sampling: None for the model's own.
            changes: fields that replace those of `sampling`.
            instead_of: id of an earlier question or answer, of which this becomes another version.
            others: what another program that asks here wants besides; None for the user's own questions.

        Raises SessionBusyError for another version of a turn while a question of the session waits or is answered, and
        where MAX_WAITING questions of the session wait.
        """
        if instead_of is not None and self._runner.active(session_id, questions=True) is not None:
            raise SessionBusyError("a question is being answered here; wait for it, or press Stop")
        if len(self.waiting(session_id)) >= MAX_WAITING:
            raise SessionBusyError(f"{MAX_WAITING} questions wait here; wait for an answer, or cancel one of them")

        def work(task: Task) -> Generator[Event, None, None]:
            suspended = self._runner.suspended
            reading = self._opened(suspended.row.session_id) if suspended is not None else None
            if reading is not None:
                reading.state.finish_writes()
            is_own = suspended is not None and suspended.row.session_id == session_id
            if reading is not None and is_own:
                yield from _ask(task, reading, suspended)
            else:
                with self._open_session(session_id) as session:
                    yield from _ask(task, session, None)

        def _ask(task: Task, session: Session, reading: Task | None) -> Generator[Event, None, None]:
            chosen = replace(sampling or session.sampling_defaults, **changes) if changes else sampling
            if others is not None and reading is None:
                others.before(session)
            writer = self._writer(changes or {}) if others is None else None
            stop = task.should_stop
            if reading is not None and _phase(reading) == _READING:
                yield from session.ask_meanwhile(question, chosen, should_stop=stop, writer=writer)
            else:
                yield from session.ask(question, chosen, should_stop=stop, instead_of=instead_of, writer=writer)

        request = AskRequest(question=question, instead_of=instead_of, changes=dict(changes or {}))
        return self._runner.submit(
            session_id,
            request,
            work if others is None else others.told(work),
            is_ready=lambda suspended: self._is_ready(session_id, instead_of, suspended),
            job_id=others.job_id if others is not None else None,
        )

    def waiting(self, session_id: str) -> list[JobView]:
        """The session's questions that have not begun, in order."""
        rows = self._library.jobs(session_id, status="queued")
        return [self._runner.view(row.id) for row in rows if isinstance(row.request, AskRequest)]

    def cancel(self, job_id: str) -> None:
        """Take back a question that has not begun. One that has begun goes on. Raises LibraryError."""
        if isinstance(self._library.job(job_id).request, AskRequest):
            self._runner.take_back(job_id)

    def resume(self, interrupted: Sequence[JobRow], waiting: Collection[str]) -> None:
        """Queue the questions again that waited when the program ended, behind the one that they waited for.

        A question that was answered alone is only offered, as the page shows it: it may be what ended the program.

        interrupted: jobs of processes that have ended, the oldest first. waiting: ids of those that had not begun.
        """
        questions = [job for job in interrupted if isinstance(job.request, AskRequest)]
        sessions = {job.session_id for job in questions if job.id in waiting}
        for job in questions:
            assert isinstance(job.request, AskRequest)
            if job.session_id in sessions:
                with suppress(SalaError):
                    name = self._library.session(job.session_id).name
                    if not is_own(name) or self._library.is_answered(job):
                        continue  # whoever asked it asks again; or only the end of the job was not recorded
                    self.submit(
                        job.session_id,
                        job.request.question,
                        changes=job.request.changes,
                        instead_of=job.request.instead_of,
                    )

    def _is_ready(self, session_id: str, instead_of: str | None, suspended: Task | None) -> bool:
        if suspended is None or suspended.row.session_id != session_id:
            return not is_held(self._library.locks_folder, session_id)
        session = self._opened(session_id)
        if session is None or instead_of is not None:  # another version needs the state of before, not the present one
            return False
        if _phase(suspended) == _READING:
            return session.can_ask_meanwhile
        row = session.row
        return _phase(suspended) == _PREPARING and bool(row.num_documents) and row.position == row.num_tokens


def _phase(reading: Task) -> str:
    return reading.progress.phase if isinstance(reading.progress, ReadProgress) else ""
