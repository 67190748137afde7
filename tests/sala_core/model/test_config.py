"""Parsing of `config.json`: values, defaults, and the reason for every refusal."""

import dataclasses

import pytest

from sala_core.errors import ConfigError
from sala_core.model.config import SalaConfig, SparseConfig

RELEASED = {
    "model_type": "minicpm_sala", "vocab_size": 73448, "hidden_size": 4096, "intermediate_size": 16384,
    "num_hidden_layers": 4, "mixer_types": ["minicpm4", "lightning-attn", "lightning", "lightning_attn"],
    "num_attention_heads": 32, "num_key_value_heads": 2, "head_dim": 128,
    "lightning_nh": 32, "lightning_nkv": 32, "lightning_head_dim": 128, "lightning_scale": "1/sqrt(d)",
    "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "rope_scaling": None, "scale_emb": 12, "scale_depth": 1.4,
    "dim_model_base": 256, "mup_denominator": 32, "attention_bias": False, "hidden_act": "silu",
    "eos_token_id": [2, 73440], "tie_word_embeddings": False, "architectures": ["MiniCPMSALAForCausalLM"],
    "sparse_config": {
        "kernel_size": 32, "kernel_stride": 16, "init_blocks": 1, "block_size": 64, "window_size": 2048, "topk": 64,
        "use_nope": False, "dense_len": 8192, "something_newer": 1,
    },
}  # fmt: skip


def without(*names):
    return {name: value for name, value in RELEASED.items() if name not in names}


def test_the_config_of_the_released_model_is_parsed():
    config = SalaConfig.from_dict(RELEASED)
    assert config.mixer_types == ("minicpm4", "lightning-attn", "lightning-attn", "lightning-attn")
    assert (config.sparse_layers, config.lightning_layers) == ((0,), (1, 2, 3))
    assert config.eos_token_id == (2, 73440)
    assert config.residual_scale == pytest.approx(1.4 / 2)
    assert config.logit_scale == pytest.approx(1 / 16)
    sparse = config.sparse_config
    assert (sparse.local_blocks, sparse.num_selected_blocks) == (33, 96)
    assert (sparse.coarse_size, sparse.coarse_stride) == (128, 64)


@pytest.mark.parametrize(("text", "scale"), [("1/sqrt(d)", 128**-0.5), ("1/d", 1 / 128), ("none", 1.0), ("", 1.0)])
def test_lightning_scale(text, scale):
    config = SalaConfig.from_dict(RELEASED | {"lightning_scale": text})
    assert config.lightning_query_scale == pytest.approx(scale)


def test_absent_and_null_keys_take_their_defaults():
    config = SalaConfig.from_dict(without("head_dim", "sparse_config", "eos_token_id") | {"scale_depth": None})
    assert config.head_dim == 128
    assert config.sparse_config == SparseConfig()
    assert config.eos_token_id == (2,)
    assert config.scale_depth == 1.4


def test_a_single_eos_token_becomes_a_tuple():
    assert SalaConfig.from_dict(RELEASED | {"eos_token_id": 7}).eos_token_id == (7,)


def test_configs_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        SalaConfig.from_dict(RELEASED).hidden_size = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"model_type": "llama"}, "model_type is 'llama'.*minicpm_sala"),
        ({"mixer_types": ["minicpm4", "mamba", "lightning", "lightning"]}, "unknown 'mamba'; known: .*lightning"),
        ({"mixer_types": ["minicpm4", ["x"], "lightning", "lightning"]}, r"unknown \['x'\]"),
        ({"mixer_types": ["minicpm4"]}, "names 1 layers, num_hidden_layers is 4"),
        ({"mixer_types": None}, "names 0 layers"),
        ({"rope_scaling": {"type": "longrope"}}, "rope_scaling .*longrope.* is not supported"),
        ({"attention_bias": True}, "attention_bias true is not supported"),
        ({"hidden_act": "gelu"}, "hidden_act 'gelu' is not supported, only 'silu'"),
        ({"num_key_value_heads": 5}, "num_attention_heads 32 is not a multiple of num_key_value_heads 5"),
        ({"lightning_nkv": 24}, "lightning_nh 32 is not a multiple of lightning_nkv 24"),
        ({"lightning_head_dim": 7}, "lightning_head_dim 7 must be even"),
        ({"attn_use_rope": True, "head_dim": 7}, "head_dim 7 must be even"),
        ({"num_key_value_heads": 0}, "num_key_value_heads must be a whole number, 1 or more, found 0"),
        ({"hidden_size": "4096"}, "hidden_size must be a whole number, 1 or more, found '4096'"),
        ({"vocab_size": -1}, "vocab_size must be a whole number, 1 or more, found -1"),
        ({"hidden_size": None}, "incomplete.*hidden_size"),
        ({"hidden_size": None, "head_dim": None}, "incomplete.*hidden_size"),
        ({"lightning_nh": None}, "incomplete.*lightning_nh"),
        ({"sparse_config": [1]}, r"sparse_config must be an object, found \[1\]"),
    ],
)
def test_unsupported_or_invalid_values_are_refused_with_the_reason(change, reason):
    with pytest.raises(ConfigError, match=reason):
        SalaConfig.from_dict(RELEASED | change)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"window_size": 100}, "window_size 100 must be a multiple of block_size 64"),
        ({"window_size": -64}, "window_size must be a whole number, 0 or more, found -64"),
        ({"kernel_size": 48}, "kernel_size 48 must be twice kernel_stride 16"),
        ({"kernel_stride": 0}, "kernel_stride must be a whole number, 1 or more, found 0"),
        ({"block_size": 72}, "block_size 72 must be a multiple of kernel_stride 16"),
        ({"topk": 1}, "topk 1 leaves no room for init_blocks 1"),
        ({"topk": "64"}, "topk must be a whole number, 0 or more, found '64'"),
    ],
)
def test_inconsistent_block_sizes_are_refused(change, reason):
    with pytest.raises(ConfigError, match=f"sparse_config: {reason}"):
        SalaConfig.from_dict(RELEASED | {"sparse_config": RELEASED["sparse_config"] | change})


def test_block_scores_without_rotary_are_refused_where_attention_uses_rotary():
    with pytest.raises(ConfigError, match="use_nope"):
        SalaConfig.from_dict(RELEASED | {"attn_use_rope": True, "sparse_config": {"use_nope": True}})
