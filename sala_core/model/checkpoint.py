"""Loading of weights from a folder in Hugging Face layout: safetensors, sharded or not, plain or GPTQ. No pickles."""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from sala_kernels import Int4Weight
from torch import Tensor

from sala_core.assets import ASSETS
from sala_core.errors import CheckpointError, ConfigError, ModelError
from sala_core.model.config import SalaConfig
from sala_core.model.gptq import GPTQConfig, PackedMatrix, dequantize, to_int4, zero_point_format
from sala_core.model.hub_cache import cached_model, refuse_unfinished
from sala_core.model.packing import Packing, packing_for

EMBEDDED = "embedded"
_REPOSITORY = re.compile(r"[\w][\w.-]*/[\w][\w.-]*(@[\w][\w./-]*)?")
_FLOATS = {"F64", "F32", "F16", "BF16"}
_PACKED_PARTS = ("qweight", "qzeros", "scales", "g_idx")
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")


@dataclass(frozen=True, kw_only=True)
class _StoredTensor:
    """One tensor of a file, as the file's header describes it."""

    file: Path
    dtype: str  # as safetensors spells it: "BF16"
    shape: tuple[int, ...]


def resolve_model(name_or_path: str | Path) -> Path:
    """Find a model's folder, given a path, "embedded", or "org/name" for a model in the Hugging Face cache.

    "org/name@revision" is a revision that was downloaded. Downloads nothing. Raises ModelError, which says how to get
    the model, or how to finish its download.
    """
    name = str(name_or_path)
    if name == EMBEDDED:
        folder = ASSETS / EMBEDDED
        if not (folder / "config.json").is_file():
            raise ModelError(f"the embedded model is missing: {folder} has no config.json; restore that folder")
        return folder
    folder = Path(name_or_path).expanduser()
    if folder.is_dir():
        refuse_unfinished(folder)
        return folder
    if _REPOSITORY.fullmatch(name):
        return cached_model(name)
    raise ModelError(f"there is no model {name!r}: give a folder, {EMBEDDED!r}, or a name like 'org/model'")


def load_config_json(folder: Path) -> dict[str, Any]:
    """`config.json` of a model folder. Raises ConfigError if it is missing or not a JSON object."""
    config = _read_json(folder / "config.json", ConfigError)
    if config is None:
        raise ConfigError(f"{folder} has no config.json, so it is not a model folder")
    return config


def load_generation_config(folder: Path) -> dict[str, Any]:
    """`generation_config.json` of a model folder; {} without one. Raises ConfigError if it is not a JSON object."""
    return _read_json(folder / "generation_config.json", ConfigError) or {}


def load_gptq_config(folder: Path) -> GPTQConfig | None:
    """GPTQ settings of a model folder; None for plain weights. Raises CheckpointError for unsupported settings."""
    raw = load_config_json(folder).get("quantization_config")
    if raw is None:
        raw = _read_json(folder / "quantize_config.json", CheckpointError)
    if raw is None:
        return None
    if not isinstance(raw, dict):
        raise CheckpointError(f"quantization_config of {folder} must be an object, found {raw!r}")
    return GPTQConfig.from_dict(raw)


def expected_shapes(config: SalaConfig) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor the model needs, in the order of the forward pass."""
    D, F = config.hidden_size, config.intermediate_size
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (config.vocab_size, D)}
    for layer, mixer in enumerate(config.mixer_types):
        prefix = f"model.layers.{layer}."
        mixer_shapes = _lightning_shapes(config) if mixer.startswith("lightning") else _sparse_shapes(config)
        shapes[prefix + "input_layernorm.weight"] = (D,)
        shapes.update({f"{prefix}self_attn.{name}.weight": shape for name, shape in mixer_shapes.items()})
        shapes[prefix + "post_attention_layernorm.weight"] = (D,)
        shapes[prefix + "mlp.gate_proj.weight"] = (F, D)
        shapes[prefix + "mlp.up_proj.weight"] = (F, D)
        shapes[prefix + "mlp.down_proj.weight"] = (D, F)
    shapes["model.norm.weight"] = (D,)
    if not config.tie_word_embeddings:
        shapes["lm_head.weight"] = (config.vocab_size, D)
    return shapes


def _sparse_shapes(config: SalaConfig) -> dict[str, tuple[int, ...]]:
    D, d = config.hidden_size, config.head_dim
    num_q, num_kv = config.num_attention_heads * d, config.num_key_value_heads * d
    shapes: dict[str, tuple[int, ...]] = {
        "q_proj": (num_q, D), "k_proj": (num_kv, D), "v_proj": (num_kv, D), "o_proj": (D, num_q)
    }  # fmt: skip
    if config.attn_qk_norm:
        shapes |= {"q_norm": (d,), "k_norm": (d,)}
    if config.attn_use_output_gate:
        shapes["o_gate"] = (num_q, D)
    return shapes


def _lightning_shapes(config: SalaConfig) -> dict[str, tuple[int, ...]]:
    D, d = config.hidden_size, config.lightning_head_dim
    num_q, num_kv = config.lightning_nh * d, config.lightning_nkv * d
    shapes: dict[str, tuple[int, ...]] = {
        "q_proj": (num_q, D), "k_proj": (num_kv, D), "v_proj": (num_kv, D), "o_proj": (D, num_q)
    }  # fmt: skip
    if config.qk_norm:
        shapes |= {"q_norm": (d,), "k_norm": (d,)}
    if config.use_output_norm:
        shapes["o_norm"] = (num_q,)
    if config.use_output_gate:
        shapes["z_proj"] = (num_q, D)
    return shapes


def load_weights(
    folder: Path,
    config: SalaConfig,
    *,
    dtype: torch.dtype,
    device: torch.device | str,
    packed: Packing | bool | None = None,
) -> dict[str, Tensor | Int4Weight]:
    """Load every tensor of `expected_shapes(config)`.

    One matrix is read at a time, so peak memory is the model and one more matrix.

    Args:
        folder: the model's folder, with `config.json`.
        config: the model's configuration.
        dtype: of the returned tensors.
        device: of the returned tensors.
        packed: keep 4-bit GPTQ matrices packed, in the layout for a card (True), or as named. None: as `packing_for`
            says. Other GPTQ matrices are always dequantized.

    Returns name -> weight; no two share memory. Raises CheckpointError for a tensor that is missing, unexpected,
    damaged or of the wrong shape, for a bias that is not zero, for zero points that do not fit the GPTQ settings, and
    for weights that exist only as pickles.
    """
    shapes = expected_shapes(config)
    packing = packing_for(shapes, torch.device(device), dtype) if packed is None else _named(packed)
    gptq = load_gptq_config(folder)
    stored = _headers(weight_files(folder))
    _check_names(folder, stored, shapes)
    _check_zero_biases(stored)
    settings = _module_settings(stored, gptq)
    weights: dict[str, Tensor | Int4Weight] = {}
    for name, shape in shapes.items():
        weight: Tensor | Int4Weight
        if name in stored:
            weight = _load_plain(name, stored[name]).to(dtype=dtype, device=device)
        else:
            weight = _load_quantized(name, stored, settings, dtype=dtype, device=device, packing=packing)
        if weight.shape != shape:
            raise CheckpointError(
                f"{name} has shape {tuple(weight.shape)} where config.json asks for {shape}; "
                f"the weights and config.json of {folder} do not belong together"
            )
        weights[name] = weight
    if config.tie_word_embeddings and "lm_head.weight" in stored:
        head = _load_plain("lm_head.weight", stored["lm_head.weight"]).to(dtype=dtype, device=device)
        embedding = weights["model.embed_tokens.weight"]
        if not isinstance(embedding, Tensor) or not torch.equal(head, embedding):
            raise CheckpointError("config.json ties lm_head to the embedding, but their weights differ")
    return weights


def weight_bytes(folder: Path, config: SalaConfig, *, dtype: torch.dtype, packed: Packing | bool | None) -> int:
    """Bytes that the weights of `load_weights` take in memory, from the headers of the files alone.

    Args:
        folder, config: as for `load_weights`.
        dtype: of the weights.
        packed: whether 4-bit GPTQ matrices stay packed, and in which layout. Dequantized to bfloat16 they take almost
            four times as much.

    Raises CheckpointError.
    """
    gptq, stored = load_gptq_config(folder), _headers(weight_files(folder))
    total = 0
    for name, shape in expected_shapes(config).items():
        module = name.removesuffix(".weight")
        settings = gptq.for_module(module) if gptq is not None and name not in stored else None
        if packed and settings is not None and settings.bits == 4 and module != "model.embed_tokens":
            parts = [entry for part in _PACKED_PARTS if (entry := stored.get(f"{module}.{part}")) is not None]
            total += sum(math.prod(entry.shape) * _packed_itemsize(entry, packed) for entry in parts)
        else:
            total += math.prod(shape) * dtype.itemsize
    return total


def _packed_itemsize(entry: _StoredTensor, packed: Packing | bool) -> int:
    """Bytes in memory for each number of a packed matrix's tensor. A CPU keeps each scale twice, once rounded."""
    itemsize = 2 if entry.dtype == "F16" else 4
    return itemsize + 4 if packed == "cpu" and len(entry.shape) == 2 and entry.dtype != "I32" else itemsize


def _named(packed: Packing | bool) -> Packing | None:
    return "card" if packed is True else packed or None


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a model, named as transformers or AutoGPTQ names them, in a fixed order.

    Raises CheckpointError if there are none, if they are ambiguous, or if a shard is missing.
    """
    for pattern in ("model.safetensors", "gptq_model-*.safetensors"):
        whole = sorted(folder.glob(pattern))
        index = sorted(folder.glob(pattern + ".index.json"))
        if len(index) == 1 and len(whole) != 1:
            return _shards(index[0])
        if len(whole) > 1:
            raise CheckpointError(f"{folder} has several models, {[file.name for file in whole]}; keep one")
        if whole:
            return whole
    pickles = sorted(file.name for pattern in _PICKLES for file in folder.glob(pattern))
    if pickles:
        raise CheckpointError(
            f"{folder} has its weights only as {pickles[0]}, a pickle, which can run any code when opened; "
            "convert it to safetensors"
        )
    raise CheckpointError(f"{folder} has no weights: neither model.safetensors nor model.safetensors.index.json")


def read_index(index: Path) -> dict[str, str]:
    """Tensor name -> file name, as the index of a sharded model has it. Raises CheckpointError for a damaged index."""
    weight_map = (_read_json(index, CheckpointError) or {}).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(f"{index} has no weight_map; download it again")
    return {str(name): str(file) for name, file in weight_map.items()}


def stored_names(file: Path) -> set[str]:
    """The names of the tensors in a safetensors file. Raises CheckpointError for a damaged or incomplete file."""
    return set(_headers([file]))


def _shards(index: Path) -> list[Path]:
    names = sorted(set(read_index(index).values()))
    for name in names:
        if Path(name).name != name or not name.endswith(".safetensors"):
            raise CheckpointError(f"{index} names {name!r}, which is not a safetensors file beside it")
        if not (index.parent / name).is_file():
            raise CheckpointError(
                f"{index.parent} lacks the shard {name}; get it with: python3 launch.py download NAME"
            )
    return [index.parent / name for name in names]


def _headers(files: list[Path]) -> dict[str, _StoredTensor]:
    stored: dict[str, _StoredTensor] = {}
    for file in files:
        try:
            with safe_open(str(file), framework="pt") as reader:
                for name in reader.keys():  # noqa: SIM118 - a reader is not a mapping
                    if name in stored:
                        raise CheckpointError(f"{name} is both in {stored[name].file.name} and in {file.name}")
                    view = reader.get_slice(name)
                    stored[name] = _StoredTensor(file=file, dtype=view.get_dtype(), shape=tuple(view.get_shape()))
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{file} is damaged or cut short ({error}); download it again") from error
    return stored


def _check_names(folder: Path, stored: Mapping[str, _StoredTensor], shapes: Mapping[str, tuple[int, ...]]) -> None:
    modules = {name.removesuffix(".weight") for name in shapes}
    missing = [n for n in shapes if n not in stored and f"{n.removesuffix('.weight')}.qweight" not in stored]
    allowed = set(shapes) | {"lm_head.weight"} if "lm_head.weight" not in shapes else set(shapes)
    parts = {f"{module}.{part}" for module in modules for part in (*_PACKED_PARTS, "bias")}
    # inv_freq follows from config.json; older writers also store it
    unexpected = [n for n in stored if n not in allowed | parts and not n.endswith("rotary_emb.inv_freq")]
    for word, names in (("lacks", missing), ("has unexpected", unexpected)):
        if names:
            raise CheckpointError(
                f"{folder} {word} {len(names)} tensor(s), {', '.join(sorted(names)[:3])} among them; "
                "its weights do not belong to its config.json"
            )


def _check_zero_biases(stored: Mapping[str, _StoredTensor]) -> None:
    """AutoGPTQ writes a zero bias for each matrix. The model has no biases, so any other bias is an error."""
    for name, entry in stored.items():
        if name.endswith(".bias") and bool(_read_tensor(name, entry).any()):
            raise CheckpointError(f"{name} is not zero, and MiniCPM-SALA has no biases; these weights do not fit")


def _read_tensor(name: str, entry: _StoredTensor) -> Tensor:
    """A copy of one tensor. The file is mapped only during the read, so that its pages do not stay in memory."""
    try:
        with safe_open(str(entry.file), framework="pt") as reader:
            return reader.get_tensor(name).clone()
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{name} cannot be read from {entry.file} ({error})") from error


def _load_plain(name: str, entry: _StoredTensor) -> Tensor:
    if entry.dtype not in _FLOATS:
        raise CheckpointError(f"{name} is stored as {entry.dtype}; supported are {', '.join(sorted(_FLOATS))}")
    return _read_tensor(name, entry)


def _module_settings(stored: Mapping[str, _StoredTensor], gptq: GPTQConfig | None) -> dict[str, GPTQConfig]:
    """The settings of each packed matrix, `checkpoint_format` being the one in which its zero points are stored.

    Raises CheckpointError for zero points that do not fit the settings, and for a file that mixes formats.
    """
    settings: dict[str, GPTQConfig] = {}
    first: dict[str, str] = {}  # format -> first symmetric matrix in it
    for name, entry in stored.items():
        module = name.removesuffix(".qzeros")
        own = gptq.for_module(module) if gptq is not None and module != name else None
        if own is None:
            continue
        if entry.dtype == "I32" and len(entry.shape) == 2:  # anything else is refused when the matrix is loaded
            try:
                found = zero_point_format(_read_tensor(name, entry), own)
            except CheckpointError as error:
                raise CheckpointError(f"{entry.file.name}: {name} {error}") from error
            if own.sym:
                first.setdefault(found, name)
            own = replace(own, checkpoint_format=found)
        settings[module] = own
    if len(first) > 1:
        raise CheckpointError(
            f"{first['gptq']} stores its zero points in format gptq, {first['gptq_v2']} in format gptq_v2; the files "
            "do not belong together; get the checkpoint again"
        )
    return settings


def _load_quantized(
    name: str,
    stored: Mapping[str, _StoredTensor],
    gptq: Mapping[str, GPTQConfig],
    *,
    dtype: torch.dtype,
    device: torch.device | str,
    packing: Packing | None,
) -> Tensor | Int4Weight:
    module = name.removesuffix(".weight")
    parts: dict[str, Tensor | None] = {}
    for part in _PACKED_PARTS:
        entry = stored.get(f"{module}.{part}")
        if entry is None and part != "g_idx":
            raise CheckpointError(f"{module}.{part} is missing beside {module}.qweight")
        parts[part] = None if entry is None else _read_tensor(f"{module}.{part}", entry).to(device)
    settings = gptq.get(module)
    if settings is None:
        raise CheckpointError(f"{module} is stored as GPTQ, but no quantization settings cover it")
    matrix = PackedMatrix(**parts)  # type: ignore[arg-type]
    try:
        # the embedding lookup needs single rows, and a packed matrix has no row access
        if packing and settings.bits == 4 and module != "model.embed_tokens":
            return to_int4(matrix, settings, packing)
        return dequantize(matrix, settings, dtype=dtype)
    except CheckpointError as error:
        raise CheckpointError(f"{module}: {error}") from error


def _read_json(file: Path, error_type: type[ModelError]) -> dict[str, Any] | None:
    """The JSON object in a file; None if the file does not exist."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise error_type(f"{file} cannot be read as JSON: {error}") from error
    if not isinstance(content, dict):
        raise error_type(f"{file} must hold a JSON object")
    return content
