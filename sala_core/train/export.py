"""Write a trained network as a model folder in Hugging Face layout."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path

import torch
from torch import Tensor

from sala_core.model.checkpoint import expected_shapes
from sala_core.model.config import SalaConfig
from sala_core.train.files import split_shards, write_json, write_tensors

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "special_tokens_map.json")


def config_json(config: SalaConfig, dtype: str = "float32") -> dict[str, object]:
    """Return the content of `config.json` with the field names of published models of the family."""
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
    """Write weights, config and tokenizer files. Raises DiskFullError, LibraryError.

    Each file is written whole or not at all, config.json last: without it the folder is not recognized as a model.

    Args:
        target: the model folder; weights in it are replaced.
        config: of the model.
        tensors: by checkpoint name.
        tokenizer: folder whose tokenizer files are copied.
        dtype: of the written weights.
        max_file_bytes: larger models are written in several files with an index.
    """
    target.mkdir(parents=True, exist_ok=True)
    (target / "config.json").unlink(missing_ok=True)
    for old in (*target.glob("model*.safetensors"), *target.glob("*.safetensors.index.json")):
        old.unlink()
    torch_dtype = getattr(torch, dtype)
    shards = list(
        split_shards({name: tensors[name].detach().to(torch_dtype) for name in expected_shapes(config)}, max_file_bytes)
    )
    weight_map = {}
    for number, shard in enumerate(shards, 1):
        name = "model.safetensors" if len(shards) == 1 else f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        write_tensors(target / name, shard, {"format": "pt"})
        weight_map.update(dict.fromkeys(shard, name))
    if len(shards) > 1:
        write_json(target / "model.safetensors.index.json", {"metadata": {}, "weight_map": weight_map})
    for name in TOKENIZER_FILES:
        if (tokenizer / name).is_file():
            shutil.copyfile(tokenizer / name, target / name)
    ids = {"eos_token_id": list(config.eos_token_id), "pad_token_id": config.bos_token_id}
    write_json(target / "generation_config.json", {"do_sample": False, **ids})
    write_json(target / "config.json", config_json(config, dtype))
