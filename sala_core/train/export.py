"""`python -m sala_core.train.export RUN TARGET`: a trained network as a folder that loads like any of the family."""

from __future__ import annotations

import argparse
import json
import os
import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from sala_core.train.loop import phase_file
from sala_core.train.network import NetworkConfig, SalaNetwork
from sala_core.train.recipe import AVERAGED_PHASES, NETWORK

_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
END_OF_TEXT_ID, TURN_END_ID = 0, 2


def config_json(config: NetworkConfig) -> dict[str, object]:
    """The fields of `config.json` as published models of the family spell them."""
    return {
        "architectures": ["MiniCPMSALAForCausalLM"],
        "model_type": "minicpm_sala",
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "hidden_act": "silu",
        "num_hidden_layers": config.num_hidden_layers,
        "mixer_types": list(config.mixer_types),
        "num_attention_heads": config.num_attention_heads,
        "num_key_value_heads": config.num_key_value_heads,
        "head_dim": config.head_dim,
        "attention_bias": False,
        "attention_dropout": 0.0,
        "attn_use_rope": False,
        "attn_use_output_gate": True,
        "lightning_nh": config.lightning_nh,
        "lightning_nkv": config.lightning_nh,
        "lightning_head_dim": config.lightning_head_dim,
        "lightning_scale": "1/sqrt(d)",
        "lightning_use_rope": True,
        "qk_norm": True,
        "use_output_norm": True,
        "use_output_gate": True,
        "rms_norm_eps": config.rms_norm_eps,
        "rope_theta": config.rope_theta,
        "rope_scaling": None,
        "scale_emb": config.scale_emb,
        "scale_depth": config.scale_depth,
        "dim_model_base": config.dim_model_base,
        "sparse_config": {
            "kernel_size": config.kernel_size,
            "kernel_stride": config.kernel_stride,
            "init_blocks": config.init_blocks,
            "block_size": config.block_size,
            "window_size": config.window_size,
            "topk": config.topk,
            "use_nope": False,
            "dense_len": (config.topk + config.window_size // config.block_size) * config.block_size,
        },
        "tie_word_embeddings": True,
        "max_position_embeddings": 2097152,
        "bos_token_id": END_OF_TEXT_ID,
        "eos_token_id": [TURN_END_ID, END_OF_TEXT_ID],
        "pad_token_id": END_OF_TEXT_ID,
        "dtype": "float32",
        "use_cache": True,
    }


def export(network: SalaNetwork, tokenizer_folder: Path, card: str | None, target: Path) -> None:
    """Write weights (bf16), configs, tokenizer files and, if given, the model card into `target`.

    Each file is complete before it takes its name, the weights last, so a reader never sees half a file.
    """
    target.mkdir(parents=True, exist_ok=True)
    staging = target.with_name(target.name + ".new")
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir()
    for name in _TOKENIZER_FILES:
        shutil.copyfile(tokenizer_folder / name, staging / name)
    _write_json(staging / "config.json", config_json(network.config))
    sampling = {
        "do_sample": False,
        "eos_token_id": [TURN_END_ID, END_OF_TEXT_ID],
        "pad_token_id": END_OF_TEXT_ID,
    }
    _write_json(staging / "generation_config.json", sampling)
    if card is not None:
        (staging / "README.md").write_text(card, encoding="utf-8")
    weights = {name: weight.detach().to(torch.bfloat16).contiguous() for name, weight in network.state_dict().items()}
    save_file(weights, staging / "model.safetensors", metadata={"format": "pt"})
    (staging / "model.safetensors").chmod(0o644)
    for file in sorted(staging.iterdir(), key=lambda file: file.name == "model.safetensors"):
        os.replace(file, target / file.name)
    staging.rmdir()


def _write_json(file: Path, content: dict[str, object]) -> None:
    file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def average(states: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """The mean of state dicts of one network, tensor by tensor, in float32."""
    return {name: torch.stack([state[name].float() for state in states]).mean(0) for name in states[0]}


def main() -> None:
    """Average the phases that the recipe names, and export."""
    parser = argparse.ArgumentParser(prog="sala_core.train.export", description=__doc__)
    parser.add_argument("run", type=Path, help="folder of a finished run")
    parser.add_argument("target", type=Path)
    parser.add_argument("--tokenizer", type=Path, required=True, help="folder with the tokenizer's files")
    arguments = parser.parse_args()
    files = [arguments.run / phase_file(name) for name in AVERAGED_PHASES]
    network = SalaNetwork(NETWORK)
    network.load_state_dict(average([torch.load(file, weights_only=True) for file in files]))
    export(network, arguments.tokenizer, None, arguments.target)


if __name__ == "__main__":
    main()
