"""Where a download goes: a folder of the user's, or the Hugging Face cache.

Files are collected in UNFINISHED inside the target. They come to their places when all are there and checked, with
config.json last, so that no program takes a part of a model for a model.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

from sala_core.errors import DownloadError
from sala_core.hub.records import RemoteFile, RemoteModel
from sala_core.hub.selection import CONFIG
from sala_core.model.hub_cache import DEFAULT_REVISION, JOURNAL, UNFINISHED, read_journal, repository_folder

_METADATA = ".cache/huggingface/download"
"""Where huggingface_hub keeps the commit and the checksum of each file that it has downloaded into a folder."""
_PART_SUFFIX = ".part"
_LOCK = f"{UNFINISHED}.lock"


class Target(ABC):
    """The place of one download. `root` is the folder that holds UNFINISHED, `folder` the model's folder at the end."""

    def __init__(self, root: Path, folder: Path) -> None:
        self.root, self.folder = root, folder
        self.staging = root / UNFINISHED
        self.lock_file = root / _LOCK

    @property
    @abstractmethod
    def model(self) -> str:
        """What `--model` takes when the download has ended."""

    @abstractmethod
    def candidates(self, file: RemoteFile) -> tuple[Path, ...]:
        """Where the file is if it is in its place already."""

    @abstractmethod
    def reject(self, path: Path) -> None:
        """Deal with a candidate of another content. Raises DownloadError if it is not this program's to delete."""

    @abstractmethod
    def place(self, file: RemoteFile) -> None:
        """Bring a file from `staging` to its place; do nothing for one that is in its place already."""

    def staged(self, file: RemoteFile) -> Path:
        """Where the file is collected once it is whole and checked."""
        return self.staging / file.name

    def part(self, file: RemoteFile) -> Path:
        """Where the file's bytes are collected."""
        return self.staging / f"{file.name}{_PART_SUFFIX}"

    def begin(self, model: RemoteModel) -> None:
        """Create `staging`, and delete in it what has another content than the model now has.

        Raises DownloadError where another model's download is unfinished there.
        """
        before = read_journal(self.root) or {"name": model.name, "digests": {}}
        if before["name"] != model.name:
            raise DownloadError(
                f"{self.root} holds an unfinished download of {before['name']}; finish it, delete {self.staging}, or "
                "choose another folder with --to"
            )
        self.staging.mkdir(parents=True, exist_ok=True)
        now = {file.name: file for file in model.files}
        for name, digest in before["digests"].items():
            if name not in now or now[name].digest != digest:
                for leftover in (self.staging / name, self.staging / f"{name}{_PART_SUFFIX}"):
                    leftover.unlink(missing_ok=True)

    def note(self, model: RemoteModel, files: Sequence[RemoteFile]) -> None:
        """Write down what is downloaded here, for a later run and for the list of models."""
        content = {
            "name": model.name,
            "revision": model.revision,
            "bytes_total": sum(file.num_bytes for file in files),
            "digests": {file.name: file.digest for file in files},
        }
        _write(self.staging / JOURNAL, json.dumps(content, indent=2))

    def finish(self, files: Sequence[RemoteFile]) -> None:
        """Bring all files to their places, config.json last, and delete `staging`."""
        for file in sorted(files, key=lambda file: file.name == CONFIG):
            self.place(file)
        shutil.rmtree(self.staging, ignore_errors=True)

    def abandon(self) -> None:
        """Delete `staging`, and `root` if nothing else is in it."""
        shutil.rmtree(self.staging, ignore_errors=True)
        if {entry.name for entry in self.root.iterdir()} <= {_LOCK}:
            shutil.rmtree(self.root, ignore_errors=True)


class FolderTarget(Target):
    """A folder of the user's. A file of another content in it is never overwritten."""

    def __init__(self, folder: Path) -> None:
        """Raises DownloadError unless the folder is new, empty, a model, or an unfinished download."""
        super().__init__(folder, folder)
        if folder.exists() and not folder.is_dir():
            raise DownloadError(f"{folder} is a file; give a folder")
        if folder.is_dir() and not self.staging.is_dir() and not (folder / CONFIG).is_file():
            entries = sorted(entry.name for entry in folder.iterdir() if entry.name != _LOCK)
            if entries:
                raise DownloadError(f"{folder} is not empty ({entries[0]} is there); give a new folder")

    @property
    def model(self) -> str:
        return str(self.folder)

    def candidates(self, file: RemoteFile) -> tuple[Path, ...]:
        return (self.folder / file.name,)

    def reject(self, path: Path) -> None:
        raise DownloadError(
            f"{path} is there already and is not the file that would be downloaded; delete it, or choose another "
            "folder with --to"
        )

    def begin(self, model: RemoteModel) -> None:
        super().begin(model)
        self._commit = model.commit

    def place(self, file: RemoteFile) -> None:
        if self.staged(file).is_file():
            os.replace(self.staged(file), self.folder / file.name)
        metadata = self.folder / _METADATA / f"{file.name}.metadata"
        metadata.parent.mkdir(parents=True, exist_ok=True)
        _write(metadata, f"{self._commit}\n{file.digest}\n{time.time()}\n")


class CacheTarget(Target):
    """The Hugging Face cache, in its own layout, so that other programs find the model too."""

    def __init__(self, model: RemoteModel) -> None:
        root = repository_folder(model.name)
        super().__init__(root, root / "snapshots" / model.commit)
        self._name, self._revision, self._commit = model.name, model.revision, model.commit

    @property
    def model(self) -> str:
        return self._name if self._revision == DEFAULT_REVISION else f"{self._name}@{self._revision}"

    def candidates(self, file: RemoteFile) -> tuple[Path, ...]:
        return self._blob(file), self.folder / file.name

    def reject(self, path: Path) -> None:
        path.unlink()  # the cache names files by their content, so this one is damaged

    def place(self, file: RemoteFile) -> None:
        pointer, blob = self.folder / file.name, self._blob(file)
        if self.staged(file).is_file():
            blob.parent.mkdir(exist_ok=True)
            os.replace(self.staged(file), blob)
        if not blob.is_file():
            return  # the snapshot has the file itself, where the system has no links
        pointer.parent.mkdir(parents=True, exist_ok=True)
        pointer.unlink(missing_ok=True)
        try:
            os.symlink(os.path.relpath(blob, pointer.parent), pointer)
        except OSError:  # Windows without the right to make links
            os.replace(blob, pointer)

    def finish(self, files: Sequence[RemoteFile]) -> None:
        super().finish(files)
        if self._revision != self._commit:
            ref = self.root / "refs" / self._revision
            ref.parent.mkdir(parents=True, exist_ok=True)
            _write(ref, self._commit)

    def _blob(self, file: RemoteFile) -> Path:
        return self.root / "blobs" / file.digest


def bytes_collected(root: Path) -> int:
    """Bytes that an unfinished download in `root` has on the disk."""
    folder = root / UNFINISHED
    return sum(file.stat().st_size for file in folder.iterdir() if file.name != JOURNAL) if folder.is_dir() else 0


def _write(file: Path, text: str) -> None:
    temporary = file.with_name(f"{file.name}.tmp")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, file)
