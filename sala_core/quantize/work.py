"""The work folder inside the destination: one file per finished layer, and the residual streams after it.

A run that was killed continues at the layer it was in. Every file is whole or absent. The destination gets its
`config.json` after everything else, so no program takes an unfinished folder for a model.
"""

import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from safetensors import SafetensorError, safe_open
from torch import Tensor

from sala_core.disk.files import READABLE_BY_ALL, TEMPORARY_SUFFIX, format_bytes, write_file
from sala_core.disk.safetensors import encode_tensors
from sala_core.errors import DiskFullError, LibraryError, QuantizeError
from sala_core.quantize.source import Source

FOLDER = ".quantizing"
PART_SUFFIX = ".part"
LEFTOVERS = (f".*{TEMPORARY_SUFFIX}", f".*{PART_SUFFIX}")
"""Patterns of the files that a killed process was writing."""
_SETTINGS = "settings.json"


class WorkFolder:
    """`DST/.quantizing`, a context manager that one process at a time can hold."""

    def __init__(self, target: Path) -> None:
        self.target, self.folder = target, target / FOLDER
        self._lock = FileLock(str(target / f"{FOLDER}.lock"))

    def __enter__(self) -> "WorkFolder":
        """Create and lock the folder. Raises QuantizeError if the destination holds other files or is in use."""
        if (self.target / "config.json").exists():
            raise QuantizeError(f"{self.target} holds a model already; give another folder, or delete it")
        foreign = self._foreign_entries()
        if foreign:
            raise QuantizeError(f"{self.target} is not empty ({foreign[0]} is there); give a new folder")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock.acquire(timeout=0)
        except Timeout as error:
            raise QuantizeError(f"another process is quantizing into {self.target}; wait for it") from error
        except OSError as error:
            raise QuantizeError(f"{self.target} cannot be written ({error.strerror}); choose another folder") from error
        for pattern in LEFTOVERS:
            for file in (*self.target.glob(pattern), *self.folder.glob(pattern)):
                file.unlink()
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.release()
        if not self.folder.exists():
            Path(self._lock.lock_file).unlink(missing_ok=True)

    def _foreign_entries(self) -> list[str]:
        """Entries of the destination that no run of ours left. If there is a work folder, all entries are ours."""
        if not self.target.exists():
            return []
        if not self.target.is_dir():
            raise QuantizeError(f"{self.target} is a file; give a folder")
        names = sorted(entry.name for entry in self.target.iterdir())
        return [] if FOLDER in names else [name for name in names if name != f"{FOLDER}.lock"]

    def claim(self, settings: Mapping[str, Any], *, restart: bool) -> bool:
        """Bind the folder to these settings; return whether an earlier run with the same ones can be continued.

        restart: delete what is there first. Raises QuantizeError if a run with other settings left the folder.
        """
        file = self.folder / _SETTINGS
        requested = json.loads(json.dumps(settings))
        if restart:
            self._clear()
        try:
            saved = json.loads(file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            saved = None
        except (OSError, ValueError):
            saved = {}
        if saved is None:
            self._clear()
            self.write_json(file, requested)
            return False
        if saved != requested:
            other = sorted(key for key in {*saved, *requested} if saved.get(key) != requested.get(key))
            raise QuantizeError(
                f"{self.target} holds an unfinished run with other settings ({', '.join(other)}); repeat it with the "
                "same settings, or add --restart to delete its work"
            )
        return True

    def _clear(self) -> None:
        for entry in self.folder.iterdir():
            entry.unlink()

    def done_layers(self) -> int:
        """Return how many layers are finished: their files and the residual streams after them are there."""
        layers = [int(path.stem.split("-")[1]) for path in self.folder.glob("texts-*.safetensors")]
        return max((n for n in layers if all(self.layer_file(i).exists() for i in range(n))), default=0)

    def layer_file(self, index: int) -> Path:
        """Return the file of a finished layer; its tensors have their full names."""
        return self.folder / f"layer-{index:05d}.safetensors"

    def save_layer(self, index: int, tensors: Mapping[str, Tensor], report: Mapping[str, Any]) -> None:
        """Write the file of a layer. Raises DiskFullError, QuantizeError."""
        write_tensors(self.layer_file(index), tensors, {"report": json.dumps(report)})

    def save_hidden(self, index: int, tensors: Mapping[str, Tensor]) -> None:
        """Write the residual streams before layer `index`, then delete the earlier ones. Raises as `save_layer`."""
        write_tensors(self._hidden_file(index), tensors, {})
        if index:
            self._hidden_file(index - 1).unlink(missing_ok=True)

    def load_hidden(self, index: int) -> dict[str, Tensor]:
        """Return the residual streams before layer `index`, as copies. Raises QuantizeError."""
        return read_tensors(self._hidden_file(index))

    def report(self, index: int) -> dict[str, Any]:
        """Return the report of a finished layer."""
        with safe_open(str(self.layer_file(index)), framework="pt") as reader:
            return dict(json.loads((reader.metadata() or {})["report"]))

    def _hidden_file(self, index: int) -> Path:
        return self.folder / f"texts-{index:05d}.safetensors"

    def write_json(self, file: Path, content: Mapping[str, Any]) -> None:
        """Write one JSON object, whole or not at all. Raises DiskFullError, QuantizeError."""
        write_bytes(file, (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode())

    def remove(self) -> None:
        """Delete the folder, once its content is in the destination."""
        shutil.rmtree(self.folder)


def check_space(source: Source, target: Path, needed_bytes: int) -> None:
    """Raise DiskFullError if the disk of `target` is too small, before hours of work instead of after them."""
    free = shutil.disk_usage(target).free
    if needed_bytes > free:
        raise DiskFullError(
            f"quantizing {source.folder.name} needs up to {format_bytes(needed_bytes)} in {target} and "
            f"{format_bytes(free)} is free; free some, or choose a folder on another disk"
        )


def write_tensors(file: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file, whole or not at all. Raises DiskFullError, QuantizeError."""
    _write(file, encode_tensors(tensors, {"format": "pt", **metadata}))


def write_bytes(file: Path, data: bytes) -> None:
    """Write a file, whole or not at all. Raises DiskFullError, QuantizeError."""
    _write(file, [memoryview(data)])


def _write(file: Path, pieces: Iterable[memoryview]) -> None:
    """Write a file in the terms of this command: errors say how the run continues."""
    try:
        write_file(file, pieces, mode=READABLE_BY_ALL)
    except DiskFullError as error:
        free = format_bytes(shutil.disk_usage(file.parent).free)
        raise DiskFullError(
            f"the disk is full: {file.name} could not be written, {free} is free in {file.parent}; "
            "make room and run the same command again; it continues where it stopped"
        ) from error
    except LibraryError as error:
        raise QuantizeError(str(error)) from error


def read_tensors(file: Path) -> dict[str, Tensor]:
    """Return all tensors of a file of the work folder, as copies. Raises QuantizeError."""
    try:
        with safe_open(str(file), framework="pt") as reader:
            return {name: reader.get_tensor(name).clone() for name in reader.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise QuantizeError(f"{file} is damaged ({error}); run again with --restart") from error


def total_bytes(tensors: Mapping[str, Tensor]) -> int:
    """Return the bytes of all tensors."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
