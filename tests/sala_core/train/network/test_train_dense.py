"""Converted dense models compute the same as in transformers."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from sala_core.engine.engine import Engine
from sala_core.errors import ConfigError, ModelError
from sala_core.train.network.dense import convert
from sala_core.train.run import load_network

SIZES = {
    "vocab_size": 130, "hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "rms_norm_eps": 1e-5, "max_position_embeddings": 512, "head_dim": 16,
}  # fmt: skip


def dense_model(family, **changes):
    from transformers import LlamaConfig, LlamaForCausalLM, Qwen3Config, Qwen3ForCausalLM

    kinds = {"llama": (LlamaConfig, LlamaForCausalLM), "qwen3": (Qwen3Config, Qwen3ForCausalLM)}
    torch.manual_seed(0)
    config, model = kinds[family]
    dense = model(config(**{**SIZES, "attn_implementation": "eager", **changes})).eval()
    with torch.no_grad():
        for parameter in dense.parameters():
            noise = torch.randn_like(parameter)
            parameter.copy_(1 + 0.2 * noise if parameter.ndim == 1 else noise * parameter.shape[1] ** -0.5)
    return dense


@pytest.mark.parametrize(
    ("family", "changes"),
    [
        ("llama", {}),
        ("llama", {"tie_word_embeddings": True, "rope_parameters": {"rope_theta": 5e5, "rope_type": "default"}}),
        ("qwen3", {}),
        ("qwen3", {"tie_word_embeddings": True, "num_key_value_heads": 4}),
    ],
)
def test_the_backbone_gives_transformers_logits(tmp_path, family, changes):
    dense = dense_model(family, **changes)
    dense.save_pretrained(tmp_path / "dense")
    convert(tmp_path / "dense", tmp_path / "backbone")
    ids = torch.randint(130, (1, 70))
    network = load_network(tmp_path / "backbone")
    engine = Engine.load(tmp_path / "backbone", dtype="float32")
    with torch.no_grad():
        expected = dense(ids).logits
        torch.testing.assert_close(network.logits(ids), expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(engine.forward(engine.new_state(), ids[0]), expected[0], rtol=1e-4, atol=1e-4)


def test_minicpm_keeps_its_mup_scalings(tmp_path):
    """A Llama with the scalings folded into its matrices is the same function as MiniCPM with them in its config."""
    llama = dense_model("llama")
    llama.save_pretrained(tmp_path / "dense")
    file = tmp_path / "dense" / "model.safetensors"
    tensors, residual = load_file(file), 1.4 / 3**0.5
    tensors["model.embed_tokens.weight"] /= 12
    tensors["lm_head.weight"] *= 48 / 16
    for name in tensors:
        if name.endswith(("o_proj.weight", "down_proj.weight")):
            tensors[name] /= residual
    save_file(tensors, file, {"format": "pt"})
    config = json.loads((tmp_path / "dense" / "config.json").read_text())
    config |= {"model_type": "minicpm", "scale_emb": 12, "scale_depth": 1.4, "dim_model_base": 16}
    (tmp_path / "dense" / "config.json").write_text(json.dumps(config))
    convert(tmp_path / "dense", tmp_path / "backbone")
    ids = torch.randint(130, (1, 40))
    with torch.no_grad():
        logits = load_network(tmp_path / "backbone").logits(ids)
        torch.testing.assert_close(logits, llama(ids).logits, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"model_type": "gpt2"}, "gpt2"),
        ({"rope_parameters": {"rope_type": "llama3", "rope_theta": 1e4}}, "llama3"),
        ({"attention_bias": True}, "attention_bias"),
        ({"use_sliding_window": True}, "sliding window"),
        ({"num_key_value_heads": 1}, "do not fit"),
    ],
)
def test_models_that_cannot_be_computed_exactly_are_refused(tmp_path, changes, word):
    dense_model("llama").save_pretrained(tmp_path / "dense")
    file = tmp_path / "dense" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    with pytest.raises(ModelError, match=word):
        convert(tmp_path / "dense", tmp_path / "backbone")
    assert not (tmp_path / "backbone").exists()


def test_a_folder_that_is_not_empty_is_refused(tmp_path):
    dense_model("llama").save_pretrained(tmp_path / "dense")
    with pytest.raises(ModelError, match="not empty"):
        convert(tmp_path / "dense", tmp_path / "dense")
    assert issubclass(ConfigError, ModelError)
