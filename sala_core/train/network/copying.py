"""A beginning for hybrids without a backbone: a circuit that copies, wired by hand. Small ones hardly find it."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from sala_core.errors import TrainError
from sala_core.train.network.network import LightningMixer, Network, SoftmaxMixer

_EMBEDDING_STD, _CONSTANT = 0.05, 0.15
_OUTWARD = 0.3  # of what joins the residual stream, against the fan-in scale
_SHARPNESS = 1.4  # of the match: q and k are that large
_QUERY_TURN, _KEY_TURN = -1.5, 0.0  # radians: a key one token back is the nearest to the query


@torch.no_grad()
def begin_copying(network: Network, generator: torch.Generator) -> None:
    """Fan-in scaled weights, and in them the circuit: layer 1 carries the tokens before, softmax layers match them.

    Raises TrainError where the shape has no room for it.
    """
    carrier, matchers = _places(network)
    for name, parameter in network.named_parameters():
        if parameter.ndim == 1:
            parameter.fill_(1.0)
        else:
            nn.init.normal_(parameter, std=parameter.shape[1] ** -0.5, generator=generator)
        if name.endswith(("o_proj.weight", "down_proj.weight")):
            parameter.mul_(_OUTWARD)
    embedding = network.model.embed_tokens.weight
    embedding.mul_(_EMBEDDING_STD / embedding.std())
    embedding[:, 0] = _CONSTANT
    if network.lm_head is not None:
        network.lm_head.weight.copy_(embedding)  # a token that was copied is read off as itself
    config = network.config
    width = min(2 * carrier.head_dim, config.head_dim)
    reads, writes = (_orthogonal(width, config.hidden_size, generator) for _ in range(2))
    _carry(carrier, reads, writes)
    for mixer in matchers:
        _match(mixer, reads, writes, config.num_attention_heads, config.num_key_value_heads, generator)


def _places(network: Network) -> tuple[LightningMixer, list[SoftmaxMixer]]:
    mixers, config = [layer.self_attn for layer in network.layers], network.config
    carrier = mixers[1] if len(mixers) > 1 else None
    if not isinstance(carrier, LightningMixer):
        raise TrainError('begin = "copying" needs lightning attention in layer 1; give another hybrid.placement')
    matchers = [mixer for mixer in mixers[2:] if isinstance(mixer, SoftmaxMixer)]
    if not matchers:
        raise TrainError('begin = "copying" needs a softmax layer after layer 1; give another hybrid.placement')
    if config.lightning_nkv != config.lightning_nh or config.lightning_nh < 2 or not config.lightning_use_rope:
        raise TrainError(
            'begin = "copying" needs two lightning heads or more, each with its own key and value, and rotary in them; '
            f"found lightning_nh {config.lightning_nh}, lightning_nkv {config.lightning_nkv}, rotary "
            f"{config.lightning_use_rope}"
        )
    return carrier, matchers


def _carry(carrier: LightningMixer, reads: Tensor, writes: Tensor) -> None:
    """The two fastest-decaying heads write into `writes` what `reads` saw one and two tokens before.

    The constant of the embedding lights up the fastest rotary pair of q and k, turned so that they weigh
    lags 1 and 2 and hardly the token itself.
    """
    d, width = carrier.head_dim, len(reads)
    for head in range(2):
        for weight, turn in ((carrier.q_proj.weight, _QUERY_TURN), (carrier.k_proj.weight, _KEY_TURN)):
            weight[head * d : (head + 1) * d] *= 0.3
            weight[head * d, 0] = 2 * math.cos(turn)
            weight[head * d + d // 2, 0] = 2 * math.sin(turn)
    carrier.v_proj.weight[:width] = reads
    carrier.o_proj.weight[:, :width] = 2 * writes.T


def _match(
    mixer: SoftmaxMixer, reads: Tensor, writes: Tensor, heads: int, kv_heads: int, generator: torch.Generator
) -> None:
    """Look for the tokens before which the query's own stood, and copy the token there."""
    d, D = mixer.head_dim, reads.shape[1]
    q, k = (torch.zeros(d, D) for _ in range(2))
    q[: len(reads)], k[: len(writes)] = reads, writes
    gain = 1.0 if mixer.q_norm is not None else _SHARPNESS
    mixer.q_proj.weight.copy_(gain * q.repeat(heads, 1))
    mixer.k_proj.weight.copy_(gain * k.repeat(kv_heads, 1))
    for norm in (mixer.q_norm, mixer.k_norm):
        if norm is not None:
            norm.weight.fill_(_SHARPNESS)
    copies = _orthogonal(kv_heads * d, D, generator)
    mixer.v_proj.weight.copy_(copies)
    written = copies.unflatten(0, (kv_heads, -1)).repeat_interleave(heads // kv_heads, 0).flatten(0, 1)
    mixer.o_proj.weight.copy_(written.T)


def _orthogonal(rows: int, columns: int, generator: torch.Generator) -> Tensor:
    return nn.init.orthogonal_(torch.empty(rows, columns), generator=generator)
