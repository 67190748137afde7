"""Initial weights for hybrids without a backbone: random, with a copying circuit of induction heads wired by hand.

Small models hardly learn such a circuit from random weights.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from sala_core.errors import TrainError
from sala_core.train.network.network import LightningMixer, Network, SoftmaxMixer

_EMBEDDING_STD, _CONSTANT = 0.05, 0.15
_OUTPUT_GAIN = 0.3  # of matrices that write to the residual stream, times the fan-in scale
_SHARPNESS = 1.4  # norm weight or gain of q and k: the larger, the sharper the match
_QUERY_ANGLE, _KEY_ANGLE = -1.5, 0.0  # radians: after rotary, the key one token back is nearest to the query


@torch.no_grad()
def initialize_copying(network: Network, generator: torch.Generator) -> None:
    """Set random weights, scaled by fan-in, and the copying circuit. In place.

    Two heads of layer 1 write the previous tokens into the residual stream; the softmax layers after it attend to keys
    whose previous tokens match the query, and copy their token. Raises TrainError if the architecture cannot hold it.
    """
    previous_token_mixer, induction_mixers = _circuit_mixers(network)
    for name, parameter in network.named_parameters():
        if parameter.ndim == 1:
            parameter.fill_(1.0)
        else:
            nn.init.normal_(parameter, std=parameter.shape[1] ** -0.5, generator=generator)
        if name.endswith(("o_proj.weight", "down_proj.weight")):
            parameter.mul_(_OUTPUT_GAIN)
    embedding = network.model.embed_tokens.weight
    embedding.mul_(_EMBEDDING_STD / embedding.std())
    embedding[:, 0] = _CONSTANT
    if network.lm_head is not None:
        network.lm_head.weight.copy_(embedding)  # so a copied embedding gives the logit of its token
    config = network.config
    width = min(2 * previous_token_mixer.head_dim, config.head_dim)
    reads, writes = (_orthogonal(width, config.hidden_size, generator) for _ in range(2))
    _set_previous_token_heads(previous_token_mixer, reads, writes)
    for mixer in induction_mixers:
        _set_induction_heads(mixer, reads, writes, config.num_attention_heads, config.num_key_value_heads, generator)


def _circuit_mixers(network: Network) -> tuple[LightningMixer, list[SoftmaxMixer]]:
    """The lightning mixer of layer 1 and the softmax mixers after it. Raises TrainError if either is missing."""
    mixers, config = [layer.self_attn for layer in network.layers], network.config
    previous_token_mixer = mixers[1] if len(mixers) > 1 else None
    if not isinstance(previous_token_mixer, LightningMixer):
        raise TrainError('begin = "copying" needs lightning attention in layer 1; give another hybrid.placement')
    induction_mixers = [mixer for mixer in mixers[2:] if isinstance(mixer, SoftmaxMixer)]
    if not induction_mixers:
        raise TrainError('begin = "copying" needs a softmax layer after layer 1; give another hybrid.placement')
    if config.lightning_nkv != config.lightning_nh or config.lightning_nh < 2 or not config.lightning_use_rope:
        raise TrainError(
            'begin = "copying" needs two lightning heads or more, each with its own key and value, and rotary; '
            f"found lightning_nh {config.lightning_nh}, lightning_nkv {config.lightning_nkv}, rotary "
            f"{config.lightning_use_rope}"
        )
    return previous_token_mixer, induction_mixers


def _set_previous_token_heads(mixer: LightningMixer, reads: Tensor, writes: Tensor) -> None:
    """Make the two heads with the fastest decay copy the token one and two positions back, from `reads` to `writes`.

    q and k get the constant channel of the embedding in their fastest rotary pair, at angles that give lags 1 and 2
    the weight and the token itself hardly any. reads, writes: [width, D], orthonormal rows.
    """
    d, width = mixer.head_dim, len(reads)
    for head in range(2):
        for weight, angle in ((mixer.q_proj.weight, _QUERY_ANGLE), (mixer.k_proj.weight, _KEY_ANGLE)):
            weight[head * d : (head + 1) * d] *= 0.3
            weight[head * d, 0] = 2 * math.cos(angle)
            weight[head * d + d // 2, 0] = 2 * math.sin(angle)
    mixer.v_proj.weight[:width] = reads
    mixer.o_proj.weight[:, :width] = 2 * writes.T


def _set_induction_heads(
    mixer: SoftmaxMixer, reads: Tensor, writes: Tensor, heads: int, kv_heads: int, generator: torch.Generator
) -> None:
    """Attend to tokens that follow an earlier occurrence of the query's token, and copy them to the output."""
    d, D = mixer.head_dim, reads.shape[1]
    q, k = (torch.zeros(d, D) for _ in range(2))
    q[: len(reads)], k[: len(writes)] = reads, writes
    gain = 1.0 if mixer.q_norm is not None else _SHARPNESS
    mixer.q_proj.weight.copy_(gain * q.repeat(heads, 1))
    mixer.k_proj.weight.copy_(gain * k.repeat(kv_heads, 1))
    for norm in (mixer.q_norm, mixer.k_norm):
        if norm is not None:
            norm.weight.fill_(_SHARPNESS)
    values = _orthogonal(kv_heads * d, D, generator)
    mixer.v_proj.weight.copy_(values)
    outputs = values.unflatten(0, (kv_heads, -1)).repeat_interleave(heads // kv_heads, 0).flatten(0, 1)
    mixer.o_proj.weight.copy_(outputs.T)


def _orthogonal(rows: int, columns: int, generator: torch.Generator) -> Tensor:
    return nn.init.orthogonal_(torch.empty(rows, columns), generator=generator)
