"""Softmax attention of every query over its own blocks of keys (InfLLM-V2, arXiv:2509.24663), or over all before it."""

from functools import partial

import torch
from torch import Tensor

from sala_kernels.backend import Backend, use_triton
from sala_kernels.block_attention import cpu, reference
from sala_kernels.blocks import BlockLayout
from sala_kernels.kv_quantization import QuantizedRows
from sala_kernels.positions import MAX_TOKENS, Position, check_position

__all__ = ["add_key_mass", "block_attention"]


def block_attention(
    q: Tensor,
    k: Tensor | QuantizedRows,
    v: Tensor | QuantizedRows,
    chosen: Tensor | None,
    *,
    position: Position,
    scale: float,
    layout: BlockLayout,
    mass: Tensor | None = None,
    backend: Backend = "auto",
) -> Tensor:
    """Causal attention over the first, the chosen and the local blocks.

    q: [T, H, d], the queries at `position` ...; k: [kv heads, n, d]; v: [kv heads, n, dv], n >= position + T, either
    of them quantized or not.
    chosen: [kv heads, T, slots] from `choose_blocks`; -1 in empty slots. None makes attention dense, as it is for
    queries with at most `layout.max_blocks` blocks up to their own, whatever `chosen` holds for them.
    mass: [n] fp32 or None; if given, each key's attention probability, summed over queries and heads, is added to it
    in place. Or [T, n], for each query's own, summed over heads; of dense attention and T <= 16 only.
    position: a number, or int64 [1] on the device for at most 16 tokens; k, v and mass may then hold more rows, of any
    values, as they may anyway.
    Returns [T, H, dv] in q's dtype. Scores and softmax are float32 (float64 for float64): scores of some hundreds, as
    small models make them, mean nothing once rounded to bfloat16. Probabilities are rounded before they weigh the
    values, to v's dtype (Triton: to q's where v is quantized).
    Triton only: heads of at most 256 numbers, at most 128 query heads a kv head, k and v of q's dtype or quantized,
    scale > 0; raises ValueError for others. The same inputs give the same bits, but for `mass` (atomic additions).
    """
    check_position(position, q.shape[0], q.device)
    by_query = mass is not None and mass.dim() == 2
    if by_query and (chosen is not None or q.shape[0] > MAX_TOKENS):
        raise ValueError(f"each query's own mass is of dense attention and at most {MAX_TOKENS} queries")
    if use_triton(backend, q, *_stored(k), *_stored(v), chosen, mass):
        if mass is not None and by_query:
            one = partial(block_attention, scale=scale, layout=layout, backend=backend)
            alone = [one(q[t : t + 1], k, v, None, position=position + t, mass=mass[t]) for t in range(len(q))]
            return torch.cat(alone)
        from sala_kernels.block_attention import kernels

        return kernels.block_attention(q, k, v, chosen, position=position, scale=scale, layout=layout, mass=mass)
    plain = reference if backend == "reference" or q.shape[0] <= MAX_TOKENS else cpu
    return plain.block_attention(q, k, v, chosen, position=int(position), scale=scale, layout=layout, mass=mass)


def add_key_mass(
    q: Tensor,
    k: Tensor | QuantizedRows,
    chosen: Tensor | None,
    mass: Tensor,
    *,
    position: Position,
    count: Position,
    scale: float,
    layout: BlockLayout,
    backend: Backend = "auto",
) -> None:
    """Add every key's attention probability, summed over heads and the first `count` of T <= 16 queries, to `mass`.

    As `block_attention` does for all its queries: q [T, H, d], k [kv heads, n, d], chosen [kv heads, T, slots] or None,
    position, scale and layout are what it was given. mass: [n] fp32, changed in place by atomic additions.
    count: how many queries are meant, a number from 0 to T, or int64 [1] on the device.
    Raises ValueError as `block_attention`, and for more than 16 queries.
    """
    T = q.shape[0]
    check_position(position, T, q.device)
    check_position(count, T, q.device)
    if T > MAX_TOKENS:
        raise ValueError(f"{T} queries were given; at most {MAX_TOKENS} are taken")
    if isinstance(count, int) and not 0 <= count <= T:
        raise ValueError(f"{count} of {T} queries were asked for")
    if use_triton(backend, q, *_stored(k), chosen, mass):
        from sala_kernels.block_attention import kernels

        kernels.add_key_mass(q, k, chosen, mass, position=position, count=count, scale=scale, layout=layout)
    else:
        reference.add_key_mass(q, k, chosen, mass, position=int(position), count=int(count), scale=scale, layout=layout)


def _stored(x: Tensor | QuantizedRows) -> tuple[Tensor, ...]:
    return (x.data, x.scale) if isinstance(x, QuantizedRows) else (x,)
