"""The page's view of the program: one library, one model, one engine thread. No tensor passes through here."""

import shutil
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal, TypedDict

import psutil

from sala_core.disk.files import new_id
from sala_core.engine.engine import Engine
from sala_core.engine.memory_budget import MAX_TOKENS, tokens_that_fit
from sala_core.engine.sampling import SamplingParams
from sala_core.errors import IngestError, LibraryError, ModelError, SalaError, SessionBusyError
from sala_core.events import DeviceNote, KernelProgress, LoadEvent, ReadReceipt
from sala_core.model.checkpoint import EMBEDDED
from sala_core.model.state import KvKind
from sala_core.session.folders.watchers import Watchers
from sala_core.session.job_runner import Event, JobRunner, JobView, Task
from sala_core.session.session import Session
from sala_core.session.state import SessionState
from sala_core.store import AskRequest, Library, ReadRequest, RereadRequest, SessionRow
from sala_core.text.stream_start import BosChoice

_UPLOAD_AGE_S = 7 * 24 * 3600.0
"""How long the files of an unfinished reading are kept."""
_INCOMING = "incoming"
_MAX_REASONS = 3


@dataclass(frozen=True, kw_only=True)
class ModelInfo:
    """The model that answers. max_tokens: its longest stream. error: why it could not be loaded."""

    name: str
    status: Literal["loading", "ready", "failed"]
    is_demonstration: bool
    device: str
    dtype: str
    max_tokens: int
    sampling: SamplingParams | None
    """The model's own sampling parameters; None until it is loaded."""
    error: str | None
    device_note: str = ""
    """What the user should know about the device, such as why the card is not used."""
    kernels: KernelProgress | None = None
    """Kernels that are compiled so far, while the model is loaded for the first time on a card."""
    thinks_by_default: bool | None = None
    """Whether the model thinks before it answers where nothing is set; None if it cannot, or is not loaded."""


@dataclass(frozen=True, kw_only=True)
class Meter:
    """Use of a session and of the machine. tokens_free: tokens that still fit the model and the free memory."""

    tokens_read: int
    tokens_pending: int
    tokens_free: int
    state_bytes: int
    library_bytes: int
    process_bytes: int


class SamplingChanges(TypedDict, total=False):
    """Fields of SamplingParams that a user has set; the model's own apply to the others."""

    temperature: float
    top_p: float
    max_tokens: int
    think: bool
    thinking_budget: int
    seed: int
    verbatim: bool


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
    ) -> None:
        """Open the library and start to load the model. `model_info` reports a model that cannot be loaded.

        Args:
            library_folder: folder of the library; made if it does not exist.
            model, device, kv, bos: as `Engine.load` takes them.

        Raises LibraryError.
        """
        self.library = Library.open(library_folder)
        self.library.recover_jobs()
        self._uploads = library_folder / "uploads"
        self._incoming = self._uploads / _INCOMING / new_id()
        self._model, self._device, self._kv, self._bos = model, device, kv, bos
        self._engine: Engine | None = None
        self._error: str | None = None
        self._device_note = ""
        self._kernels: KernelProgress | None = None
        self._held: tuple[str, SessionState] | None = None
        self._nothing_read: dict[str, str] = {}
        self._runner = JobRunner(self.library, library_folder / "logs")
        self._runner.call(self._load)
        self._runner.call(self._tidy)
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
        )

    def new_session(self, name: str) -> SessionRow:
        """Add an empty session. It belongs to the model that first reads into it. Raises SessionExistsError."""
        return self.library.create_session(name, model=self._model, fingerprint="")

    def refusal(self, session_id: str) -> str | None:
        """Why this model cannot continue the session, or None. `submit_reread` hands the session over to it."""
        row = self.library.session(session_id)
        engine = self._engine
        if engine is None or row.num_tokens == 0 or row.fingerprint == engine.fingerprint:
            return None
        return (
            f"It was read by the model {row.model!r}, in another version, number format, --kv or --bos than the "
            f"current {self._model!r}, so its saved state does not fit. Start the program as it was then, or read the "
            "session again with this model; texts and conversation stay."
        )

    def submit_read(self, session_id: str, paths: Sequence[Path], *, owned_folder: Path | None = None) -> str:
        """Queue a reading, and return the job's id. Without paths it continues what is unread.

        owned_folder: a folder that holds the paths, and that the workspace takes over. It is kept beside the library
        until the reading is complete, so that the reading can continue after a crash. Raises SessionBusyError;
        IngestError for a path that does not exist.
        """
        for path in paths:
            if not path.exists():
                raise IngestError(f"there is no file or folder {path}; check the spelling")
        self._check_idle(session_id)
        if owned_folder is not None:
            home = self._uploads / session_id / new_id()
            home.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(owned_folder, home)
            paths = [home / path.relative_to(owned_folder) for path in paths]
        request = ReadRequest(paths=tuple(map(str, paths)))

        def work(task: Task) -> Generator[Event, None, None]:
            try:
                with self._open(session_id) as session:
                    yield from session.read(paths, should_stop=task.should_stop)
            except IngestError:
                self._runner.call(partial(self._drop_blank, session_id, task))
                raise
            if isinstance(task.result, ReadReceipt) and not (task.result.files or task.result.stopped):
                self._runner.call(partial(self._drop_blank, session_id, task))
            if not task.should_stop():
                self._drop_uploads(paths)

        return self._runner.submit(session_id, request, work)

    def submit_remove(self, session_id: str, document_ids: Sequence[str]) -> str:
        """Queue the removal of documents from a session, and return the job's id.

        What stands behind them is read again. Raises SessionBusyError.
        """
        self._check_idle(session_id)

        def work(task: Task) -> Generator[Event, None, None]:
            with self._open(session_id) as session:
                yield from session.remove(document_ids, should_stop=task.should_stop)

        return self._runner.submit(session_id, ReadRequest(remove=tuple(document_ids)), work)

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

    def take_nothing_read(self, session_id: str) -> str:
        """Why a session that a reading had begun is gone: nothing could be read. "" if that is not so."""
        return self._nothing_read.pop(session_id, "")

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
    ) -> str:
        """Queue a question, and return the job's id.

        Args:
            session_id: which session.
            question: its text.
            sampling: None for the model's own.
            changes: fields that replace those of `sampling`.

        Raises SessionBusyError.
        """
        self._check_idle(session_id)

        def work(task: Task) -> Generator[Event, None, None]:
            with self._open(session_id) as session:
                chosen = replace(sampling or session.sampling_defaults, **changes) if changes else sampling
                yield from session.ask(question, chosen, should_stop=task.should_stop)

        return self._runner.submit(session_id, AskRequest(question=question), work)

    def submit_reread(self, session_id: str) -> str:
        """Queue the reading of a session's stored tokens with this workspace's model. Raises SessionBusyError."""
        self._check_idle(session_id)

        def work(task: Task) -> Generator[Event, None, None]:
            with self._open(session_id) as session:
                session.reset()
                yield from session.read([], should_stop=task.should_stop)

        return self._runner.submit(session_id, RereadRequest(), work)

    def stop(self, job_id: str) -> None:
        """Ask a job to end. What it has read or answered so far is kept."""
        self._runner.stop(job_id)

    def job(self, job_id: str) -> JobView:
        """The current status of a job. Raises LibraryError for an unknown one."""
        return self._runner.view(job_id)

    def active_job(self, session_id: str) -> JobView | None:
        """The session's job that is queued or running, if any."""
        return self._runner.active(session_id)

    def meter(self, session_id: str) -> Meter:
        """Use of the session and of the machine."""
        row = self.library.session(session_id)
        room = MAX_TOKENS - row.num_tokens
        if self._engine is not None:
            state = self._held[1].state if self._held and self._held[0] == row.id else None
            room = min(room, tokens_that_fit(self._engine, state=state) - row.num_tokens)
        return Meter(
            tokens_read=row.position,
            tokens_pending=row.num_tokens - row.position,
            tokens_free=max(0, room),
            state_bytes=self.library.session_state_bytes(row.id),
            library_bytes=self.library.usage().total_bytes,
            process_bytes=psutil.Process().memory_info().rss,
        )

    def close(self) -> None:
        """Stop all jobs, save what is read, and close the library."""
        self.watchers.close()
        self._runner.close()
        shutil.rmtree(self._incoming, ignore_errors=True)
        self.library.close()

    def _load(self) -> None:
        try:
            engine = Engine.load(self._model, self._device, kv=self._kv, bos=self._bos, report=self._take_load_event)
            _ = engine.fingerprint, engine.chat, engine.sampling_defaults
            self._engine = engine
        except SalaError as error:
            self._error = str(error)
        except Exception as error:  # noqa: BLE001 - the thread's outermost boundary: the page must be able to say why
            self._error = f"the model could not be loaded ({type(error).__name__}: {error})"

    def _take_load_event(self, event: LoadEvent) -> None:
        if isinstance(event, DeviceNote):
            self._device_note = event.text
        else:
            self._kernels = event

    def _tidy(self) -> None:
        """Free what crashes and unfinished readings have left: unused states, texts, uploads."""
        self.library.tidy()
        sessions = {row.id for row in self.library.sessions()}
        known = {*sessions, _INCOMING}  # another process with this library may be receiving an upload
        oldest = time.time() - _UPLOAD_AGE_S
        for folder in self._uploads.glob("*/*"):
            if folder != self._incoming and (folder.parent.name not in known or _changed_at(folder) < oldest):
                shutil.rmtree(folder, ignore_errors=True)

    def _drop_blank(self, session_id: str, task: Task) -> None:
        """Delete a session whose only reading has read nothing, and keep the reason for the page."""
        receipt = task.result
        try:
            job = self.library.job(task.row.id)
            if len(self.library.jobs(session_id)) > 1 or not self.library.delete_if_blank(session_id):
                return
        except LibraryError:
            return
        skipped = receipt.skipped if isinstance(receipt, ReadReceipt) else ()
        reasons = [job.error] if job.error else [f"{item.name}: {item.reason}" for item in skipped]
        more = f" and {len(reasons) - _MAX_REASONS:,} more" if len(reasons) > _MAX_REASONS else ""
        why = "; ".join(reasons[:_MAX_REASONS]) + more or "there is no file that can be read"
        self._nothing_read[session_id] = f"Nothing was read. {why}"

    def _is_active(self, session_id: str) -> bool:
        return self.active_job(session_id) is not None

    def _check_idle(self, session_id: str) -> None:
        if self.active_job(session_id) is not None:
            raise SessionBusyError("this session is still at work; wait for it, or press Stop")

    def _open(self, session_id: str) -> Session:
        """Open the session, with its state if that is in memory. Drops the state of any other session."""
        if self._engine is None:
            raise ModelError(self._error or "the model is not loaded")
        held = self._held[1] if self._held and self._held[0] == session_id else None
        self._held = None
        session = Session.open(self.library, self._engine, session_id, state=held)
        self._held = (session_id, session.state)
        return session

    def _drop_uploads(self, paths: Sequence[Path]) -> None:
        for path in paths:
            if self._uploads in path.parents:
                shutil.rmtree(self._uploads.joinpath(*path.relative_to(self._uploads).parts[:2]), ignore_errors=True)


def _changed_at(folder: Path) -> float:
    """When the folder's list of files last changed; the current time for a folder that no longer exists."""
    try:
        return folder.stat().st_mtime
    except OSError:
        return time.time()
