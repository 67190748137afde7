"""The model to quantize, read tensor by tensor from its files. The whole model is never in memory."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from sala_core.errors import CheckpointError, QuantizeError
from sala_core.model.checkpoint import (
    expected_shapes,
    load_config_json,
    load_gptq_config,
    resolve_model,
    weight_files,
)
from sala_core.model.config import SalaConfig
from sala_core.quantize.plan import layer_prefix

EMBEDDING = "model.embed_tokens.weight"


@dataclass(frozen=True, kw_only=True)
class Source:
    """A model folder with unquantized weights. raw: `config.json`. files: tensor name -> file that holds it."""

    folder: Path
    raw: Mapping[str, Any]
    config: SalaConfig
    files: Mapping[str, Path]

    @classmethod
    def open(cls, name_or_path: str | Path) -> "Source":
        """Find the model and check names and shapes of its tensors, without reading their data.

        Raises ModelError and its subclasses; QuantizeError if the model is quantized already.
        """
        folder = resolve_model(name_or_path)
        raw = load_config_json(folder)
        config = SalaConfig.from_dict(raw)
        if load_gptq_config(folder) is not None or "quantization_config" in raw:
            raise QuantizeError(f"{name_or_path} is quantized already; start from its original weights")
        files, shapes = _headers(weight_files(folder))
        for name, shape in expected_shapes(config).items():
            if shapes.get(name) != shape:
                raise CheckpointError(
                    f"{name} has shape {shapes.get(name)} where config.json asks for {shape}; "
                    f"the weights and config.json of {folder} do not belong together"
                )
        return cls(folder=folder, raw=raw, config=config, files=files)

    def tensor(self, name: str) -> Tensor:
        """Return a copy of one tensor, on the CPU as stored. Raises CheckpointError."""
        with self._reader(name) as reader:
            return reader.get_tensor(name).clone()

    def rows(self, name: str, index: Tensor) -> Tensor:
        """Return rows `index` [n] int64 of a matrix; only these are read from disk. Raises CheckpointError."""
        with self._reader(name) as reader:
            return reader.get_tensor(name)[index]

    def layer(self, index: int) -> dict[str, Tensor]:
        """Return the tensors of one layer, names without its prefix: `mlp.up_proj.weight`. Raises CheckpointError."""
        prefix = layer_prefix(index)
        names = [name for name in expected_shapes(self.config) if name.startswith(prefix)]
        return {name.removeprefix(prefix): self.tensor(name) for name in names}

    @property
    def num_bytes(self) -> int:
        """Size of the files with weights."""
        return sum(path.stat().st_size for path in set(self.files.values()))

    @property
    def head_name(self) -> str:
        """Name of the matrix that computes logits."""
        return EMBEDDING if self.config.tie_word_embeddings else "lm_head.weight"

    def identity(self) -> dict[str, Any]:
        """Return what changes whenever the model changes: its config, and names, sizes and times of its files."""
        digest = hashlib.sha256(json.dumps(self.raw, sort_keys=True).encode()).hexdigest()
        files = [(path.name, path.stat()) for path in sorted(set(self.files.values()))]
        return {"config": digest, "files": [[name, status.st_size, status.st_mtime_ns] for name, status in files]}

    @contextmanager
    def _reader(self, name: str) -> Iterator[Any]:
        """The open file that holds a tensor, memory-mapped. Raises CheckpointError also for what the block reads."""
        try:
            with safe_open(str(self.files[name]), framework="pt") as reader:
                yield reader
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{name} cannot be read from {self.files[name]} ({error})") from error


def _headers(paths: list[Path]) -> tuple[dict[str, Path], dict[str, tuple[int, ...]]]:
    """(file, shape) of every tensor in the files, by its name. Raises CheckpointError."""
    files: dict[str, Path] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    for path in paths:
        try:
            with safe_open(str(path), framework="pt") as reader:
                for name in reader.keys():  # noqa: SIM118 - a reader is not a mapping
                    files[name], shapes[name] = path, tuple(reader.get_slice(name).get_shape())
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{path} is damaged or cut short ({error}); download it again") from error
    return files, shapes
