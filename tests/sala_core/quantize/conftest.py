"""Small models of the family with the embedded model's tokenizer, and texts to quantize them with."""

import json
import random
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from sala_core.model.checkpoint import EMBEDDED, expected_shapes, resolve_model
from sala_core.model.config import SalaConfig

TINY = {
    "model_type": "minicpm_sala", "vocab_size": 8192, "hidden_size": 64, "intermediate_size": 96,
    "num_hidden_layers": 3, "mixer_types": ["lightning-attn", "minicpm4", "lightning-attn"],
    "num_attention_heads": 4, "num_key_value_heads": 1, "head_dim": 16,
    "lightning_nh": 4, "lightning_nkv": 2, "lightning_head_dim": 16, "dim_model_base": 64, "dtype": "float32",
    "eos_token_id": [2, 0],
    "sparse_config": {
        "kernel_size": 32, "kernel_stride": 16, "init_blocks": 1, "block_size": 64, "window_size": 128, "topk": 4,
    },
}  # fmt: skip


@pytest.fixture(autouse=True)
def _few_threads(one_thread):
    """The matrices are too small for several threads."""


def write_model(folder: Path, seed: int = 0, **changes: object) -> Path:
    """A random model whose matrices have directions of different magnitude, like trained ones."""
    folder.mkdir(parents=True)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json"):
        shutil.copy(resolve_model(EMBEDDED) / name, folder)
    raw = TINY | changes
    (folder / "config.json").write_text(json.dumps(raw), encoding="utf-8")
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for name, shape in expected_shapes(SalaConfig.from_dict(raw)).items():
        noise = torch.randn(shape, generator=generator)
        if len(shape) == 1:
            weights[name] = 1 + 0.3 * noise
        else:
            weights[name] = noise * shape[1] ** -0.5 * torch.logspace(0.3, -0.7, shape[1])
    weights["model.embed_tokens.weight"] *= 2.0
    save_file(weights, folder / "model.safetensors")
    return folder


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of three layers."""
    return write_model(tmp_path_factory.mktemp("quantize") / "tiny")


def write_text(file: Path, seed: int, num_words: int) -> Path:
    """Write random words, some of them far more frequent than others."""
    rng = random.Random(seed)
    words = ["the", "of", "and", "to", "in", "river", "stone", "ferry", "light", "north", "winter", "copper", "letter"]
    lines = [" ".join(rng.choices(words, weights=range(len(words), 0, -1), k=12)) for _ in range(num_words // 12)]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(lines), encoding="utf-8")
    return file


@pytest.fixture(scope="session")
def texts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Path]]:
    """`calibration` and `held_out`, as `quantize` takes them."""
    folder = tmp_path_factory.mktemp("texts")
    return {
        "calibration": [write_text(folder / "seen.txt", 1, 3000)],
        "held_out": [write_text(folder / "unseen.txt", 2, 900)],
    }
