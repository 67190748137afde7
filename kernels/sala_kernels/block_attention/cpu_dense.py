"""The CPU path of `sala_kernels.block_attention` for few queries that attend to very many keys.

The reference converts all keys to float32 and holds all scores: 0.9 GB for 16 queries of the embedded model and a
million keys. Here a piece of the keys at a time is computed, which stays in the processor's cache. Where the
probabilities themselves are wanted, a second pass over the keys computes the scores again: that takes less time than
writing them to memory.
"""

from collections.abc import Iterator
from math import log

import torch
from torch import Tensor

from sala_kernels.block_attention import reference
from sala_kernels.kv_quantization.rows import QuantizedRows

MIN_KEYS = 1 << 15
"""Fewer keys are computed by the reference, at once."""

_KEYS_AT_ONCE = 1 << 13
_LOG2_E = 1 / log(2)  # for exp2, which a CPU computes in a third of the time of exp


def block_attention(
    q: Tensor,
    k: Tensor | QuantizedRows,
    v: Tensor | QuantizedRows,
    *,
    position: int,
    scale: float,
    mass: Tensor | None = None,
) -> Tensor:
    """Compute dense `sala_kernels.block_attention.block_attention`.

    Args:
        q, k, v, scale, mass: as there.
        position: as there, a number.
    """
    T, H, d = q.shape
    kv_heads = k.shape[0]
    dtype = torch.float64 if q.dtype == torch.float64 else torch.float32
    queries = (q.to(dtype) * (scale * _LOG2_E)).view(T, kv_heads, -1, d).transpose(0, 1).reshape(kv_heads, -1, d)
    top = queries.new_full(queries.shape[:2], -torch.inf)
    total = torch.zeros_like(top)
    out = queries.new_zeros(*queries.shape[:2], v.shape[-1])
    for scores, start, stop in _scores(queries, k, T, position + T):
        higher = torch.maximum(top, scores.amax(-1))
        weights = scores.sub_(higher[..., None]).exp2_()
        factor = (top - higher).exp2_()
        total = total.mul_(factor).add_(weights.sum(-1))
        top = higher
        if mass is None:
            out.mul_(factor[..., None]).add_(_weighted(weights, v, start, stop))
    if mass is None:
        out /= total[..., None]
    else:
        for scores, start, stop in _scores(queries, k, T, position + T):
            share = scores.sub_(top[..., None]).exp2_().div_(total[..., None])
            out += _weighted(share, v, start, stop)
            _add_mass(mass[..., start:stop], share.view(kv_heads, T, -1, stop - start))
    return out.view(kv_heads, T, H // kv_heads, -1).transpose(0, 1).reshape(T, H, -1).to(q.dtype)


def _scores(
    queries: Tensor, k: Tensor | QuantizedRows, num_queries: int, num_keys: int
) -> Iterator[tuple[Tensor, int, int]]:
    """Scores [kv heads, T * G, keys] of the keys start ... stop - 1, piece by piece, and start and stop.

    queries: [kv heads, T * G, d], scaled. The last T keys are those of the queries; a query sees none after its own.
    """
    start = 0
    while start < num_keys:
        stop = start + _KEYS_AT_ONCE
        if stop + num_queries > num_keys:  # the queries' own keys stay together
            stop = num_keys
        keys = reference.rows_in(k, [(start, stop)])
        scores = torch.bmm(queries, keys.to(queries.dtype).transpose(1, 2))
        if stop == num_keys:
            reference.hide_future(scores.view(len(scores), num_queries, -1, stop - start), num_queries)
        yield scores, start, stop
        start = stop


def _add_mass(mass: Tensor, share: Tensor) -> None:
    """Add probabilities [kv heads, T, G, keys] to `mass`, [keys] or [T, keys], in place.

    Head by head, because a sum over two dimensions that are not the last takes ten times as long.
    """
    for of_kv_head in share:
        for of_head in of_kv_head.unbind(1):
            mass += of_head if mass.dim() == 2 else of_head.sum(0)


def _weighted(weights: Tensor, v: Tensor | QuantizedRows, start: int, stop: int) -> Tensor:
    values = reference.rows_in(v, [(start, stop)])
    return torch.bmm(weights.to(values.dtype), values).to(weights.dtype)
