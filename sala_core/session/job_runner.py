"""Work that outlives the page that asked for it: one thread runs jobs in order, and anyone may look at them."""

import queue
import threading
import time
import traceback
from collections.abc import Callable, Generator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sala_core.engine.generate import PromptProgress, Token
from sala_core.errors import SalaError
from sala_core.events import Answer, ReadProgress, ReadReceipt
from sala_core.store import JobRow, JobStatus, Library

Event = ReadProgress | ReadReceipt | PromptProgress | Token | Answer
Work = Callable[["Task"], Generator[Event, None, None]]
_SAVE_EVERY_S = 1.0
_ACTIVE: tuple[JobStatus, ...] = ("running", "queued")


@dataclass(frozen=True, kw_only=True)
class JobView:
    """A job as it stands now. text, thinking: what an answer says so far."""

    id: str
    session_id: str
    kind: str
    status: JobStatus
    progress: dict[str, Any]
    text: str
    thinking: str
    error: str | None
    result: dict[str, Any] | None


@dataclass(kw_only=True)
class Task:
    """A job of this process while it is queued or running."""

    row: JobRow
    work: Work
    progress: dict[str, Any] = field(default_factory=dict)
    text: str = ""
    thinking: str = ""
    result: dict[str, Any] | None = None
    stopping: threading.Event = field(default_factory=threading.Event)

    def should_stop(self) -> bool:
        """Whether someone pressed Stop, or the program ends."""
        return self.stopping.is_set()

    def take(self, event: Event) -> None:
        """Note what the work reports."""
        if isinstance(event, ReadProgress):
            self.progress = event.to_json()
        elif isinstance(event, PromptProgress):
            self.progress = {
                "phase": "question",
                "tokens_done": event.tokens_done,
                "tokens_total": event.tokens_total,
            }
        elif isinstance(event, Token):
            if event.thinking:
                self.thinking += event.text
            else:
                self.text += event.text
        else:
            self.result = event.to_json()


class JobRunner:
    """Runs tasks one after the other in a thread of its own; their rows in the library outlive it."""

    def __init__(self, library: Library, log_folder: Path) -> None:
        self._library = library
        self._log_folder = log_folder
        self._queue: queue.SimpleQueue[Task | Callable[[], None] | None] = queue.SimpleQueue()
        self._tasks: dict[str, Task] = {}
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    def call(self, function: Callable[[], None]) -> None:
        """Have the thread call `function`, which handles its own errors, between jobs."""
        self._queue.put(function)

    def submit(self, session_id: str, kind: str, request: dict[str, Any], work: Work) -> str:
        """Queue a job; returns its id."""
        task = Task(row=self._library.create_job(session_id, kind, request), work=work)
        self._tasks[task.row.id] = task
        self._queue.put(task)
        return task.row.id

    def stop(self, job_id: str) -> None:
        """Ask a job of this process to end at its next token or chunk. One that is over is left alone."""
        if task := self._tasks.get(job_id):
            task.stopping.set()

    def view(self, job_id: str) -> JobView:
        """The job as it stands now. Raises LibraryError for an unknown one."""
        task = self._tasks.get(job_id)
        row = self._library.job(job_id)
        return JobView(
            id=row.id,
            session_id=row.session_id,
            kind=row.kind,
            status=row.status,
            progress=task.progress if task else row.progress,
            text=task.text if task else "",
            thinking=task.thinking if task else "",
            error=row.error,
            result=row.result,
        )

    def active(self, session_id: str) -> JobView | None:
        """The session's job that is queued or running, in this process or another."""
        rows = self._unfinished(session_id)
        if any(row.id not in self._tasks for row in rows):  # another process's, which may have been killed
            self._library.recover_jobs()
            rows = self._unfinished(session_id)
        return self.view(rows[0].id) if rows else None

    def close(self, timeout_s: float = 30.0) -> None:
        """Stop everything and wait for the thread; what it was doing is saved or left as it was before."""
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
                self._do(item)
                del self._tasks[item.row.id]
            else:
                item()

    def _do(self, task: Task) -> None:
        try:
            status, error = self._attempt(task)
            self._library.update_job(
                task.row.id, status=status, progress=task.progress, result=task.result, error=error
            )
        except SalaError:
            # The row cannot be written: its session was deleted meanwhile, or the disk is full.
            self._log_failure()

    def _attempt(self, task: Task) -> tuple[JobStatus, str | None]:
        """Do the work; returns how it ended and, if it failed, why."""
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
            task.take(event)
            if isinstance(event, ReadProgress) and time.monotonic() - saved > _SAVE_EVERY_S:
                self._library.update_job(task.row.id, progress=task.progress)
                saved = time.monotonic()

    def _log_failure(self) -> Path:
        """Write down the exception at hand, where the disk lets it; returns the file."""
        file = self._log_folder / f"{time.strftime('%Y%m%d-%H%M%S')}-job.log"
        with suppress(OSError):
            self._log_folder.mkdir(parents=True, exist_ok=True)
            file.write_text(traceback.format_exc(), encoding="utf-8")
        return file


def _is_complete(result: dict[str, Any] | None) -> bool:
    """Whether a reading's receipt or an answer says that it came to its end, though Stop was pressed."""
    return result is not None and not result.get("stopped") and result.get("finish_reason") != "stopped"
