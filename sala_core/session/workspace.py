"""The page's view of the program: one library, one model, one engine thread. No tensor passes through here."""

import shutil
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Literal

import psutil

from sala_core.disk.files import new_id
from sala_core.engine.engine import Engine
from sala_core.engine.memory_budget import MAX_TOKENS, tokens_that_fit
from sala_core.engine.release_memory import release_memory
from sala_core.engine.sampling import SamplingParams
from sala_core.errors import LibraryError, ModelError, SalaError, SessionBusyError
from sala_core.events import DeviceNote, KernelProgress, LoadEvent
from sala_core.model.checkpoint import EMBEDDED, resolve_model
from sala_core.model.fingerprint import KvAtRest
from sala_core.model.state import KvKind, SalaState
from sala_core.session.folders.kept_files import KeptFiles
from sala_core.session.folders.staleness import DiskStates
from sala_core.session.folders.watchers import Watchers
from sala_core.session.job_runner import Event, JobRunner, JobView, Task
from sala_core.session.lists.list_runs import QuestionLists
from sala_core.session.model_info import ModelChoice, ModelInfo
from sala_core.session.planning.offered import OFFERED, Offers
from sala_core.session.planning.planner import Planner
from sala_core.session.planning.readings import Readings
from sala_core.session.planning.usage import Meter, token_use
from sala_core.session.queue.changes import SamplingChanges
from sala_core.session.queue.questions import Questions
from sala_core.session.remote.engines import Engines
from sala_core.session.served.shared import shared_state
from sala_core.session.session import Session
from sala_core.store import Library, ReadRequest, RereadRequest, SessionRow
from sala_core.text.stream_start import BosChoice

_UPLOAD_AGE_S = 7 * 24 * 3600.0
"""How long the files of an unfinished reading are kept."""
_INCOMING = "incoming"


class Workspace:
    """Loads the model in the background, runs jobs on it, and reports their status. Safe to call from any thread."""

    def __init__(
        self,
        library_folder: Path,
        model: str,
        device: str,
        kv: KvKind | Literal["auto"] = "auto",
        *,
        bos: BosChoice = "auto",
        kv_at_rest: KvAtRest = "same",
    ) -> None:
        """Open the library and start to load the model. `model_info` reports a model that cannot be loaded.

        Args:
            library_folder: folder of the library; made if it does not exist.
            model, device, kv, bos, kv_at_rest: as `Engine.load` takes them.

        Raises LibraryError.
        """
        self.library = Library.open(library_folder)
        waiting = {job.id for job in self.library.jobs(status="queued")}
        interrupted = self.library.recover_jobs()
        self._uploads = library_folder / "uploads"
        self.offers = Offers(self._uploads)
        self.kept_files = KeptFiles(library_folder)
        self._incoming = self._uploads / _INCOMING / new_id()
        self._model, self._device, self._kv, self._bos = model, device, kv, bos
        self._kv_at_rest = kv_at_rest
        self._engine: Engine | None = None
        self._error: str | None = None
        self.wanted: ModelChoice | None = None
        """The model that is loaded as soon as the work under way is done; None most of the time."""
        self.on_switched: Callable[[ModelChoice], None] = lambda choice: None
        """Called in the engine's thread when another model is loaded."""
        self._device_note = self._switch_failure = ""
        self._kernels: KernelProgress | None = None
        self._held: dict[str, Session] = {}
        """By id, the sessions whose states are in memory: the one opened last, and a reading that is suspended."""
        self.runner = JobRunner(self.library, library_folder / "logs")
        self.runner.call(self._load)
        self.runner.call(self._tidy)
        self.planner = Planner(
            self.library, lambda: self._engine, lambda: self._error, self.runner.call, self._state_of
        )
        self.readings = Readings(self.library, self.runner, self._uploads, self.kept_files, self.open_session)
        self.engines = Engines(library_folder)
        self.questions = Questions(
            self.library, self.runner, self.open_session, lambda name: self._held.get(name), self.engines.writer
        )
        self.readings.resume(interrupted, waiting)
        self.questions.resume(interrupted, waiting)
        self.lists = QuestionLists(library_folder / "lists", self.runner.call, self.open_session, self.engines.writer)
        self.on_disk = DiskStates(self.library)
        self.watchers = Watchers(self.library, self.submit_read, self._is_active)
        self.watchers.resume()

    def model_info(self) -> ModelInfo:
        """The model, and whether it is ready."""
        engine = self._engine
        return ModelInfo(
            name=self._model,
            status="ready" if engine else "failed" if self._error else "loading",
            is_demonstration=self._model == EMBEDDED,
            device=str(engine.model.device) if engine else self._device,
            dtype=str(engine.model.dtype).removeprefix("torch.") if engine else "",
            max_tokens=MAX_TOKENS,
            sampling=engine.sampling_defaults if engine else None,
            error=self._error,
            device_note=self._device_note,
            kernels=None if engine or self._error else self._kernels,
            thinks_by_default=engine.chat.thinks_by_default if engine and engine.thinks else None,
            switch_failure=self._switch_failure,
            writer=self.engines.name,
        )

    @property
    def engine(self) -> Engine:
        """The model that is loaded. Raises ModelError."""
        if self._engine is None:
            raise ModelError(self._error or "the model is not loaded")
        return self._engine

    def switch_model(self, choice: ModelChoice) -> None:
        """Load another model in the place of this one, between two jobs. Raises ModelError if it is not here whole.

        If it cannot be loaded, the present one is loaded again, and `model_info` says so.
        """
        resolve_model(choice.model)
        self.wanted = choice
        self.runner.call(partial(self._switch, choice))

    def new_session(self, name: str) -> SessionRow:
        """Add an empty session. It belongs to the model that first reads into it. Raises SessionExistsError."""
        return self.library.create_session(name, model=self._model, fingerprint="")

    def refusal(self, session_id: str) -> str | None:
        """Why this model cannot continue the session, or None. `submit_reread` hands the session over to it."""
        row = self.library.session(session_id)
        engine = self._engine
        if engine is None or row.num_tokens == 0 or engine.at_rest(row.fingerprint) is not None:
            return None
        if row.model != self._model:
            return (
                f"It was read by the model {row.model!r}, and {self._model!r} is active. Open it with its own model, "
                "or let this one read it again; texts and conversation stay."
            )
        return (
            f"It was read by {row.model!r} in another version, or with another number format (KV) or another "
            "beginning (--bos), so its saved state does not fit. Choose them again in “Settings”, or read the session "
            "again as the model is now; texts and conversation stay."
        )

    def submit_read(
        self,
        session_id: str,
        paths: Sequence[Path],
        *,
        owned_folder: Path | None = None,
        left_out: Sequence[str] | None = None,
        passwords: Mapping[str, str] | None = None,
    ) -> str:
        """Queue a reading, and return the job's id: `Readings.submit`.

        Args:
            session_id, paths, owned_folder, left_out, passwords: as it takes them.

        Raises IngestError, SessionBusyError.
        """
        return self.readings.submit(
            session_id, paths, owned_folder=owned_folder, left_out=left_out, passwords=passwords
        )

    def submit_remove(self, session_id: str, document_ids: Sequence[str]) -> str:
        """Queue the removal of documents from a session, and return the job's id.

        What stands behind them is read again. Raises SessionBusyError.
        """
        self._check_idle(session_id)

        def work(task: Task) -> Generator[Event, None, None]:
            with self.open_session(session_id) as session:
                yield from session.remove(document_ids, should_stop=task.should_stop)

        return self.runner.submit(session_id, ReadRequest(remove=tuple(document_ids)), work)

    def removal_cost(self, session_id: str, document_id: str) -> int:
        """How many tokens are read again at most if a document is removed: those behind it, and up to the last state
        that is kept before it. Raises SessionNotFoundError."""
        parts = self.library.parts(session_id)
        start = next((part.start for part in parts if part.document_id == document_id), None)
        if start is None:
            return 0
        row, end = self.library.session(session_id), parts[-1].end
        length = sum(part.end - part.start for part in parts if part.document_id == document_id)
        known = self.library.last_kept_token(row.head, start) if row.head else 0
        return end - length - known

    def new_upload_folder(self) -> Path:
        """A new folder beside the library, to be filled and given to `submit_read` as `owned_folder`.

        Only this user has access to it. It is removed when the workspace is closed. Raises LibraryError.
        """
        folder = self._incoming / new_id()
        try:
            folder.mkdir(mode=0o700, parents=True)
        except OSError as error:
            raise LibraryError(f"no folder can be made in {self._uploads}: {error.strerror or error}") from error
        return folder

    def submit_ask(
        self,
        session_id: str,
        question: str,
        sampling: SamplingParams | None = None,
        *,
        changes: SamplingChanges | None = None,
        instead_of: str | None = None,
    ) -> str:
        """Queue a question, and return the job's id: `Questions.submit`.

        Args:
            session_id, question, sampling, changes, instead_of: as it takes them.

        Raises SessionBusyError.
        """
        return self.questions.submit(session_id, question, sampling, changes=changes, instead_of=instead_of)

    def submit_reread(self, session_id: str) -> str:
        """Queue the reading of a session's stored tokens with this workspace's model. Raises SessionBusyError."""
        self._check_idle(session_id)

        def work(task: Task) -> Generator[Event, None, None]:
            with self.open_session(session_id) as session:
                session.reset()
                yield from session.read([], should_stop=task.should_stop)

        return self.runner.submit(session_id, RereadRequest(), work)

    def stop(self, job_id: str) -> None:
        """Ask a job to end. What it has read or answered so far is kept."""
        self.runner.stop(job_id)

    def job(self, job_id: str) -> JobView:
        """The current status of a job. Raises LibraryError for an unknown one."""
        return self.runner.view(job_id)

    def active_job(self, session_id: str) -> JobView | None:
        """The session's job that is queued or running, if any: a question before a reading."""
        return self.runner.active(session_id)

    def active_reading(self, session_id: str) -> JobView | None:
        """The session's reading that is queued or running, if any; a question may be answered meanwhile."""
        return self.runner.active(session_id, questions=False)

    def meter(self, session_id: str) -> Meter:
        """Use of the session and of the machine."""
        row = self.library.session(session_id)
        room = MAX_TOKENS - row.num_tokens
        if self._engine is not None:
            state = self._state_of(row.id)
            room = min(room, tokens_that_fit(self._engine, state=state) - row.num_tokens)
        return Meter(
            tokens_read=row.position,
            tokens_pending=row.num_tokens - row.position,
            tokens_free=max(0, room),
            state_bytes=self.library.session_state_bytes(row.id),
            library_bytes=self.library.usage().total_bytes,
            process_bytes=psutil.Process().memory_info().rss,
            used=token_use(self.library, row.id),
            saved_s=self.planner.measured.saved_s(row.id),
        )

    def close(self) -> None:
        """Stop all jobs, save what is read, and close the library."""
        self.watchers.close()
        self.lists.close()
        self.runner.close()
        self.planner.close()
        self.engines.close()
        shutil.rmtree(self._incoming, ignore_errors=True)
        self.library.close()

    def _switch(self, choice: ModelChoice) -> None:
        if choice != self.wanted:
            return  # another one was chosen meanwhile
        former = ModelChoice(model=self._model, device=self._device, kv=self._kv) if self._engine else None
        self._switch_failure = ""
        self._replace(choice)
        if self._engine is None and former is not None:
            reason = self._error
            self._replace(former)
            if self._engine is not None:
                failed = f"{choice.model} could not be loaded"
                self._switch_failure = f"{failed}, and {former.model} is active again: {reason}"
        elif self._engine is not None:
            self.on_switched(choice)
        self.wanted = None

    def _replace(self, choice: ModelChoice) -> None:
        self._held.clear()
        self._engine = self._error = self._kernels = None
        self._device_note = ""
        self._model, self._device, self._kv = choice.model, choice.device, choice.kv
        release_memory()
        self._load()

    def _load(self) -> None:
        try:
            engine = Engine.load(self._model, self._device, kv=self._kv, bos=self._bos, report=self._take_load_event)
            engine.kv_at_rest = self._kv_at_rest
            _ = engine.fingerprint, engine.chat, engine.sampling_defaults
            self._engine = engine
        except SalaError as error:
            self._error = str(error)
        except Exception as error:  # noqa: BLE001 - the thread's outermost boundary: the page must be able to say why
            self._error = f"the model could not be loaded ({type(error).__name__}: {error})"

    def store_kv(self, kv_at_rest: KvAtRest) -> None:
        """Choose how sessions that are read for the first time from now on store keys and values."""
        self._kv_at_rest = kv_at_rest
        if self._engine is not None:
            self._engine.kv_at_rest = kv_at_rest

    def _take_load_event(self, event: LoadEvent) -> None:
        if isinstance(event, DeviceNote):
            self._device_note = event.text
        else:
            self._kernels = event

    def _tidy(self) -> None:
        """Free what crashes and unfinished readings have left: unused states, texts, uploads."""
        self.library.tidy()
        self.kept_files.drop_unused(self.library.file_hashes())
        self.lists.drop_unused({row.id for row in (*self.library.sessions(), *self.library.sessions_in_bin())})
        sessions = {row.id for row in self.library.sessions()}
        known = {*sessions, _INCOMING, OFFERED}  # another process with this library may be receiving an upload
        oldest = time.time() - _UPLOAD_AGE_S
        for folder in self._uploads.glob("*/*"):
            if folder != self._incoming and (folder.parent.name not in known or _changed_at(folder) < oldest):
                shutil.rmtree(folder, ignore_errors=True)

    def _state_of(self, session_id: str) -> SalaState | None:
        held = self._held.get(session_id)
        return held.state.state if held is not None else None

    def _is_active(self, session_id: str) -> bool:
        return self.active_job(session_id) is not None

    def _check_idle(self, session_id: str) -> None:
        if self.active_job(session_id) is not None:
            raise SessionBusyError("this session is still at work; wait for it, or press Stop")

    def open_session(self, session_id: str) -> Session:
        """Open the session, with its state if that is in memory; for work on the engine's thread.

        Drops the states of other sessions. That of a reading which is suspended meanwhile stays.
        """
        engine = self.engine
        suspended = self.runner.suspended
        kept = {session_id, suspended.row.session_id if suspended is not None else ""}
        others = [session for name, session in self._held.items() if name not in kept]
        self._held = {name: session for name, session in self._held.items() if name in kept}
        before = self._held.pop(session_id, None)
        state = before.state if before is not None else shared_state(self.library, session_id, others)
        self._held[session_id] = session = Session.open(self.library, engine, session_id, state=state)
        return session


def _changed_at(folder: Path) -> float:
    """When the folder's list of files last changed; the current time for a folder that no longer exists."""
    try:
        return folder.stat().st_mtime
    except OSError:
        return time.time()
