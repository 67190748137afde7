"""What a page needs: one library, one model, one engine thread. No tensor passes through here."""

import shutil
import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import psutil

from sala_core.disk.files import new_id
from sala_core.engine.engine import Engine
from sala_core.engine.memory_budget import MAX_TOKENS, tokens_that_fit
from sala_core.engine.sampling import SamplingParams
from sala_core.errors import IngestError, LibraryError, ModelError, SalaError, SessionBusyError
from sala_core.model.checkpoint import EMBEDDED
from sala_core.model.state import KvKind
from sala_core.session.job_runner import Event, JobRunner, JobView, Task
from sala_core.session.session import Session
from sala_core.session.state import SessionState
from sala_core.store import Library, SessionRow

_UPLOAD_AGE_S = 7 * 24 * 3600.0
"""So long an upload waits for its reading to be continued."""
_INCOMING = "incoming"


@dataclass(frozen=True, kw_only=True)
class ModelInfo:
    """The model that answers. max_tokens: the longest stream it takes. error: why it could not be loaded."""

    name: str
    status: Literal["loading", "ready", "failed"]
    is_demonstration: bool
    device: str
    dtype: str
    max_tokens: int
    sampling: SamplingParams | None
    """How the model would have its answers chosen; None until it is loaded."""
    error: str | None


@dataclass(frozen=True, kw_only=True)
class Meter:
    """How full a session and the machine are. tokens_free: what still fits, by the model and by free memory."""

    tokens_read: int
    tokens_pending: int
    tokens_free: int
    state_bytes: int
    library_bytes: int
    process_bytes: int


class Workspace:
    """Loads the model in the background, runs jobs on it, and tells how they stand. Safe to call from any thread."""

    def __init__(self, library_folder: Path, model: str, device: str, kv: KvKind | Literal["auto"] = "auto") -> None:
        """kv: as in `Engine.load`. Raises LibraryError; a model that cannot be loaded is reported by `model_info`."""
        self.library = Library.open(library_folder)
        self.library.recover_jobs()
        self._uploads = library_folder / "uploads"
        self._incoming = self._uploads / _INCOMING / new_id()
        self._model, self._device, self._kv = model, device, kv
        self._engine: Engine | None = None
        self._error: str | None = None
        self._held: tuple[str, SessionState] | None = None
        self._runner = JobRunner(self.library, library_folder / "logs")
        self._runner.call(self._load)
        self._runner.call(self._tidy)

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
        )

    def new_session(self, name: str) -> SessionRow:
        """Add an empty session; it belongs to the model that first reads into it. Raises SessionExistsError."""
        return self.library.create_session(name, model=self._model, fingerprint="")

    def refusal(self, session_id: str) -> str | None:
        """Why the session cannot go on with this model, or None. `submit_reread` hands it over."""
        row = self.library.session(session_id)
        engine = self._engine
        if engine is None or row.num_tokens == 0 or row.fingerprint == engine.fingerprint:
            return None
        return (
            f"It was read by the model {row.model!r}, in another version, number format or --kv than {self._model!r} "
            "of now, so its saved state does not fit. Start the program as it was then, or read the session again with "
            "this one; texts and conversation stay."
        )

    def submit_read(self, session_id: str, paths: Sequence[Path], *, owned_folder: Path | None = None) -> str:
        """Queue a reading; returns the job's id. No paths: continue what is unread.

        owned_folder: a folder with the paths that is the workspace's from now on; it is kept beside the library until
        the reading is over, so that a reading can go on after a crash. Raises SessionBusyError; IngestError for a path
        that is not there.
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
        request = {"paths": [str(path) for path in paths]}

        def work(task: Task) -> Generator[Event, None, None]:
            with self._open(session_id) as session:
                yield from session.read(paths, should_stop=task.should_stop)
            if not task.should_stop():
                self._drop_uploads(paths)

        return self._runner.submit(session_id, "read", request, work)

    def new_upload_folder(self) -> Path:
        """A fresh folder beside the library, for what is to be given to `submit_read` as `owned_folder`.

        Only this user may look into it; what is left of it goes when the workspace is closed. Raises LibraryError.
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
        changes: Mapping[str, Any] | None = None,
    ) -> str:
        """Queue a question; returns the job's id. Raises SessionBusyError.

        sampling: None for the model's own. changes: fields of it that are set otherwise, whatever the model.
        """
        self._check_idle(session_id)

        def work(task: Task) -> Generator[Event, None, None]:
            with self._open(session_id) as session:
                chosen = replace(sampling or session.sampling_defaults, **changes) if changes else sampling
                yield from session.ask(question, chosen, should_stop=task.should_stop)

        return self._runner.submit(session_id, "ask", {"question": question}, work)

    def submit_reread(self, session_id: str) -> str:
        """Queue reading a session's stored tokens again with the model at hand. Raises SessionBusyError."""
        self._check_idle(session_id)

        def work(task: Task) -> Generator[Event, None, None]:
            with self._open(session_id) as session:
                session.reset()
                yield from session.read([], should_stop=task.should_stop)

        return self._runner.submit(session_id, "reread", {"paths": []}, work)

    def stop(self, job_id: str) -> None:
        """Ask a job to end; what it has read or said is kept."""
        self._runner.stop(job_id)

    def job(self, job_id: str) -> JobView:
        """A job as it stands now. Raises LibraryError for an unknown one."""
        return self._runner.view(job_id)

    def active_job(self, session_id: str) -> JobView | None:
        """The session's job that is queued or running, if any."""
        return self._runner.active(session_id)

    def meter(self, session_id: str) -> Meter:
        """How full the session and the machine are."""
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
        """Stop all work, saving what is read, and close the library."""
        self._runner.close()
        shutil.rmtree(self._incoming, ignore_errors=True)
        self.library.close()

    def _load(self) -> None:
        try:
            engine = Engine.load(self._model, self._device, kv=self._kv)
            _ = engine.fingerprint, engine.chat, engine.sampling_defaults
            self._engine = engine
        except SalaError as error:
            self._error = str(error)
        except Exception as error:  # noqa: BLE001 - the thread's outermost boundary: the page must be able to say why
            self._error = f"the model could not be loaded ({type(error).__name__}: {error})"

    def _tidy(self) -> None:
        """Free what crashes and readings never finished have left: unused states, texts, uploads."""
        self.library.collect_garbage()
        sessions = {row.id for row in self.library.sessions()}
        known = {*sessions, _INCOMING}  # another program on this library may be receiving
        oldest = time.time() - _UPLOAD_AGE_S
        for folder in self._uploads.glob("*/*"):
            if folder != self._incoming and (folder.parent.name not in known or _changed_at(folder) < oldest):
                shutil.rmtree(folder, ignore_errors=True)

    def _check_idle(self, session_id: str) -> None:
        if self.active_job(session_id) is not None:
            raise SessionBusyError("this session is still at work; wait for it, or press Stop")

    def _open(self, session_id: str) -> Session:
        """The session with its state, if that is still in memory; another session's state is let go."""
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
    """When the folder's list of files last changed; now, where it has just gone."""
    try:
        return folder.stat().st_mtime
    except OSError:
        return time.time()
