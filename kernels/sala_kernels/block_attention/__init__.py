"""Block-sparse softmax attention (InfLLM-V2, arXiv:2509.24663) and dense softmax attention, both causal."""

from functools import partial

import torch
from torch import Tensor

from sala_kernels.backend import Backend, use_triton
from sala_kernels.block_attention import cpu, cpu_dense, reference
from sala_kernels.block_attention.cpu import MAX_QUERIES, queries_at_once
from sala_kernels.blocks import BlockLayout
from sala_kernels.kv_quantization import QuantizedRows
from sala_kernels.positions import MAX_TOKENS, Position, check_position

__all__ = ["MAX_QUERIES", "add_key_mass", "block_attention", "queries_at_once"]


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
    """Causal softmax attention over the initial, the chosen and the local blocks. Returns [T, H, dv] in q's dtype.

    Attention is dense if chosen is None. It is also dense for queries with at most `layout.max_blocks` blocks up to
    their own, whatever `chosen` contains for them.
    Scores and softmax are float32 (float64 for float64): small models have scores of several hundred, which rounding to
    bfloat16 would make useless. Probabilities are rounded to v's dtype before they are multiplied by the values (by
    Triton, to q's dtype if v is quantized).
    The same inputs give the same bits, except in `mass`: the kernels add to it atomically.
    Raises ValueError if each query's own mass is requested for more than 16 queries or chosen blocks, or if the kernels
    do not support the inputs. They support heads of at most 256 numbers, at most 128 query heads for a kv head, k and
    v of q's dtype or quantized, and a positive scale.

    Args:
        q: [T, H, d].
        k, v: [kv heads, n, d] and [kv heads, n, dv], n >= position + T, each quantized or not. Rows after the last
            query's may have any values.
        chosen: [kv heads, T, slots] from `choose_blocks`, -1 in empty slots, or None.
        position: of the first query, a number, or int64 [1] on the device for at most 16 tokens.
        scale: factor of the products q.k.
        layout: sizes of blocks, and how many are initial, local and chosen.
        mass: [n] fp32 or None. Each key's attention probability, summed over queries and heads, is added to it. With
            [T, n], each query's own probabilities are added, summed over heads; dense attention and T <= 16 only.
        backend: see `sala_kernels.backend.use_triton`.
    """
    check_position(position, q.shape[0], q.device)
    by_query = mass is not None and mass.dim() == 2
    if by_query and (chosen is not None or q.shape[0] > MAX_TOKENS):
        raise ValueError(f"each query's own mass needs dense attention and at most {MAX_TOKENS} queries")
    if use_triton(backend, q, *_stored(k), *_stored(v), chosen, mass):
        if mass is not None and by_query:
            attend = partial(block_attention, scale=scale, layout=layout, backend=backend)
            rows = [attend(q[t : t + 1], k, v, None, position=position + t, mass=mass[t]) for t in range(len(q))]
            return torch.cat(rows)
        from sala_kernels.block_attention import kernels

        return kernels.block_attention(q, k, v, chosen, position=position, scale=scale, layout=layout, mass=mass)
    if backend != "reference" and chosen is None and q.shape[0] <= MAX_TOKENS and k.shape[1] >= cpu_dense.MIN_KEYS:
        return cpu_dense.block_attention(q, k, v, position=int(position), scale=scale, mass=mass)
    implementation = reference if backend == "reference" or q.shape[0] <= MAX_TOKENS else cpu
    return implementation.block_attention(
        q, k, v, chosen, position=int(position), scale=scale, layout=layout, mass=mass
    )


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

    `block_attention` adds the same for all its queries. Raises ValueError as `block_attention`, and for more than 16
    queries.

    Args:
        q, k, chosen, position, scale, layout: as in `block_attention`.
        mass: [n] fp32, changed in place, by the kernels atomically.
        count: queries that count, a number from 0 to T, or int64 [1] on the device.
        backend: see `sala_kernels.backend.use_triton`.
    """
    T = q.shape[0]
    check_position(position, T, q.device)
    check_position(count, T, q.device)
    if T > MAX_TOKENS:
        raise ValueError(f"{T} queries were given; at most {MAX_TOKENS} are supported")
    if isinstance(count, int) and not 0 <= count <= T:
        raise ValueError(f"{count} of {T} queries were asked for")
    if use_triton(backend, q, *_stored(k), chosen, mass):
        from sala_kernels.block_attention import kernels

        kernels.add_key_mass(q, k, chosen, mass, position=position, count=count, scale=scale, layout=layout)
    else:
        reference.add_key_mass(q, k, chosen, mass, position=int(position), count=int(count), scale=scale, layout=layout)


def _stored(x: Tensor | QuantizedRows) -> tuple[Tensor, ...]:
    return (x.data, x.scale) if isinstance(x, QuantizedRows) else (x,)
