"""The work folder inside the destination: one file a layer, and what the texts have become so far.

A killed run goes on at the layer it was in. A file is whole or absent; the destination has no `config.json` until
everything else is there, so nothing takes it for a model before.
"""

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from safetensors import SafetensorError, safe_open
from torch import Tensor

from sala_core.disk.files import TEMPORARY_SUFFIX, format_bytes, publish, stage_file
from sala_core.disk.safetensors import encode_tensors
from sala_core.errors import DiskFullError, LibraryError, QuantizeError
from sala_core.quantize.source import Source

FOLDER = ".quantizing"
PART_SUFFIX = ".part"
LEFTOVERS = (f".*{TEMPORARY_SUFFIX}", f".*{PART_SUFFIX}")
"""Files that a killed process was writing."""
_SETTINGS = "settings.json"


class WorkFolder:
    """`DST/.quantizing`, held by one process at a time; a context manager."""

    def __init__(self, target: Path) -> None:
        self.target, self.folder = target, target / FOLDER
        self._lock = FileLock(str(target / f"{FOLDER}.lock"))

    def __enter__(self) -> "WorkFolder":
        """Make and hold it. Raises QuantizeError where the destination holds something else, or is in use."""
        if (self.target / "config.json").exists():
            raise QuantizeError(f"{self.target} holds a model already; give another folder, or delete it")
        strange = self._strangers()
        if strange:
            raise QuantizeError(f"{self.target} is not empty ({strange[0]} is there); give a new folder")
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

    def _strangers(self) -> list[str]:
        """Entries of the destination that no earlier run of ours left: without a work folder, any."""
        if not self.target.exists():
            return []
        if not self.target.is_dir():
            raise QuantizeError(f"{self.target} is a file; give a folder")
        names = sorted(entry.name for entry in self.target.iterdir())
        return [] if FOLDER in names else [name for name in names if name != f"{FOLDER}.lock"]

    def claim(self, settings: Mapping[str, Any], *, restart: bool) -> bool:
        """Bind the folder to these settings; whether an earlier run with the same ones left work to go on with.

        restart: throw away what is there. Raises QuantizeError where it was left by a run with other settings.
        """
        file = self.folder / _SETTINGS
        wanted = json.loads(json.dumps(settings))
        if restart:
            self._clear()
        try:
            found = json.loads(file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            found = None
        except (OSError, ValueError):
            found = {}
        if found is None:
            self._clear()
            self.write_json(file, wanted)
            return False
        if found != wanted:
            other = sorted(key for key in {*found, *wanted} if found.get(key) != wanted.get(key))
            raise QuantizeError(
                f"{self.target} holds an unfinished run with other settings ({', '.join(other)}); repeat it as it was, "
                "or add --restart to throw its work away"
            )
        return True

    def _clear(self) -> None:
        for entry in self.folder.iterdir():
            entry.unlink()

    def done_layers(self) -> int:
        """Layers whose file and following texts are there."""
        layers = [int(path.stem.split("-")[1]) for path in self.folder.glob("texts-*.safetensors")]
        return max((n for n in layers if all(self.layer_file(i).exists() for i in range(n))), default=0)

    def layer_file(self, index: int) -> Path:
        """The finished tensors of a layer, by their full names."""
        return self.folder / f"layer-{index:05d}.safetensors"

    @property
    def head_file(self) -> Path:
        """The quantized lm_head."""
        return self.folder / "head.safetensors"

    def save_layer(self, index: int, tensors: Mapping[str, Tensor], report: Mapping[str, Any]) -> None:
        """Write a layer's file. Raises DiskFullError, LibraryError."""
        write_tensors(self.layer_file(index), tensors, {"report": json.dumps(report)})

    def save_texts(self, index: int, tensors: Mapping[str, Tensor]) -> None:
        """Write the residual streams before layer `index`, then drop the earlier ones."""
        write_tensors(self._texts_file(index), tensors, {})
        if index:
            self._texts_file(index - 1).unlink(missing_ok=True)

    def load_texts(self, index: int) -> dict[str, Tensor]:
        """The residual streams before layer `index`, copies. Raises QuantizeError."""
        return read_tensors(self._texts_file(index))[0]

    def report(self, index: int) -> dict[str, Any]:
        """What was measured in a layer that is done."""
        with safe_open(str(self.layer_file(index)), framework="pt") as reader:
            return dict(json.loads((reader.metadata() or {})["report"]))

    def _texts_file(self, index: int) -> Path:
        return self.folder / f"texts-{index:05d}.safetensors"

    def write_json(self, file: Path, content: Mapping[str, Any]) -> None:
        """Write one JSON object, whole or not at all."""
        write_bytes(file, (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode())

    def remove(self) -> None:
        """Delete the folder; its work is in the destination."""
        shutil.rmtree(self.folder)


def check_space(source: Source, target: Path, needed_bytes: int) -> None:
    """Raise DiskFullError before hours of work rather than after them."""
    free = shutil.disk_usage(target).free
    if needed_bytes > free:
        raise DiskFullError(
            f"quantizing {source.folder.name} needs up to {format_bytes(needed_bytes)} in {target} and "
            f"{format_bytes(free)} is free; free some, or choose a folder on another disk"
        )


def write_tensors(file: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file, whole or not at all. Raises DiskFullError, LibraryError."""
    _write(file, encode_tensors(tensors, {"format": "pt", **metadata}))


def write_bytes(file: Path, data: bytes) -> None:
    """Write a file, whole or not at all. Raises DiskFullError, LibraryError."""
    _write(file, [memoryview(data)])


def _write(file: Path, pieces: Any) -> None:
    try:
        with stage_file(file, pieces) as staged:
            os.chmod(staged.path, 0o644)
            publish([staged])
    except DiskFullError as error:
        free = format_bytes(shutil.disk_usage(file.parent).free)
        raise DiskFullError(
            f"the disk is full: {file.name} could not be written, {free} is free in {file.parent}; "
            "make room and run the same command again, it goes on where it stopped"
        ) from error
    except LibraryError as error:
        raise QuantizeError(str(error)) from error


def read_tensors(file: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a file of ours, copies. Raises QuantizeError."""
    try:
        with safe_open(str(file), framework="pt") as reader:
            tensors = {name: reader.get_tensor(name).clone() for name in reader.keys()}  # noqa: SIM118
            return tensors, dict(reader.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise QuantizeError(f"{file} is damaged ({error}); run again with --restart") from error


def total_bytes(tensors: Mapping[str, Tensor]) -> int:
    """Bytes of all tensors."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
