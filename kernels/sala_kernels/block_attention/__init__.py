"""Softmax attention of every query over its own blocks of keys (InfLLM-V2, arXiv:2509.24663), or over all before it."""

from torch import Tensor

from sala_kernels.backend import Backend, use_triton
from sala_kernels.block_attention import reference
from sala_kernels.blocks import BlockLayout
from sala_kernels.kv_quantization import QuantizedRows

__all__ = ["block_attention"]


def block_attention(
    q: Tensor,
    k: Tensor | QuantizedRows,
    v: Tensor | QuantizedRows,
    chosen: Tensor | None,
    *,
    position: int,
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
    in place.
    Returns [T, H, dv] in q's dtype. Scores and softmax are float32 (float64 for float64): scores of some hundreds, as
    small models make them, mean nothing once rounded to bfloat16. Probabilities are rounded before they weigh the
    values, to v's dtype (Triton: to q's where v is quantized).
    Triton only: heads of at most 256 numbers, at most 128 query heads a kv head, k and v of q's dtype or quantized,
    scale > 0; raises ValueError for others. The same inputs give the same bits, but for `mass` (atomic additions).
    """
    tensors = [part for x in (k, v) for part in ((x.data, x.scale) if isinstance(x, QuantizedRows) else (x,))]
    if use_triton(backend, q, *tensors, chosen, mass):
        from sala_kernels.block_attention import kernels

        return kernels.block_attention(q, k, v, chosen, position=position, scale=scale, layout=layout, mass=mass)
    return reference.block_attention(q, k, v, chosen, position=position, scale=scale, layout=layout, mass=mass)
