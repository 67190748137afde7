"""A trained network as a folder in Hugging Face layout, that loads like any of the family."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path

import torch
from torch import Tensor

from sala_core.model.checkpoint import expected_shapes
from sala_core.model.config import SalaConfig
from sala_core.train.files import split, write_json, write_tensors

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "special_tokens_map.json")


def config_json(config: SalaConfig, dtype: str = "float32") -> dict[str, object]:
    """The fields of `config.json` as published models of the family spell them."""
    sparse = config.sparse_config
    dense_len = min(sparse.num_selected_blocks * sparse.block_size, config.max_position_embeddings)
    values = {field.name: getattr(config, field.name) for field in fields(config)}
    return {
        "architectures": ["MiniCPMSALAForCausalLM"],
        "model_type": "minicpm_sala",
        **values,
        "mixer_types": list(config.mixer_types),
        "eos_token_id": list(config.eos_token_id),
        "sparse_config": {**asdict(sparse), "dense_len": dense_len},
        "pad_token_id": config.bos_token_id,
        "hidden_act": "silu",
        "attention_bias": False,
        "attention_dropout": 0.0,
        "rope_scaling": None,
        "dtype": dtype,
        "use_cache": True,
    }


def write_model(
    target: Path,
    config: SalaConfig,
    tensors: Mapping[str, Tensor],
    *,
    tokenizer: Path,
    dtype: str = "float32",
    max_file_bytes: int = 2 << 30,
) -> None:
    """Write weights in `dtype`, config and the files of the folder `tokenizer` into `target`.

    Every file is whole or absent and config.json comes last: until then nothing takes the folder for a model.
    Raises DiskFullError, LibraryError.
    """
    target.mkdir(parents=True, exist_ok=True)
    (target / "config.json").unlink(missing_ok=True)
    for old in (*target.glob("model*.safetensors"), *target.glob("*.safetensors.index.json")):
        old.unlink()
    kind = getattr(torch, dtype)
    parts = list(split({name: tensors[name].detach().to(kind) for name in expected_shapes(config)}, max_file_bytes))
    weight_map = {}
    for number, part in enumerate(parts, 1):
        name = "model.safetensors" if len(parts) == 1 else f"model-{number:05d}-of-{len(parts):05d}.safetensors"
        write_tensors(target / name, part, {"format": "pt"})
        weight_map.update(dict.fromkeys(part, name))
    if len(parts) > 1:
        write_json(target / "model.safetensors.index.json", {"metadata": {}, "weight_map": weight_map})
    for name in TOKENIZER_FILES:
        if (tokenizer / name).is_file():
            shutil.copyfile(tokenizer / name, target / name)
    ids = {"eos_token_id": list(config.eos_token_id), "pad_token_id": config.bos_token_id}
    write_json(target / "generation_config.json", {"do_sample": False, **ids})
    write_json(target / "config.json", config_json(config, dtype))
