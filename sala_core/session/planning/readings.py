"""The readings of a workspace: queued on disk, taken up again by a later start, taken back while they wait."""

import os
import shutil
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from sala_core.disk.files import new_id
from sala_core.errors import IngestError, LibraryError, SalaError, SessionBusyError
from sala_core.events import ReadReceipt
from sala_core.ingest import FileChoice
from sala_core.session.folders.kept_files import KeptFiles
from sala_core.session.job_runner import Event, JobRunner, Task
from sala_core.session.session import Session
from sala_core.store import JobRow, Library, ReadRequest

_MAX_REASONS = 3


class Readings:
    """Queues readings of files. Safe to call from any thread."""

    def __init__(
        self,
        library: Library,
        runner: JobRunner,
        uploads: Path,
        kept_files: KeptFiles,
        open_session: Callable[[str], Session],
    ) -> None:
        """Serve one library.

        Args:
            library: holds the sessions.
            runner: runs the readings.
            uploads: folder of files that came through the browser, until they are read.
            kept_files: what stays of them afterwards.
            open_session: opens a session, by its id, on the engine's thread.
        """
        self._library, self._runner, self._uploads = library, runner, uploads
        self._kept_files, self._open_session = kept_files, open_session
        self._nothing_read: dict[str, str] = {}

    def submit(
        self,
        session_id: str,
        paths: Sequence[Path],
        *,
        owned_folder: Path | None = None,
        left_out: Sequence[str] | None = None,
        passwords: Mapping[str, str] | None = None,
        keep_blank: bool = False,
    ) -> str:
        """Queue a reading behind the session's other jobs, and return the job's id.

        What is queued is on disk: it survives the window, and a later start of the program takes it up again.

        Args:
            session_id: which session.
            paths: files and folders; none to continue what is unread.
            owned_folder: a folder that holds the paths, and that the workspace takes over. It is kept beside the
                library until the reading is complete, so that the reading can continue after a crash.
            left_out: names of files that are not wanted; None where nobody has chosen among them.
            passwords: of encrypted files, by name. They are kept in memory only.
            keep_blank: keep a session whose only reading has read nothing.

        Raises IngestError for a path that does not exist; SessionBusyError while another program is at work in the
        session, or, without paths, any.
        """
        for path in paths:
            if not path.exists():
                raise IngestError(f"there is no file or folder {path}; check the spelling")
        active = self._runner.active(session_id)
        if active is not None and (not paths or self._library.job(active.id).owner_pid != os.getpid()):
            raise SessionBusyError("this session is still at work; wait for it, or press Stop")
        if owned_folder is not None:
            home = self._uploads / session_id / new_id()
            home.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(owned_folder, home)
            paths = [home / path.relative_to(owned_folder) for path in paths]
        request = ReadRequest(paths=tuple(map(str, paths)), left_out=None if left_out is None else tuple(left_out))
        choice, password_of = FileChoice(left_out=frozenset(left_out or ())), (passwords or {}).get

        def work(task: Task) -> Generator[Event, None, None]:
            try:
                with self._open_session(session_id) as session:
                    yield from session.read(
                        paths,
                        should_stop=task.should_stop,
                        choice=choice,
                        is_chosen=left_out is not None,
                        password_of=password_of,
                    )
            except IngestError:
                if not keep_blank:
                    self._runner.call(partial(self._drop_blank, session_id, task))
                raise
            is_blank = isinstance(task.result, ReadReceipt) and not (task.result.files or task.result.stopped)
            if is_blank and not keep_blank:
                self._runner.call(partial(self._drop_blank, session_id, task))
            if not task.should_stop():
                self._kept_files.keep(self._library, session_id, paths)
                self._drop_uploads(paths)

        return self._runner.submit(session_id, request, work)

    def waiting(self, session_id: str) -> list[JobRow]:
        """The session's readings of files that have not begun, in order."""
        rows = self._library.jobs(session_id, status="queued")
        return [row for row in rows if isinstance(row.request, ReadRequest) and row.request.paths]

    def cancel(self, job_id: str) -> None:
        """Take back a reading that has not begun, and remove what was copied for it. Raises LibraryError."""
        job = self._library.job(job_id)
        if job.status != "queued" or not isinstance(job.request, ReadRequest):
            return
        self._runner.stop(job_id)
        self._library.update_job(job_id, status="stopped")
        self._runner.call(partial(self._drop_uploads, [Path(path) for path in job.request.paths]))

    def resume(self, interrupted: Sequence[JobRow], waiting: Collection[str]) -> None:
        """Queue the readings again that waited when the program ended, behind the one that they waited for.

        A reading that ran alone is only offered: the page says that it was interrupted.

        interrupted: jobs of processes that have ended, the oldest first. waiting: ids of those that had not begun.
        """
        readings = [job for job in interrupted if isinstance(job.request, ReadRequest) and job.request.paths]
        sessions = {job.session_id for job in readings if job.id in waiting}
        for job in readings:
            assert isinstance(job.request, ReadRequest)
            if job.session_id in sessions:
                with suppress(SalaError):  # what cannot be read any more stays interrupted, and is offered
                    self.submit(job.session_id, list(map(Path, job.request.paths)), left_out=job.request.left_out)

    def take_nothing_read(self, session_id: str) -> str:
        """Why a session that a reading had begun is gone: nothing could be read. "" if that is not so."""
        return self._nothing_read.pop(session_id, "")

    def _drop_blank(self, session_id: str, task: Task) -> None:
        """Delete a session whose only reading has read nothing, and keep the reason for the page."""
        receipt = task.result
        try:
            job = self._library.job(task.row.id)
            if len(self._library.jobs(session_id)) > 1 or not self._library.delete_if_blank(session_id):
                return
        except LibraryError:
            return
        skipped = receipt.skipped if isinstance(receipt, ReadReceipt) else ()
        reasons = [job.error] if job.error else [f"{item.name}: {item.reason}" for item in skipped]
        more = f" and {len(reasons) - _MAX_REASONS:,} more" if len(reasons) > _MAX_REASONS else ""
        why = "; ".join(reasons[:_MAX_REASONS]) + more or "there is no file that can be read"
        self._nothing_read[session_id] = f"Nothing was read. {why}"

    def _drop_uploads(self, paths: Sequence[Path]) -> None:
        for path in paths:
            if self._uploads in path.parents:
                shutil.rmtree(self._uploads.joinpath(*path.relative_to(self._uploads).parts[:2]), ignore_errors=True)
