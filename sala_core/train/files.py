"""Files of a run: tensors in safetensors, text and JSON. Each is written whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from sala_core.disk.files import READABLE_BY_ALL, write_file
from sala_core.disk.safetensors import encode_tensors
from sala_core.errors import TrainError


def write_tensors(file: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file. Raises DiskFullError, LibraryError."""
    write_file(file, encode_tensors(tensors, metadata), mode=READABLE_BY_ALL)


def write_text(file: Path, text: str) -> None:
    """Write a text file. Raises DiskFullError, LibraryError."""
    write_file(file, [memoryview(text.encode())], mode=READABLE_BY_ALL)


def write_json(file: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON object. Raises DiskFullError, LibraryError."""
    write_text(file, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def read_tensors(file: Path) -> dict[str, Tensor]:
    """Return all tensors of a file, on the CPU. Raises TrainError."""
    try:
        with safe_open(str(file), framework="pt") as reader:
            return {name: reader.get_tensor(name).clone() for name in reader.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise TrainError(
            f"{file} cannot be read ({error}); delete it and the .json of its step to resume from an earlier checkpoint"
        ) from error


def read_json(file: Path) -> dict[str, Any]:
    """Return the JSON object of a file. Raises TrainError."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise TrainError(f"{file} cannot be read ({error}); delete it") from error
    if not isinstance(content, dict):
        raise TrainError(f"{file} must contain a JSON object; delete it")
    return content


def split_shards(tensors: Mapping[str, Tensor], limit_bytes: int) -> Iterator[dict[str, Tensor]]:
    """Yield the tensors in groups of at most `limit_bytes`. A larger tensor is a group of its own."""
    shard: dict[str, Tensor] = {}
    num_bytes = 0
    for name, tensor in tensors.items():
        if shard and num_bytes + tensor.nbytes > limit_bytes:
            yield shard
            shard, num_bytes = {}, 0
        shard[name] = tensor
        num_bytes += tensor.nbytes
    yield shard
