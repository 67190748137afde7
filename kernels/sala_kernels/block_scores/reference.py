"""The definition of `sala_kernels.block_scores` in PyTorch."""

from math import log

import torch
from torch import Tensor

from sala_kernels.blocks import BlockLayout
from sala_kernels.key_compression import num_windows

LOG2_E = 1 / log(2)  # for exp2: a CPU's exp takes ten to seventy times longer where its result underflows
_SLICE = 4096  # windows scored at a time, so that the scores of a few queries stay in the CPU's cache


def block_scores(q: Tensor, k1: Tensor, k2: Tensor, *, position: int, scale: float, layout: BlockLayout) -> Tensor:
    """The definition of `sala_kernels.block_scores.block_scores`.

    Args:
        q, k1, k2, scale, layout: as there.
        position: as there, a number.
    """
    T, H, d = q.shape
    kv_heads = k1.shape[0]
    G = H // kv_heads
    stride, per_block = layout.stride, layout.block // layout.stride
    last = position + T - 1
    n1, n2 = num_windows(last + 1, 2 * stride, stride), num_windows(last + 1, 8 * stride, 4 * stride)
    dtype = torch.float64 if q.dtype == torch.float64 else torch.float32
    queries = (q.to(dtype) * (scale * LOG2_E)).view(T, kv_heads, G, d).permute(1, 2, 0, 3).reshape(kv_heads, G * T, d)
    positions = torch.arange(position, last + 1, device=q.device)

    lse = coarse_lse(queries, k2[:, :n2].to(dtype), positions.repeat(G), stride)  # [kv heads, G*T]
    shifted = torch.cat([queries, -lse[..., None]], -1)  # so that one matrix product gives log2(p)
    num_blocks = layout.num_touched(n1)
    scores = queries.new_empty(kv_heads, T, num_blocks * per_block)
    scores[..., n1:] = 0
    for start in range(0, n1, _SLICE):
        stop = min(n1, start + _SLICE)
        keys = torch.nn.functional.pad(k1[:, start:stop].to(dtype), (0, 1), value=1.0)
        p = torch.bmm(shifted, keys.transpose(1, 2)).exp2_().view(kv_heads, G, T, stop - start)
        torch.sum(p, 1, out=scores[..., start:stop])
        _hide_future(scores[..., start:stop], positions, start, 2 * stride, stride, 0.0)
    blocks = scores.view(kv_heads, T, num_blocks, per_block)
    best = blocks.amax(-1)
    if num_blocks > 1:  # the last window of a block overlaps the next block
        best[..., 1:] = torch.maximum(best[..., 1:], blocks[..., :-1, -1])
    return best.float()


def coarse_lse(queries: Tensor, k2: Tensor, positions: Tensor, stride: int, windows_at_once: int = _SLICE) -> Tensor:
    """Return log2 sum exp2 of the products with the coarse windows that a query sees, [kv heads, R]; 0 if it sees none.

    Args:
        queries: [kv heads, R, d], scaled by log2(e).
        k2: [kv heads, N2, d].
        positions: [R], of the queries.
        stride: of the fine windows.
        windows_at_once: windows scored at a time.
    """
    top = queries.new_full(queries.shape[:2], -torch.inf)
    total = queries.new_zeros(queries.shape[:2])
    for start in range(0, k2.shape[1], windows_at_once):
        s = torch.bmm(queries, k2[:, start : start + windows_at_once].transpose(1, 2))
        s = _hide_future(s, positions, start, 8 * stride, 4 * stride, -torch.inf)
        new_top = torch.maximum(top, s.amax(-1))
        finite_top = torch.where(new_top.isinf(), 0.0, new_top)
        total = total * torch.exp2(top - finite_top) + s.sub_(finite_top[..., None]).exp2_().sum(-1)
        top = new_top
    return torch.where(total > 0, top + total.log2(), 0.0)


def _hide_future(x: Tensor, positions: Tensor, start: int, size: int, stride: int, value: float) -> Tensor:
    """Set x[..., r, j] to value if window start + j ends after positions[r]. In place."""
    first = int(positions[0])
    seen_by_all = max(0, (first + 1 - size) // stride + 1 - start) if first + 1 >= size else 0
    tail = x[..., min(seen_by_all, x.shape[-1]) :]
    if tail.shape[-1]:
        window_end = (
            torch.arange(start + x.shape[-1] - tail.shape[-1], start + x.shape[-1], device=x.device) * stride + size - 1
        )
        tail.masked_fill_(window_end > positions[:, None], value)
    return x
