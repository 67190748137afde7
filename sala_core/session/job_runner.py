"""Jobs outlive the window that started them: one thread runs them, and any thread may see how they stand."""

import threading
import time
import traceback
from collections.abc import Callable, Generator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from sala_core.errors import MemoryBudgetError, SalaError, SessionBusyError
from sala_core.events import ReadProgress, ReadReceipt
from sala_core.session.queue.line import Event, Line, Task
from sala_core.session.queue.waiting import Pace, Waiting, waiting_of
from sala_core.store import JobKind, JobProgress, JobRequest, JobResult, JobStatus, Library
from sala_core.store.rows import READING_KINDS

__all__ = ["Event", "JobRunner", "JobView", "Task"]

Work = Callable[[Task], Generator[Event, None, None]]
_SAVE_EVERY_S = 1.0
_RECOVER_EVERY_S = 0.5
_ACTIVE: tuple[JobStatus, ...] = ("running", "queued")


@dataclass(frozen=True, kw_only=True)
class JobView:
    """The current status of a job. text, thinking: the answer as far as it is decoded.

    thinking_s: seconds of thinking so far; None for none. is_thinking: whether it goes on. is_own: whether this process
    does it. waiting: its place in the queue; None for a job that runs or is over.
    """

    id: str
    session_id: str
    kind: JobKind
    status: JobStatus
    request: JobRequest
    progress: JobProgress | None
    text: str
    thinking: str
    error: str | None
    result: JobResult | None
    thinking_s: float | None = None
    is_thinking: bool = False
    is_own: bool = True
    waiting: Waiting | None = None


class JobRunner:
    """Runs tasks in its own thread, questions before readings. The jobs' rows in the library outlive it.

    A reading is suspended between two chunks while a question is answered: both run on the one thread.
    """

    def __init__(self, library: Library, log_folder: Path) -> None:
        self._library = library
        self._log_folder = log_folder
        self._line = Line()
        self._tasks: dict[str, Task] = {}
        self._running: list[Task] = []
        self._pace = Pace(library)
        self._recovered = -_RECOVER_EVERY_S
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    @property
    def suspended(self) -> Task | None:
        """The task that waits while the one that asks runs; None if there is none. For work on the thread itself."""
        return self._running[-2] if len(self._running) > 1 else None

    def call(self, function: Callable[[], None]) -> None:
        """Have the thread call `function` between two jobs. `function` handles its own errors."""
        self._line.put(function)

    def submit(
        self,
        session_id: str,
        request: JobRequest,
        work: Work,
        *,
        is_ready: Callable[[Task | None], bool] = lambda suspended: True,
        job_id: str | None = None,
    ) -> str:
        """Queue a job, and return its id.

        Args:
            session_id: which session.
            request: what the job's row says.
            work: does the job; it yields events.
            is_ready: as in Task.
            job_id: a new one, chosen by the caller; None for a random one.
        """
        task = Task(row=self._library.create_job(session_id, request, job_id), work=work, is_ready=is_ready)
        self._tasks[task.row.id] = task
        self._line.put(task)
        return task.row.id

    def stop(self, job_id: str) -> None:
        """Ask a job of this process to end at its next token or chunk. Does nothing for a job that is over."""
        if task := self._tasks.get(job_id):
            task.stopping.set()
            self._line.wake()

    def take_back(self, job_id: str) -> None:
        """Drop a job of this process that has not begun. Does nothing for one that has, or is over."""
        task = self._tasks.get(job_id)
        if task is not None and self._line.drop(task):
            self._library.update_job(job_id, status="stopped")
            self._tasks.pop(job_id, None)

    def view(self, job_id: str) -> JobView:
        """The current status of a job. Raises LibraryError for an unknown one."""
        task = self._tasks.get(job_id)
        row = self._library.job(job_id)
        return JobView(
            id=row.id,
            session_id=row.session_id,
            kind=row.kind,
            status=row.status,
            request=row.request,
            progress=task.progress if task else row.progress,
            text=task.answer.text if task else "",
            thinking=task.answer.thinking if task else "",
            error=row.error,
            result=row.result,
            thinking_s=task.answer.thinking_s if task else None,
            is_thinking=task is not None and task.answer.is_thinking,
            is_own=task is not None or row.status not in _ACTIVE,
            waiting=self._waiting(task) if task and row.status == "queued" else None,
        )

    def active(self, session_id: str, *, questions: bool | None = None) -> JobView | None:
        """The session's job that is queued or running, in this process or another: a question before a reading.

        questions: True for questions only, False for readings only.
        """
        rows = self._library.unfinished_jobs(session_id)
        is_due = time.monotonic() - self._recovered > _RECOVER_EVERY_S
        if is_due and any(row.id not in self._tasks for row in rows):  # of another process, which may have been killed
            self._library.recover_jobs()
            self._recovered = time.monotonic()
            rows = self._library.unfinished_jobs(session_id)
        asked, read = ([row for row in rows if (row.kind in READING_KINDS) == kind] for kind in (False, True))
        found = {None: asked + read, True: asked, False: read}[questions]
        return self.view(found[0].id) if found else None

    def close(self, timeout_s: float = 30.0) -> None:
        """Stop all jobs and wait for the thread. The running job saves its work, or leaves its session unchanged.

        The rows of readings, and of questions without an answer, stay unfinished for the next start of the program.
        """
        for task in list(self._tasks.values()):
            task.is_cut_off = not task.should_stop()
            task.stopping.set()
        self._line.close()
        self._thread.join(timeout_s)

    def _waiting(self, task: Task) -> Waiting:
        """Why a task waits. Another program's reading of the same session is told from its job's row."""
        running = list(self._running)
        found = waiting_of(task, self._line.tasks(), running, self._pace, "")
        others = [row for row in self._library.jobs(task.row.session_id, status="running") if row.id not in self._tasks]
        if others:
            progress = others[0].progress
            left = progress.seconds_left if isinstance(progress, ReadProgress) else None
            reason = "read" if others[0].kind in READING_KINDS else "asked"
            return Waiting(place=found.place, seconds=left, reason=f"its session is being {reason} by a command")
        if any(each.row.id == task.waits_for for each in running):
            return Waiting(place=found.place, seconds=found.seconds, reason="both do not fit into memory at once")
        return found

    def _run(self) -> None:
        while (item := self._line.take()) is not None:
            if isinstance(item, Task):
                self._run_task(item)
            else:
                item()

    def _run_task(self, task: Task) -> None:
        self._running.append(task)
        try:
            status, error = self._attempt(task)
        finally:
            self._running.remove(task)
        try:
            if self._is_kept(task, status):
                return
            self._library.update_job(
                task.row.id, status=status, progress=task.progress, result=task.result, error=error
            )
        except SalaError:
            # The row cannot be written: its session has been deleted, or the disk is full.
            self._log_failure()
        self._tasks.pop(task.row.id, None)

    def _is_kept(self, task: Task, status: JobStatus) -> bool:
        """Whether the job is not over, but waits: in the line again, or for the next start of the program."""
        if task.is_cut_off and status == "stopped" and (task.row.kind in READING_KINDS or task.result is None):
            if task.is_question:
                self._library.update_job(task.row.id, status="queued")
            self._library.release_job(task.row.id)
            self._tasks.pop(task.row.id, None)
            return True
        if status != "queued":
            return False
        self._library.update_job(task.row.id, status="queued")
        self._line.put(task, first=True)
        return True

    def _attempt(self, task: Task) -> tuple[JobStatus, str | None]:
        """Do the work. Returns the job's final status and, if it failed, the reason; "queued" if it has to wait."""
        try:
            if not task.should_stop():
                self._follow(task)
        except SessionBusyError as error:  # another program was faster
            return ("queued", None) if task.is_question else ("failed", str(error))
        except MemoryBudgetError as error:
            if (suspended := self._running[-2] if len(self._running) > 1 else None) is None:
                return "failed", str(error)
            task.waits_for = suspended.row.id
            return "queued", None
        except SalaError as error:
            return "failed", str(error)
        except Exception as error:  # noqa: BLE001 - the thread's outermost boundary: the program must go on
            log = self._log_failure()
            return "failed", f"something unexpected went wrong ({type(error).__name__}: {error}); details are in {log}"
        return "stopped" if task.should_stop() and not _is_complete(task.result) else "done", None

    def _follow(self, task: Task) -> None:
        self._library.update_job(task.row.id, status="running")
        saved = task.began = time.monotonic()
        for event in task.work(task):
            task.add(event)
            if isinstance(event, ReadProgress):
                if time.monotonic() - saved > _SAVE_EVERY_S:
                    self._library.update_job(task.row.id, progress=task.progress)
                    saved = time.monotonic()
                self._serve(task)
        if task.is_question and task.result is not None:
            self._pace.add(time.monotonic() - task.began)

    def _serve(self, task: Task) -> None:
        """Answer the questions that wait, between two chunks of `task`. A question that is answered so is not suspended
        itself: at most two states are in memory."""
        while self._running == [task] and not task.should_stop():
            question = self._line.take_question(task)
            if question is None:
                return
            self._run_task(question)

    def _log_failure(self) -> Path:
        """Write the current exception to a log file, if the disk allows it. Returns the file."""
        file = self._log_folder / f"{time.strftime('%Y%m%d-%H%M%S')}-job.log"
        with suppress(OSError):
            self._log_folder.mkdir(parents=True, exist_ok=True)
            file.write_text(traceback.format_exc(), encoding="utf-8")
        return file


def _is_complete(result: JobResult | None) -> bool:
    """Whether a receipt or an answer is complete. A job can finish after Stop was pressed."""
    if isinstance(result, ReadReceipt):
        return not result.stopped
    return result is not None and result.finish_reason != "stopped"
