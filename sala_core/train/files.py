"""Files of a run, each whole or absent: tensors in safetensors, everything else in JSON."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from sala_core.disk.files import publish, stage_file
from sala_core.disk.safetensors import encode_tensors
from sala_core.errors import TrainError


def write_tensors(file: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file. Raises DiskFullError, LibraryError."""
    _write(file, encode_tensors(tensors, metadata))


def write_text(file: Path, text: str) -> None:
    """Write a text file. Raises DiskFullError, LibraryError."""
    _write(file, [memoryview(text.encode())])


def write_json(file: Path, content: Mapping[str, Any]) -> None:
    """Write one JSON object. Raises DiskFullError, LibraryError."""
    write_text(file, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def read_tensors(file: Path) -> dict[str, Tensor]:
    """All tensors of a file, on the CPU. Raises TrainError."""
    try:
        with safe_open(str(file), framework="pt") as reader:
            return {name: reader.get_tensor(name).clone() for name in reader.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise TrainError(
            f"{file} cannot be read ({error}); delete it and its step's .json to go on from an earlier one"
        ) from error


def read_json(file: Path) -> dict[str, Any]:
    """A JSON object. Raises TrainError."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise TrainError(f"{file} cannot be read ({error}); delete it") from error
    if not isinstance(content, dict):
        raise TrainError(f"{file} must hold a JSON object; delete it")
    return content


def split(tensors: Mapping[str, Tensor], limit_bytes: int) -> Iterator[dict[str, Tensor]]:
    """Tensors in files of at most `limit_bytes` each, but for single larger ones."""
    held: dict[str, Tensor] = {}
    num_bytes = 0
    for name, tensor in tensors.items():
        if held and num_bytes + tensor.nbytes > limit_bytes:
            yield held
            held, num_bytes = {}, 0
        held[name] = tensor
        num_bytes += tensor.nbytes
    yield held


def _write(file: Path, pieces: Iterable[memoryview]) -> None:
    with stage_file(file, pieces) as staged:
        os.chmod(staged.path, 0o644)
        publish([staged])
