"""Convert a dense checkpoint in Hugging Face layout to a backbone folder: the same weights with another config.

Llama, Qwen3 and MiniCPM have the tensor names of this family and compute the same function with the right muP scalings:
MiniCPM's own, and 1 for Llama and Qwen3.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from math import sqrt
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from sala_core.errors import CheckpointError, ConfigError, TrainError
from sala_core.model.checkpoint import expected_shapes, load_config_json, resolve_model, weight_files
from sala_core.model.config import SalaConfig
from sala_core.train.export import TOKENIZER_FILES, config_json
from sala_core.train.files import write_json
from sala_core.train.network.structure import DENSE

FAMILIES = ("llama", "qwen3", "minicpm")


def convert(source: str | Path, target: Path) -> SalaConfig:
    """Write the backbone folder `target` from a dense model; return its config.

    source: a folder, or the name of a downloaded model. Weights keep their dtype and bits. Raises ModelError for a
    missing or damaged model, ConfigError for a model that this family cannot compute exactly, TrainError if `target`
    is not empty.
    """
    folder = resolve_model(source)
    raw, files = load_config_json(folder), weight_files(folder)
    names = {name for file in files for name in _shapes(file)}
    config = dense_config({"tie_word_embeddings": "lm_head.weight" not in names, **raw})
    if (target / "config.json").exists() or (target.exists() and any(target.iterdir())):
        raise TrainError(f"{target} is not empty; give a new folder")
    _check_shapes(files, expected_shapes(config))
    target.mkdir(parents=True, exist_ok=True)
    index = list(folder.glob("*.safetensors.index.json"))
    others = [folder / name for name in (*TOKENIZER_FILES, "generation_config.json")]
    for file in (*files, *index, *others):
        if file.is_file():
            _copy(file, target / file.name)
    dtype = raw.get("dtype") or raw.get("torch_dtype") or "float32"
    write_json(target / "config.json", config_json(config, str(dtype)))
    return config


def dense_config(raw: Mapping[str, Any]) -> SalaConfig:
    """Return the full-attention config of this family that is equivalent to a dense model's `config.json`.

    Raises ConfigError if there is none.
    """
    family = raw.get("model_type")
    if family not in FAMILIES:
        raise ConfigError(f"model_type is {family!r}; types that can be converted are {', '.join(FAMILIES)}")
    layers, hidden, heads = (raw[name] for name in ("num_hidden_layers", "hidden_size", "num_attention_heads"))
    rope = raw.get("rope_parameters") or {}
    scaling = raw.get("rope_scaling") or {}
    kinds = {part.get("rope_type") or part.get("type") or "default" for part in (rope, scaling)}
    _refuse(kinds != {"default"}, f"rotary scaling {sorted(kinds - {'default'})}")
    _refuse(bool(raw.get("use_sliding_window")), "a sliding window")
    _refuse(bool(raw.get("mlp_bias")), "biases")
    _refuse(float(raw.get("partial_rotary_factor", 1.0)) != 1.0, "rotary on part of a head")
    head_dim = raw.get("head_dim") or hidden // heads
    known = ("vocab_size", "intermediate_size", "rms_norm_eps", "max_position_embeddings", "tie_word_embeddings")
    kept = {name: raw[name] for name in known if raw.get(name) is not None}
    scalings: dict[str, Any] = {"scale_emb": 1.0, "scale_depth": sqrt(layers), "dim_model_base": hidden}
    if family == "minicpm":
        scalings = {name: raw.get(name, value) for name, value in scalings.items()}
    eos, bos = raw.get("eos_token_id"), raw.get("bos_token_id")
    return SalaConfig.from_dict(
        {
            **kept,
            **scalings,
            "model_type": "minicpm_sala",
            "hidden_size": hidden,
            "num_hidden_layers": layers,
            "mixer_types": ["minicpm4"] * layers,
            "num_attention_heads": heads,
            "num_key_value_heads": raw.get("num_key_value_heads") or heads,
            "head_dim": head_dim,
            "lightning_nh": heads,
            "lightning_nkv": heads,
            "lightning_head_dim": head_dim,
            "rope_theta": rope.get("rope_theta") or raw.get("rope_theta") or 10000.0,
            "attn_use_rope": True,
            "attn_use_output_gate": False,
            "attn_qk_norm": family == "qwen3",
            "attention_bias": raw.get("attention_bias", False),
            "hidden_act": raw.get("hidden_act", "silu"),
            "eos_token_id": 2 if eos is None else eos,
            "bos_token_id": 1 if bos is None else bos,
            "sparse_config": {name: getattr(DENSE, name) for name in DENSE.__dataclass_fields__},
        }
    )


def _refuse(condition: bool, what: str) -> None:
    if condition:
        raise ConfigError(f"the model uses {what}, which this family cannot compute; convert another model")


def _shapes(file: Path) -> dict[str, tuple[int, ...]]:
    """The shape of every tensor in a file, from its header."""
    try:
        with safe_open(str(file), framework="pt") as reader:
            return {name: tuple(reader.get_slice(name).get_shape()) for name in reader.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{file} is damaged or cut short ({error}); download it again") from error


def _check_shapes(files: Sequence[Path], expected: Mapping[str, tuple[int, ...]]) -> None:
    """Raise CheckpointError if tensors are missing, have another shape, or are unknown to this family."""
    actual = {name: shape for file in files for name, shape in _shapes(file).items() if not name.endswith("inv_freq")}
    wrong = [name for name, shape in expected.items() if actual.get(name) != shape]
    wrong += sorted(set(actual) - set(expected) - {"lm_head.weight"})
    if wrong:
        raise CheckpointError(f"{len(wrong)} tensors do not fit config.json, for example {', '.join(wrong[:3])}")


def _copy(file: Path, target: Path) -> None:
    """Make a hard link if the disk allows one: weights are large, and neither file is changed in place later."""
    try:
        os.link(file.resolve(), target)
    except OSError:
        shutil.copyfile(file, target)
