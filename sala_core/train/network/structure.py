"""From backbone to hybrid: the config at each step and the conversion of weights (HALO, arXiv:2601.22156)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from sala_core.errors import TrainError
from sala_core.model.checkpoint import expected_shapes
from sala_core.model.config import MixerType, SalaConfig, SparseConfig
from sala_core.train.recipe import Hybrid, Recipe

DENSE = SparseConfig(topk=(1 << 21) // 64, window_size=0)
"""Selects as many blocks as two million tokens have, so a softmax layer attends to everything."""
_SOFTMAX: MixerType = "minicpm4"
_LIGHTNING: MixerType = "lightning-attn"


def backbone_config(recipe: Recipe) -> SalaConfig:
    """Return the config of a full-attention Transformer as MiniCPM-4, with the sizes of the recipe's [model]."""
    model = recipe.model
    layers = model.get("num_hidden_layers")
    if not isinstance(layers, int) or layers < 1:
        raise TrainError(f"[model] num_hidden_layers must be a whole number, found {layers!r}")
    heads = model.get("num_attention_heads", 1)
    head_dim = model.get("head_dim") or model.get("hidden_size", 0) // heads
    defaults = {
        "model_type": "minicpm_sala",
        "mixer_types": [_SOFTMAX] * layers,
        "attn_use_rope": True,
        "attn_use_output_gate": False,
        "head_dim": head_dim,
        "lightning_nh": heads,
        "lightning_nkv": heads,
        "lightning_head_dim": head_dim,
    }
    return replace(SalaConfig.from_dict({**defaults, **model}), sparse_config=DENSE)


def scratch_config(recipe: Recipe) -> SalaConfig:
    """Return the config of the finished hybrid, to train it from scratch. Keys of [model] override all others."""
    base = backbone_config(recipe)
    config = hybrid_config(base, recipe.hybrid, place_layers(recipe.hybrid, base.num_hidden_layers, scores=None))
    return replace(config, **{name: getattr(base, name) for name in recipe.model})


def place_layers(hybrid: Hybrid, num_layers: int, scores: Sequence[float] | None) -> tuple[int, ...]:
    """Return the layers that stay softmax, ascending. Raises TrainError.

    scores: of every layer, required for the placements `importance` and `worst`. With these, the first and the last
    layer always stay softmax.
    """
    placement, count = hybrid.placement, max(2, round(hybrid.softmax_share * num_layers))
    if not isinstance(placement, str):
        chosen = tuple(sorted(set(placement)))
        if not chosen or chosen[0] < 0 or chosen[-1] >= num_layers:
            raise TrainError(f"hybrid.placement {placement} must list layers from 0 to {num_layers - 1}")
        return chosen
    if placement == "even":
        return tuple(sorted({round(i * (num_layers - 1) / (count - 1)) for i in range(count)}))
    if scores is None:
        raise TrainError(
            f"placement {placement!r} needs the stage [select]; add it, or give 'even' or a list of layers"
        )
    sign = -1 if placement == "importance" else 1
    inner = sorted(range(1, num_layers - 1), key=lambda i: (sign * scores[i], i))
    return tuple(sorted({0, num_layers - 1, *inner[: count - 2]}))


def hybrid_config(base: SalaConfig, hybrid: Hybrid, softmax_layers: Sequence[int]) -> SalaConfig:
    """Return `base` with lightning attention in all layers except `softmax_layers`, and the settings of `hybrid`."""
    kinds = [_SOFTMAX if i in softmax_layers else _LIGHTNING for i in range(base.num_hidden_layers)]
    return replace(
        base,
        mixer_types=tuple(kinds),
        attn_use_rope=hybrid.rotary == "everywhere",
        lightning_use_rope=hybrid.rotary != "none",
        attn_use_output_gate=hybrid.output_gates,
        use_output_gate=hybrid.output_gates,
        use_output_norm=hybrid.output_norm,
        qk_norm=hybrid.qk_norm,
        lightning_nh=base.num_attention_heads,
        lightning_nkv=base.num_attention_heads,
        lightning_head_dim=base.head_dim,
        sparse_config=hybrid.sparse_config,
    )


def convert_tensors(
    backbone: Mapping[str, Tensor], config: SalaConfig, aligned: Mapping[str, Tensor] | None = None
) -> dict[str, Tensor]:
    """Return the tensors of the hybrid `config`, by checkpoint name. Raises TrainError for shapes that do not fit.

    New output gates have zero weights: sigmoid(0) halves the output, so the output matrix is doubled.

    backbone: tensors of the full-attention model, matrices [out, in].
    aligned: tensors with trained lightning mixers. If None, lightning mixers start from the softmax mixers: q and o
    are copied, k and v repeated for all heads, norms copied or set to 1.
    """
    repeats = config.num_attention_heads // config.num_key_value_heads
    tensors = {}
    for name, shape in expected_shapes(config).items():
        prefix, part = name.rsplit(".", 2)[0], name.split(".")[-2]
        layer = int(name.split(".")[2]) if name.startswith("model.layers.") else -1
        lightning = layer >= 0 and config.mixer_types[layer] == _LIGHTNING and ".self_attn." in name
        if lightning and aligned is not None:
            tensor = aligned[name]
        elif part in ("o_gate", "z_proj"):
            tensor = torch.zeros(shape)
        elif name not in backbone:
            tensor = torch.ones(shape)
        elif lightning and part in ("k_proj", "v_proj"):
            heads = backbone[name].unflatten(0, (config.num_key_value_heads, -1))
            tensor = heads.repeat_interleave(repeats, 0).flatten(0, 1)
        else:
            gate = f"{prefix}.{'z_proj' if lightning else 'o_gate'}.weight"
            gated = config.use_output_gate if lightning else config.attn_use_output_gate
            doubled = part == "o_proj" and gated and gate not in backbone
            tensor = backbone[name] * 2 if doubled else backbone[name].clone()
        if tensor.shape != shape:
            raise TrainError(f"{name} is {list(tensor.shape)} where the hybrid needs {list(shape)}")
        tensors[name] = tensor
    return tensors
