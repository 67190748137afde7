"""Write the finished folder: safetensors files, the settings that readers look for, and copies of the other files.

`config.json` is written last: without it, no program takes the folder for a model.
"""

import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sala_core.model.checkpoint import expected_shapes
from sala_core.quantize.plan import Plan
from sala_core.quantize.report import REPORT_FILE
from sala_core.quantize.settings import QuantizeSettings
from sala_core.quantize.source import Source
from sala_core.quantize.work import PART_SUFFIX, WorkFolder, read_tensors, total_bytes, write_bytes, write_tensors

_NOT_COPIED = {"config.json", "quantize_config.json", "README.md", REPORT_FILE}
_COPIED_SUFFIXES = {".json", ".jinja", ".model", ".py", ".txt"}
_LICENSES = ("LICENSE", "LICENCE", "NOTICE", "COPYING")
_VERSION = "0.1.0"


class Exporter:
    """Writes one quantized model: `stage` writes the weights, `commit` the settings, and `config.json` last."""

    def __init__(self, source: Source, settings: QuantizeSettings, plan: Plan, work: WorkFolder) -> None:
        """Prepare the export.

        Args:
            source: the original model; tensors that are left alone are copied from it.
            settings: layout, format and size of a shard.
            plan: which modules are quantized.
            work: the work folder with all finished layers; its parent is the destination.
        """
        self.source, self.settings, self.plan, self.work = source, settings, plan, work

    def stage(self, head: Mapping[str, Tensor]) -> int:
        """Write the weights; return their bytes. head: the packed tensors of lm_head, empty if it is left alone."""
        shards = _Shards(self.work.target, self._file_name, self.settings.max_shard_bytes)
        for tensors in self._parts(head):
            shards.add(tensors)
        return shards.close()

    def commit(self, report: Mapping[str, Any]) -> None:
        """Copy the other files, write settings, report and `config.json`; then delete the work folder."""
        target, quantization = self.work.target, quantization_config(self.settings, self.plan)
        for file in self._files_to_copy():
            write_bytes(target / file.name, file.read_bytes())
        self.work.write_json(target / "quantize_config.json", quantization)
        self.work.write_json(target / REPORT_FILE, report)
        self.work.write_json(target / "config.json", {**self.source.raw, "quantization_config": quantization})
        self.work.remove()

    def _parts(self, head: Mapping[str, Tensor]) -> Iterator[dict[str, Tensor]]:
        """Yield all tensors in the order of the forward pass, about one layer at a time."""
        yield self._original("model.embed_tokens.weight")
        for index in range(self.source.config.num_hidden_layers):
            tensors = read_tensors(self.work.layer_file(index))
            yield {**tensors, **self._biases(tensors)}
        yield self._original("model.norm.weight")
        if head:
            yield {**head, **self._biases(head)}
        elif "lm_head.weight" in expected_shapes(self.source.config):
            yield self._original("lm_head.weight")

    def _original(self, name: str) -> dict[str, Tensor]:
        return {name: self.source.tensor(name)}

    def _biases(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Zero biases: AutoGPTQ's loader expects one for every packed matrix, although this family has none."""
        if self.settings.layout != "autogptq":
            return {}
        return {
            name.removesuffix("scales") + "bias": torch.zeros(tensor.shape[1], dtype=torch.float16)
            for name, tensor in tensors.items()
            if name.endswith(".scales")
        }

    def _file_name(self, shard: str) -> str:
        """Name of a file of weights. shard: what distinguishes it: `-00001-of-00002`, or empty for a single file."""
        return f"{weights_stem(self.settings)}{shard}.safetensors"

    def _files_to_copy(self) -> list[Path]:
        """Tokenizer, chat template, generation settings, code and licenses; no weights and no index of weights."""
        return [
            file
            for file in sorted(self.source.folder.iterdir())
            if file.is_file()
            and not file.name.startswith(".")
            and file.name not in _NOT_COPIED
            and not file.name.endswith(".index.json")
            and (file.suffix in _COPIED_SUFFIXES or file.name.upper().startswith(_LICENSES))
        ]


def weights_stem(settings: QuantizeSettings) -> str:
    """Return the name of the weights file without `.safetensors`, as GPTQModel or AutoGPTQ chooses it."""
    if settings.layout == "gptqmodel":
        return "model"
    return f"gptq_model-{settings.bits}bit-{settings.group_size}g"


def quantization_config(settings: QuantizeSettings, plan: Plan) -> dict[str, Any]:
    """Return the content of `quantize_config.json`, which is also `quantization_config` in `config.json`.

    It has the fields that readers of the layout (GPTQModel or AutoGPTQ) know.
    """
    common: dict[str, Any] = {
        "bits": settings.bits,
        "group_size": settings.group_size,
        "desc_act": settings.desc_act,
        "sym": settings.sym,
        "lm_head": "lm_head" in plan.quantized,
        "quant_method": "gptq",
        "checkpoint_format": settings.checkpoint_format,
        "dynamic": plan.patterns(),
    }
    if settings.layout == "autogptq":
        return {
            **common,
            "damp_percent": settings.damping,
            "static_groups": settings.act_order and not settings.desc_act,
            "true_sequential": True,
            "model_name_or_path": None,
            "model_file_base_name": weights_stem(settings),
            "is_marlin_format": False,
        }
    return {
        **common,
        "method": "gptq",
        "format": settings.checkpoint_format,
        "pack_dtype": "int32",
        "meta": {
            "quantizer": [f"sala-desktop:{_VERSION}"],
            "damp_percent": settings.damping,
            "static_groups": settings.act_order and not settings.desc_act,
            "true_sequential": True,
        },
    }


class _Shards:
    """Writes a model to files of limited size. They are named at the end, when their number is known."""

    def __init__(self, folder: Path, name: Callable[[str], str], limit_bytes: int) -> None:
        self._folder, self._name, self._limit = folder, name, limit_bytes
        self._pending: dict[str, Tensor] = {}
        self._written: list[tuple[Path, list[str]]] = []
        self._total = 0

    def add(self, tensors: Mapping[str, Tensor]) -> None:
        """Add tensors to the next file. If they do not fit, first write the file without them."""
        if self._pending and total_bytes(self._pending) + total_bytes(tensors) > self._limit:
            self._flush()
        self._pending |= tensors

    def close(self) -> int:
        """Write the rest, name the files, and write the index if there are several. Returns the tensors' bytes."""
        self._flush()
        for old in (*self._folder.glob(self._name("*")), *self._folder.glob("*.safetensors.index.json")):
            old.unlink()
        count = len(self._written)
        weight_map: dict[str, str] = {}
        for number, (file, names) in enumerate(self._written, 1):
            final = self._name("" if count == 1 else f"-{number:05d}-of-{count:05d}")
            os.replace(file, self._folder / final)
            weight_map |= dict.fromkeys(names, final)
        if count > 1:
            index = {"metadata": {"total_size": self._total}, "weight_map": dict(sorted(weight_map.items()))}
            text = json.dumps(index, indent=2) + "\n"
            write_bytes(self._folder / (self._name("") + ".index.json"), text.encode())
        return self._total

    def _flush(self) -> None:
        file = self._folder / f".shard-{len(self._written):05d}{PART_SUFFIX}"
        write_tensors(file, self._pending, {})
        self._total += total_bytes(self._pending)
        self._written.append((file, list(self._pending)))
        self._pending = {}
