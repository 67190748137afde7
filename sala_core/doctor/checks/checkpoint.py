"""The model's files: every tensor that the config asks for, in whole files, with the bytes that were published."""

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open

from sala_core.doctor.checks.models import examined_model, num_parameters
from sala_core.doctor.private import is_published
from sala_core.doctor.records import Examination, Figure, Outcome, failed, ok
from sala_core.model.checkpoint import (
    EMBEDDED,
    expected_shapes,
    load_config_json,
    load_gptq_config,
    resolve_model,
    weight_files,
)
from sala_core.model.config import SalaConfig
from sala_core.model.gptq import GPTQConfig
from sala_core.model.verify import verify_model

_PACKED = (".qweight", ".qzeros", ".scales", ".g_idx")
_SHOWN = 5


@dataclass(frozen=True, kw_only=True)
class Stored:
    """One tensor as the header of a file describes it. dtype: as safetensors spells it."""

    dtype: str
    shape: tuple[int, ...]


def checkpoint(examination: Examination) -> Iterator[Outcome]:
    """The check "checkpoint". Raises ModelError for a model that is not there or another family's."""
    name = examined_model(examination)
    folder = resolve_model(name)
    config = SalaConfig.from_dict(load_config_json(folder))
    files = weight_files(folder)
    figures: dict[str, Figure] = {
        "model": name if is_published(name) else "<model>",
        "layers": f"{config.num_hidden_layers}, {len(config.sparse_layers)} of them sparse",
        "parameters by the config": num_parameters(config),
        "weight files": len(files),
        "bytes of the weight files": sum(file.stat().st_size for file in files),
    }
    stored, damaged = read_headers(files)
    figures |= {"tensors": len(stored), "numbers": _count_dtypes(stored)}
    problems = damaged or [*_index_problems(folder, files), *tensor_problems(config, stored, load_gptq_config(folder))]
    if examination.quick:
        figures["files read whole"] = "none in a quick examination"
    elif not damaged:
        problems += _wrong_files(folder, figures)
    if not problems:
        yield ok("checkpoint", figures)
        return
    more = f"; and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
    yield failed("checkpoint", "; ".join(problems[:_SHOWN]) + more, _advice(name), figures)


def _advice(name: str) -> str:
    if name == EMBEDDED:
        return "restore assets/embedded from the program's archive or repository"
    if is_published(name):
        return f"get the model again, which keeps what is whole: python3 launch.py download {name}"
    return "get or make the checkpoint again, and keep config.json and the weights of one source together"


def read_headers(files: list[Path]) -> tuple[dict[str, Stored], list[str]]:
    """(name -> tensor, what is wrong with the files). Opening a file checks that its size fits its header."""
    stored: dict[str, Stored] = {}
    problems = []
    for file in files:
        try:
            with safe_open(str(file), framework="pt") as reader:
                for name in reader.keys():  # noqa: SIM118 - a reader is not a mapping
                    if name in stored:
                        problems.append(f"{name} is stored twice, the second time in {file.name}")
                    view = reader.get_slice(name)
                    stored[name] = Stored(dtype=view.get_dtype(), shape=tuple(view.get_shape()))
        except (SafetensorError, OSError) as error:
            problems.append(f"{file.name} is damaged or cut short ({error})")
    return stored, problems


def tensor_problems(config: SalaConfig, stored: Mapping[str, Stored], gptq: GPTQConfig | None) -> list[str]:
    """Tensors that the config asks for and that are missing or of another shape, and those it does not know."""
    problems = []
    shapes = expected_shapes(config)
    for name, shape in shapes.items():
        module = name.removesuffix(".weight")
        packed = stored.get(f"{module}.qweight")
        settings = gptq.for_module(module) if gptq else None
        if name in stored:
            if stored[name].shape != shape:
                problems.append(f"{name} has shape {list(stored[name].shape)}, the config asks for {list(shape)}")
        elif packed is None or settings is None:
            problems.append(f"{name} is missing")
        elif packed.shape != (expected := (shape[1] * settings.bits // 32, shape[0])):
            problems.append(f"{module}.qweight has shape {list(packed.shape)}, the config asks for {list(expected)}")
    modules = {name.removesuffix(".weight") for name in shapes} | {"lm_head"}
    known = {module + part for module in modules for part in (".weight", ".bias", *_PACKED)}
    unknown = [name for name in stored if name not in known and not name.endswith("rotary_emb.inv_freq")]
    return problems + [f"{name} is not a tensor of this architecture" for name in unknown]


def _index_problems(folder: Path, files: list[Path]) -> list[str]:
    """Whether the shards have the bytes that their index names."""
    for index in folder.glob("*.safetensors.index.json"):
        metadata = json.loads(index.read_text(encoding="utf-8")).get("metadata") or {}
        total, found = metadata.get("total_size"), sum(file.stat().st_size for file in files)
        if isinstance(total, int) and found < total:
            return [f"the shards have {found:,} bytes, and {index.name} names {total:,}"]
    return []


def _wrong_files(folder: Path, figures: dict[str, Figure]) -> list[str]:
    """Read every byte of the model's files. Returns what is wrong, and adds to the figures what was compared."""
    checked = list(verify_model(folder))
    published = sum(check.published for check in checked)
    figures["files read whole"] = f"{len(checked)}, {published} of them with the checksum of the hub"
    return [f"{check.name}: {check.note}" for check in checked if not check.is_right]


def _count_dtypes(stored: Mapping[str, Stored]) -> str:
    """ "BF16 9,477,203,968, F32 512"."""
    counts: Counter[str] = Counter()
    for tensor in stored.values():
        counts[tensor.dtype] += math.prod(tensor.shape)
    return ", ".join(f"{dtype} {count:,}" for dtype, count in counts.most_common()) or "none"
