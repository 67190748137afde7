"""Download a model: what this program needs of it, whole or not at all, continued after any stop."""

import os
import shutil
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout
from huggingface_hub.utils import build_hf_headers

from sala_core.errors import CheckpointError, ConfigError, DownloadSpaceError, HubAccessError, TokenizerError
from sala_core.hub.records import (
    Checking,
    Downloaded,
    Planned,
    Progress,
    RemoteFile,
    RemoteModel,
    Report,
    Retrying,
    Waiting,
)
from sala_core.hub.remote import remote_model
from sala_core.hub.selection import check_config, check_text_files, config_file, small_files, weight_files_of
from sala_core.hub.target import CacheTarget, FolderTarget, Target
from sala_core.hub.transfer import check, fetch, is_intact, write_error
from sala_core.model.hub_cache import check_repository

_RATE_WINDOW_S = 10.0
_LOCK_POLL_S = 0.2
_RESERVE_BYTES = 64 << 20  # free bytes that the download leaves for others


def download(
    name: str, *, to: Path | None = None, revision: str | None = None, token: str | None = None, report: Report
) -> Downloaded:
    """Download a model from the hub, or continue to.

    Fetches only safetensors, settings, tokenizer, chat template, model card and license. The settings and the
    tokenizer come first: a model that this program does not read is refused before any weights. A stop at any moment
    loses about a megabyte, and the target is no model until every file is there with the right checksum. Where the
    model is complete already, every checksum is compared again.

    Args:
        name: "org/model".
        to: the folder for the model. None: the Hugging Face cache.
        revision: a branch, tag or commit. None: the default branch.
        token: None takes HF_TOKEN, or the one that `hf auth login` stored.
        report: called with every event, in this thread.

    Raises DownloadError; ConfigError, CheckpointError or TokenizerError for a model that this program does not read;
    ModelError for a name that cannot be one.
    """
    started = time.monotonic()
    check_repository(name)
    folder = FolderTarget(to.expanduser().absolute()) if to is not None else None
    headers = _headers(token)
    model = remote_model(name, revision, token)
    target = folder or CacheTarget(model)
    run = _Run(model, target, headers, report)
    try:
        target.root.mkdir(parents=True, exist_ok=True)
        with _locked(target, report):
            files = run.collect()
            target.finish(files)
    except OSError as error:
        raise write_error(error, Path(error.filename or target.root)) from error
    done = Downloaded(
        name=name,
        revision=model.revision,
        commit=model.commit,
        folder=target.folder,
        bytes_total=_total(files),
        bytes_fetched=run.bytes_fetched,
        seconds=time.monotonic() - started,
        model=target.model,
    )
    report(done)
    return done


def _headers(token: str | None) -> dict[str, str]:
    headers = build_hf_headers(token=token)
    if not headers.get("authorization", "").isascii() or token == "":
        raise HubAccessError("the token is empty or has characters that no token has; copy it again")
    return headers


@contextmanager
def _locked(target: Target, report: Report) -> Iterator[None]:
    """Hold the target's lock. Waits, and reports that, while another process holds it."""
    lock = FileLock(target.lock_file)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        report(Waiting(folder=target.root))
        lock.acquire(poll_interval=_LOCK_POLL_S)
    try:
        yield
    finally:
        lock.release()
        if not target.staging.exists():
            target.lock_file.unlink(missing_ok=True)


class _Run:
    """One run: fetches what is missing into the target's folder of unfinished files."""

    def __init__(self, model: RemoteModel, target: Target, headers: dict[str, str], report: Report) -> None:
        self._model, self._target, self._headers, self._report = model, target, headers, report
        self._rate = _Rate()
        self._bytes_done = self._bytes_total = 0
        self.bytes_fetched = 0

    def collect(self) -> list[RemoteFile]:
        """Bring every needed file into the folder of unfinished files, or find it in place. Returns the files.

        Raises as `download`; after a refusal of the model nothing is left behind.
        """
        model, target = self._model, self._target
        target.begin(model)
        try:
            settings, weights = self._choose()
        except (ConfigError, CheckpointError, TokenizerError):
            target.abandon()
            raise
        target.note(model, [*settings, *weights])
        missing = [file for file in weights if not target.staged(file).is_file() and self._in_place(file) is None]
        self._plan([*settings, *weights], missing)
        for file in missing:
            self._fetch(file)
        return [*settings, *weights]

    def _choose(self) -> tuple[list[RemoteFile], list[RemoteFile]]:
        """Fetch all but the weights, and see from it whether the program reads the model. Returns (rest, weights)."""
        model, staging = self._model, self._target.staging
        config, others = config_file(model), small_files(model)
        self._target.note(model, [config, *others])
        self._stage([config])
        check_config(model.name, staging)
        self._stage(others)
        check_text_files(model.name, staging)
        return [config, *others], weight_files_of(model, staging)

    def _stage(self, files: Sequence[RemoteFile]) -> None:
        for file in files:
            part, staged = self._target.part(file), self._target.staged(file)
            if staged.is_file():
                continue
            if (path := self._in_place(file)) is not None:
                shutil.copyfile(path, part)
                os.replace(part, staged)
            else:
                self._fetch(file)

    def _in_place(self, file: RemoteFile) -> Path | None:
        """The intact copy of a file that is in its place already, if there is one."""
        for path in self._target.candidates(file):
            if path.is_file():
                self._report(Checking(file=file.name, num_bytes=file.num_bytes))
                if is_intact(file, path):
                    return path
                self._target.reject(path)
        return None

    def _plan(self, files: Sequence[RemoteFile], missing: Sequence[RemoteFile]) -> None:
        """Report what is to be fetched. Raises DownloadSpaceError if it has no room."""
        target, total = self._target, _total(files)
        parts = sum(min(_size(target.part(file)), file.num_bytes) for file in missing)
        here, free = total - _total(missing) + parts, shutil.disk_usage(target.root).free
        self._bytes_done, self._bytes_total = here, total
        if missing and total - here + _RESERVE_BYTES > free:
            raise DownloadSpaceError(
                f"{self._model.name} takes {total / 1e9:.2f} GB, {here / 1e9:.2f} GB of it is there, and the other "
                f"{(total - here) / 1e9:.2f} GB do not fit: {free / 1e9:.2f} GB is free on the disk of {target.root}; "
                "make room, or choose another disk with --to DIR"
            )
        planned = Planned(
            name=self._model.name,
            commit=self._model.commit,
            license=self._model.license,
            folder=target.folder,
            num_files=len(files),
            bytes_total=total,
            bytes_here=here,
            bytes_free=free,
        )
        self._report(planned)

    def _fetch(self, file: RemoteFile) -> None:
        """Fetch what is missing of a file, check it, and give it its name."""
        part = self._target.part(file)
        part.touch()
        fetch(
            self._model,
            file,
            part,
            headers=self._headers,
            on_bytes=lambda count: self._progress(file, count),
            on_retry=lambda reason: self._report(Retrying(file=file.name, reason=reason)),
        )
        self._report(Checking(file=file.name, num_bytes=file.num_bytes))
        check(file, part)
        os.replace(part, self._target.staged(file))

    def _progress(self, file: RemoteFile, count: int) -> None:
        self.bytes_fetched += count
        if not self._bytes_total:
            return  # the settings, before the plan
        self._bytes_done += count
        rate = self._rate.take(self._bytes_done)
        progress = Progress(
            file=file.name, bytes_done=self._bytes_done, bytes_total=self._bytes_total, bytes_per_s=rate
        )
        self._report(progress)


class _Rate:
    """Bytes per second over the last seconds."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()

    def take(self, num_bytes: int) -> float:
        """Note the bytes so far; return the rate, 0 while there is none."""
        now = time.monotonic()
        self._seen.append((now, num_bytes))
        while len(self._seen) > 2 and now - self._seen[0][0] > _RATE_WINDOW_S:
            self._seen.popleft()
        since, before = self._seen[0]
        return max(0.0, (num_bytes - before) / (now - since)) if now > since else 0.0


def _total(files: Sequence[RemoteFile]) -> int:
    return sum(file.num_bytes for file in files)


def _size(file: Path) -> int:
    return file.stat().st_size if file.is_file() else 0
