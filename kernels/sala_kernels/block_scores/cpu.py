"""The CPU path of `sala_kernels.block_scores` for long inputs: more than 16 queries.

It computes block scores from one slice of fine windows at a time, so that the scores stay in the processor's cache. In
a slice, the first windows of all blocks come first, then all second windows, and so on: the maximum over the windows of
a block is then a maximum of whole rows. Products in bfloat16 take a third of the time of products in float32. They lose
little, because they include the subtraction of the logsumexp, as two bfloat16 numbers, before the result is rounded.
"""

import torch
from torch import Tensor

from sala_kernels.block_scores import reference
from sala_kernels.blocks import BlockLayout
from sala_kernels.key_compression import num_windows

_SCORES_CACHED = 1 << 19  # scores of a slice: they fit in the processor's cache


def block_scores(q: Tensor, k1: Tensor, k2: Tensor, *, position: int, scale: float, layout: BlockLayout) -> Tensor:
    """Compute `sala_kernels.block_scores.block_scores` on a CPU, for many queries.

    Args:
        q, k1, k2, scale, layout: as there.
        position: as there, a number.
    """
    T, H, d = q.shape
    kv_heads, per_block, stride = k1.shape[0], layout.block // layout.stride, layout.stride
    G, end = H // kv_heads, position + T
    n1, n2 = num_windows(end, 2 * stride, stride), num_windows(end, 8 * stride, 4 * stride)
    dtype = torch.float64 if q.dtype == torch.float64 else torch.float32
    product_dtype = q.dtype if q.dtype == k1.dtype else dtype
    queries = (q.to(dtype) * (scale * reference.LOG2_E)).to(product_dtype)
    queries = queries.view(T, kv_heads, G, d).permute(1, 2, 0, 3).reshape(kv_heads, G * T, d)
    positions = torch.arange(position, end, device=q.device)
    slice_windows = max(per_block, _SCORES_CACHED // (H * T) // per_block * per_block)

    lse = reference.coarse_lse(queries.to(dtype), k2[:, :n2].to(dtype), positions.repeat(G), stride, slice_windows)
    high = lse.to(product_dtype)
    low = (lse - high).to(product_dtype)
    shifted = torch.cat([queries, -high[..., None], -low[..., None]], -1)  # so that one matrix product gives log2(p)
    num_blocks = layout.num_touched(n1)
    scores = q.new_empty(kv_heads, T, num_blocks, dtype=torch.float32)
    slice_blocks = slice_windows // per_block
    layered = _Layered(k1, n1, per_block, min(slice_blocks, num_blocks), product_dtype)
    before_slice = None  # p of the window before the slice, which overlaps its first block
    for start in range(0, num_blocks, slice_blocks):
        stop = min(start + slice_blocks, num_blocks)
        keys = layered.blocks(start, stop)
        every_head = torch.bmm(shifted, keys.transpose(1, 2)).exp2_().view(kv_heads, G, T, per_block, -1)
        p = every_head[:, 0]
        for g in range(1, G):
            p += every_head[:, g]
        _hide_future(p, positions, start * per_block, stride)
        first, *others = p.unbind(2)
        best = first.clone()
        for window in others:
            torch.maximum(best, window, out=best)
        last = p[:, :, -1]
        best[..., 1:] = torch.maximum(best[..., 1:], last[..., :-1])
        if before_slice is not None:
            best[..., 0] = torch.maximum(best[..., 0], before_slice)
        before_slice = last[..., -1].clone()
        scores[..., start:stop] = best
    return scores


class _Layered:
    """Fine windows of a slice of blocks: the first windows of all its blocks, then all second ones, and so on.

    Two columns of ones follow each window; the two parts of the logsumexp are multiplied by them. The buffer is used
    for every slice.
    """

    def __init__(self, k1: Tensor, num_windows: int, per_block: int, num_blocks: int, dtype: torch.dtype) -> None:
        """Allocate the buffer.

        Args:
            k1: [kv heads, N1, d].
            num_windows: windows that are scored.
            per_block: windows of a block.
            num_blocks: blocks of a slice.
            dtype: of the products.
        """
        self._k1, self._num_windows, self._per_block = k1, num_windows, per_block
        self._buffer = k1.new_ones(k1.shape[0], per_block, num_blocks, k1.shape[2] + 2, dtype=dtype)

    def blocks(self, start: int, stop: int) -> Tensor:
        """The windows of blocks start ... stop - 1, [kv heads, windows, d + 2]. Those that do not exist hold ones."""
        buffer, per_block = self._buffer, self._per_block
        if stop - start < buffer.shape[2]:  # the last slice
            self._buffer = buffer = torch.ones_like(buffer[:, :, : stop - start], memory_format=torch.contiguous_format)
        windows = self._k1[:, start * per_block : min(stop * per_block, self._num_windows)]
        whole = windows.shape[1] // per_block
        place = buffer[..., :-2].transpose(1, 2)  # [kv heads, blocks, windows of a block, d]
        place[:, :whole] = windows[:, : whole * per_block].unflatten(1, (whole, per_block))
        if whole < stop - start:
            rest = windows[:, whole * per_block :]
            place[:, whole] = 1
            place[:, whole, : rest.shape[1]] = rest
        return buffer.flatten(1, 2)


def _hide_future(p: Tensor, positions: Tensor, start: int, stride: int) -> None:
    """Set p [kv heads, T, windows of a block, blocks] to 0 where a query does not see a window, from `start` on."""
    per_block, num_blocks = p.shape[2:]
    seen_by_all = num_windows(int(positions[0]) + 1, 2 * stride, stride)
    num_visible = min(num_blocks, max(0, seen_by_all - start) // per_block)
    if num_visible == num_blocks:
        return
    block = torch.arange(num_visible, num_blocks, device=p.device)
    window = start + block * per_block + torch.arange(per_block, device=p.device)[:, None]
    window_end = window * stride + 2 * stride - 1
    p[..., num_visible:].masked_fill_(window_end > positions[:, None, None], 0.0)
