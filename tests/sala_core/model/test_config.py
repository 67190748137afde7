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
        "use_nope": False, "dense_len": 8192,
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


WRITTEN_BY_TRANSFORMERS = {
    "_name_or_path": "x", "architectures": ["MiniCPMSALAForCausalLM"], "attention_dropout": 0.0,
    "auto_map": {"AutoConfig": "configuration_minicpm_sala.MiniCPMSALAConfig"}, "bos_token_id": 1,
    "chunk_size_feed_forward": 0, "dtype": "bfloat16", "id2label": {"0": "LABEL_0"}, "initializer_range": 0.1,
    "is_encoder_decoder": False, "label2id": {"LABEL_0": 0}, "output_attentions": False,
    "output_hidden_states": False, "pad_token_id": 2, "pretraining_tp": 1, "problem_type": None, "rand_init": False,
    "return_dict": True, "shift_labels": True, "transformers_version": "5.24.0", "use_cache": True,
    "sliding_window": None, "quantization_config": None, "a_key_that_is_not_set": None,
}  # fmt: skip
"""The keys without effect of the released config.json, and what `to_dict` and `save_pretrained` add to it."""


def test_keys_without_effect_change_nothing():
    assert SalaConfig.from_dict(RELEASED | WRITTEN_BY_TRANSFORMERS) == SalaConfig.from_dict(RELEASED)


@pytest.mark.parametrize("name", ["rope_parameters", "rope_scaling"])
def test_the_rotary_base_is_found_where_transformers_5_writes_it(name):
    theta = 500000.0
    raw = without("rope_theta", "rope_scaling") | {name: {"rope_theta": theta, "rope_type": "default"}}
    assert SalaConfig.from_dict(raw).rope_theta == theta
    assert SalaConfig.from_dict(raw | {"rope_theta": theta}).rope_theta == theta
    assert SalaConfig.from_dict(without("rope_theta") | {"rope_parameters": {"type": "default"}}).rope_theta == 10000.0
    with pytest.raises(ConfigError, match=rf"rope_theta 10000\.0, {name}\.rope_theta 500000\.0"):
        SalaConfig.from_dict(raw | {"rope_theta": 10000.0})


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
        ({"attention_bias": True}, "attention_bias True is not supported, only False"),
        ({"hidden_act": "gelu"}, "hidden_act 'gelu' is not supported, only 'silu'"),
        ({"rope_parameters": {"rope_type": "yarn", "factor": 4.0}}, "rope_parameters .*yarn.* is not supported"),
        ({"rope_parameters": {"rope_type": "default", "factor": 2.0}}, "rope_parameters .*factor.* is not supported"),
        ({"rope_parameters": {"partial_rotary_factor": 0.5}}, "partial_rotary_factor.* is not supported"),
        ({"rope_parameters": {"full_attention": {"rope_theta": 1e4}}}, "rope_parameters .*full_attention"),
        ({"rope_parameters": 10000.0}, "rope_parameters must be an object"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor 0.5 is not supported, only 1.0"),
        ({"lightning_layerwise_decay": True}, "lightning_layerwise_decay True is not supported, only False"),
        ({"mlp_bias": True}, "mlp_bias True is not supported, only False"),
        ({"attention_bias": 0}, "attention_bias 0 is not supported, only False"),
        ({"sliding_window": 4096}, "sliding_window 4096 is not supported, only null"),
        ({"num_experts": 8, "logit_cap": 30.0}, "2 key.* does not know, 'logit_cap', 'num_experts'.*remove them"),
        ({"sparse_config": {"use_rope": True}}, "sparse_config has 1 key.*'use_rope'"),
        ({"sparse_config": {"use_nope": "false"}}, "sparse_config: use_nope must be true or false, found 'false'"),
        ({"sparse_config": None}, "sparse_config is null, which asks for full attention"),
        ({"qk_norm": "true"}, "qk_norm must be true or false, found 'true'"),
        ({"attn_use_rope": 0}, "attn_use_rope must be true or false, found 0"),
        ({"scale_emb": "12"}, "scale_emb must be a positive number, found '12'"),
        ({"rope_theta": -1.0}, "rope_theta must be a positive number, found -1.0"),
        ({"rms_norm_eps": 0}, "rms_norm_eps must be a positive number, found 0"),
        ({"lightning_scale": 0.5}, "lightning_scale must be text .* found 0.5"),
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
