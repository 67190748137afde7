"""The released 9B model, without its weights: the published config.json gives the published names, shapes and size."""

import pytest
import torch

from sala_core.model.checkpoint import expected_shapes
from sala_core.model.config import SalaConfig, SparseConfig
from sala_core.model.forward import SalaModel

SPARSE = (0, 9, 16, 17, 22, 29, 30, 31)
PUBLISHED = {
    "architectures": ["MiniCPMSALAForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "attn_use_output_gate": True,
    "attn_use_rope": False,
    "auto_map": {
        "AutoConfig": "configuration_minicpm_sala.MiniCPMSALAConfig",
        "AutoModel": "modeling_minicpm_sala.MiniCPMSALAModel",
        "AutoModelForCausalLM": "modeling_minicpm_sala.MiniCPMSALAForCausalLM",
    },
    "bos_token_id": 1,
    "dim_model_base": 256,
    "dtype": "bfloat16",
    "eos_token_id": [2, 73440],
    "head_dim": 128,
    "hidden_act": "silu",
    "hidden_size": 4096,
    "initializer_range": 0.1,
    "intermediate_size": 16384,
    "lightning_head_dim": 128,
    "lightning_nh": 32,
    "lightning_nkv": 32,
    "lightning_scale": "1/sqrt(d)",
    "lightning_use_rope": True,
    "max_position_embeddings": 524288,
    "mixer_types": ["minicpm4" if layer in SPARSE else "lightning-attn" for layer in range(32)],
    "model_type": "minicpm_sala",
    "mup_denominator": 32,
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "num_key_value_heads": 2,
    "pad_token_id": 2,
    "pretraining_tp": 1,
    "qk_norm": True,
    "rms_norm_eps": 1e-06,
    "rope_scaling": None,
    "rope_theta": 10000.0,
    "scale_depth": 1.4,
    "scale_emb": 12,
    "shift_labels": True,
    "sparse_config": {
        "block_size": 64,
        "dense_len": 8192,
        "init_blocks": 1,
        "kernel_size": 32,
        "kernel_stride": 16,
        "topk": 64,
        "use_nope": False,
        "window_size": 2048,
    },
    "tie_word_embeddings": False,
    "transformers_version": "4.57.1",
    "use_cache": True,
    "use_output_gate": True,
    "use_output_norm": True,
    "vocab_size": 73448,
}


def published_shapes() -> dict[str, tuple[int, ...]]:
    """Names and shapes of the released checkpoint, written out by layer."""
    D, F, V, heads, kv_heads, d = 4096, 16384, 73448, 32, 2, 128
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (V, D), "model.norm.weight": (D,)}
    shapes["lm_head.weight"] = (V, D)
    for layer in range(32):
        at = f"model.layers.{layer}."
        keys = (kv_heads if layer in SPARSE else heads) * d
        shapes |= {f"{at}{norm}_layernorm.weight": (D,) for norm in ("input", "post_attention")}
        shapes |= {f"{at}self_attn.q_proj.weight": (heads * d, D), f"{at}self_attn.o_proj.weight": (D, heads * d)}
        shapes |= {f"{at}self_attn.{name}_proj.weight": (keys, D) for name in "kv"}
        shapes |= {f"{at}mlp.{name}_proj.weight": (F, D) for name in ("gate", "up")}
        shapes[f"{at}mlp.down_proj.weight"] = (D, F)
        if layer in SPARSE:
            shapes[f"{at}self_attn.o_gate.weight"] = (heads * d, D)
        else:
            shapes |= {f"{at}self_attn.{name}_norm.weight": (d,) for name in "qk"}
            shapes[f"{at}self_attn.o_norm.weight"] = (heads * d,)
            shapes[f"{at}self_attn.z_proj.weight"] = (heads * d, D)
    return shapes


@pytest.fixture(scope="module")
def config() -> SalaConfig:
    return SalaConfig.from_dict(PUBLISHED)


def test_every_value_of_the_published_config_is_the_one_that_is_computed(config):
    for name in set(PUBLISHED) & set(SalaConfig.__dataclass_fields__) - {"sparse_config", "mixer_types"}:
        value = getattr(config, name)
        assert (list(value) if isinstance(value, tuple) else value) == PUBLISHED[name], name
    assert config.sparse_config == SparseConfig(**PUBLISHED["sparse_config"])
    assert config.sparse_layers == SPARSE
    assert config.residual_scale == pytest.approx(1.4 / 32**0.5)
    assert config.logit_scale == pytest.approx(1 / 16)
    assert config.lightning_query_scale == pytest.approx(128**-0.5)


def test_the_model_has_the_395_tensors_of_the_checkpoint_and_its_size(config):
    shapes = expected_shapes(config)
    assert shapes == published_shapes()
    assert len(shapes) == 395
    weights = {name: torch.empty(shape, dtype=torch.bfloat16, device="meta") for name, shape in shapes.items()}
    assert sum(weight.numel() for weight in weights.values()) == 9_477_203_968
    assert sum(weight.nbytes for weight in weights.values()) == 18_954_407_936


def test_a_chunk_has_the_right_shapes_through_the_whole_model(config):
    """Shapes only: tensors of the meta device have no numbers."""
    weights = {
        name: torch.empty(shape, dtype=torch.bfloat16, device="meta") for name, shape in expected_shapes(config).items()
    }
    model = SalaModel(config, weights, backend="reference")
    state = model.new_state()
    hidden = model.prefill(state, torch.zeros(200, dtype=torch.int64, device="meta"))
    assert hidden.shape == (200, 4096)
    assert model.logits(hidden[-1:]).shape == (1, 73448)
    assert state.position == 200
    linear = [state.linear[layer] for layer in config.lightning_layers]
    assert {tuple(each.shape) for each in linear} == {(32, 128, 128)}
    assert sum(each.nbytes for each in linear) == 50_331_648
