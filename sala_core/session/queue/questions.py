"""The questions of a workspace: kept on disk until they are answered, whatever is before them."""

from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from sala_core.engine.sampling import SamplingParams
from sala_core.errors import SalaError, SessionBusyError
from sala_core.events import ReadProgress
from sala_core.session.job_runner import JobRunner
from sala_core.session.queue.line import Event, Task
from sala_core.session.session import Session
from sala_core.store import AskRequest, JobRow, Library
from sala_core.store.locks import is_held

_PREPARING = "preparing"
_READING = "reading"


class Questions:
    """Queues questions. Safe to call from any thread."""

    def __init__(
        self,
        library: Library,
        runner: JobRunner,
        open_session: Callable[[str], Session],
        opened: Callable[[str], Session | None],
    ) -> None:
        """Serve one library.

        Args:
            library: holds the sessions.
            runner: runs the questions.
            open_session: opens a session, by its id, on the engine's thread.
            opened: the session that was opened last under an id.
        """
        self._library, self._runner = library, runner
        self._open_session, self._opened = open_session, opened

    def submit(
        self,
        session_id: str,
        question: str,
        sampling: SamplingParams | None = None,
        *,
        changes: Mapping[str, Any] | None = None,
        instead_of: str | None = None,
    ) -> str:
        """Queue a question, and return the job's id.

        It goes before all readings. If its own session is being read, it is answered from what is read so far; if
        another program is at work in the session, as soon as that is done. Until then it is kept on disk.

        Args:
            session_id: which session.
            question: its text.
            sampling: None for the model's own.
            changes: fields that replace those of `sampling`.
            instead_of: id of an earlier question or answer, of which this becomes another version.

        Raises SessionBusyError while another question of the session waits or is answered.
        """
        if self._runner.active(session_id, questions=True) is not None:
            raise SessionBusyError("a question is being answered here; wait for it, or press Stop")

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
            if reading is not None and _phase(reading) == _READING:
                yield from session.ask_meanwhile(question, chosen, should_stop=task.should_stop)
            else:
                yield from session.ask(question, chosen, should_stop=task.should_stop, instead_of=instead_of)

        request = AskRequest(question=question, instead_of=instead_of, changes=dict(changes or {}))
        return self._runner.submit(
            session_id, request, work, is_ready=lambda suspended: self._is_ready(session_id, instead_of, suspended)
        )

    def resume(self, interrupted: Sequence[JobRow], waiting: Collection[str]) -> None:
        """Queue the questions again that waited when the program ended.

        interrupted: jobs of processes that have ended, the oldest first. waiting: ids of those that had not begun.
        """
        for job in interrupted:
            if isinstance(job.request, AskRequest) and job.id in waiting:
                with suppress(SalaError):
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
