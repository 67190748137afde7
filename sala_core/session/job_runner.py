"""Jobs outlive the window that started them: one thread runs them in order, and any thread may see how they stand."""

import queue
import threading
import time
import traceback
from collections.abc import Callable, Generator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from sala_core.engine.generate import Token
from sala_core.errors import SalaError
from sala_core.events import Answer, PromptProgress, ReadProgress, ReadReceipt
from sala_core.session.answer_text import AnswerText
from sala_core.store import JobKind, JobProgress, JobRequest, JobResult, JobRow, JobStatus, Library

Event = ReadProgress | ReadReceipt | PromptProgress | Token | Answer
Work = Callable[["Task"], Generator[Event, None, None]]
_SAVE_EVERY_S = 1.0
_ACTIVE: tuple[JobStatus, ...] = ("running", "queued")


@dataclass(frozen=True, kw_only=True)
class JobView:
    """The current status of a job. text, thinking: the answer as far as it is decoded.

    thinking_s: seconds of thinking so far; None for none. is_thinking: whether it goes on.
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


@dataclass(kw_only=True)
class Task:
    """A job of this process while it is queued or running."""

    row: JobRow
    work: Work
    progress: JobProgress | None = None
    answer: AnswerText = field(default_factory=AnswerText)
    result: JobResult | None = None
    stopping: threading.Event = field(default_factory=threading.Event)

    def should_stop(self) -> bool:
        """Whether the user pressed Stop, or the program ends."""
        return self.stopping.is_set()

    def add(self, event: Event) -> None:
        """Take in an event of the work."""
        if isinstance(event, ReadProgress | PromptProgress):
            self.progress = event
        elif isinstance(event, Token):
            self.answer.add(event)
        else:
            self.result = event


class JobRunner:
    """Runs tasks one after the other in its own thread. The jobs' rows in the library outlive it."""

    def __init__(self, library: Library, log_folder: Path) -> None:
        self._library = library
        self._log_folder = log_folder
        self._queue: queue.SimpleQueue[Task | Callable[[], None] | None] = queue.SimpleQueue()
        self._tasks: dict[str, Task] = {}
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    def call(self, function: Callable[[], None]) -> None:
        """Have the thread call `function` between two jobs. `function` handles its own errors."""
        self._queue.put(function)

    def submit(self, session_id: str, request: JobRequest, work: Work) -> str:
        """Queue a job, and return its id. work: does the job; it yields events."""
        task = Task(row=self._library.create_job(session_id, request), work=work)
        self._tasks[task.row.id] = task
        self._queue.put(task)
        return task.row.id

    def stop(self, job_id: str) -> None:
        """Ask a job of this process to end at its next token or chunk. Does nothing for a job that is over."""
        if task := self._tasks.get(job_id):
            task.stopping.set()

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
        )

    def active(self, session_id: str) -> JobView | None:
        """The session's job that is queued or running, in this process or another."""
        rows = self._unfinished(session_id)
        if any(row.id not in self._tasks for row in rows):  # a job of another process, which may have been killed
            self._library.recover_jobs()
            rows = self._unfinished(session_id)
        return self.view(rows[0].id) if rows else None

    def close(self, timeout_s: float = 30.0) -> None:
        """Stop all jobs and wait for the thread. The running job saves its work, or leaves its session unchanged."""
        for task in list(self._tasks.values()):
            task.stopping.set()
        self._queue.put(None)
        self._thread.join(timeout_s)

    def _unfinished(self, session_id: str) -> list[JobRow]:
        running, queued = (self._library.jobs(session_id, status=status) for status in _ACTIVE)
        return running + queued

    def _run(self) -> None:
        while (item := self._queue.get()) is not None:
            if isinstance(item, Task):
                self._run_task(item)
                del self._tasks[item.row.id]
            else:
                item()

    def _run_task(self, task: Task) -> None:
        try:
            status, error = self._attempt(task)
            self._library.update_job(
                task.row.id, status=status, progress=task.progress, result=task.result, error=error
            )
        except SalaError:
            # The row cannot be written: its session has been deleted, or the disk is full.
            self._log_failure()

    def _attempt(self, task: Task) -> tuple[JobStatus, str | None]:
        """Do the work. Returns the job's final status and, if it failed, the reason."""
        try:
            if not task.should_stop():
                self._follow(task)
        except SalaError as error:
            return "failed", str(error)
        except Exception as error:  # noqa: BLE001 - the thread's outermost boundary: the program must go on
            log = self._log_failure()
            return "failed", f"something unexpected went wrong ({type(error).__name__}: {error}); details are in {log}"
        return "stopped" if task.should_stop() and not _is_complete(task.result) else "done", None

    def _follow(self, task: Task) -> None:
        self._library.update_job(task.row.id, status="running")
        saved = time.monotonic()
        for event in task.work(task):
            task.add(event)
            if isinstance(event, ReadProgress) and time.monotonic() - saved > _SAVE_EVERY_S:
                self._library.update_job(task.row.id, progress=task.progress)
                saved = time.monotonic()

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
