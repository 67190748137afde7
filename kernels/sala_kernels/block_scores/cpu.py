"""`sala_kernels.block_scores` for many queries on a CPU: a slice of the windows at a time goes from keys to blocks.

Within a slice the first windows of all blocks come first, then all second ones, and so on, so that the largest of a
block's windows is one of whole rows; and a slice's scores stay in the processor's cache. Products in bfloat16 take a
third of the time: they subtract the logarithm of the sum, in two numbers of bfloat16, before anything is rounded.
"""

import torch
from torch import Tensor
from torch.nn.functional import pad

from sala_kernels.block_scores import reference
from sala_kernels.blocks import BlockLayout
from sala_kernels.key_compression import num_windows

_SCORES_CACHED = 1 << 19  # computed at once: they stay in the processor's cache


def block_scores(q: Tensor, k1: Tensor, k2: Tensor, *, position: int, scale: float, layout: BlockLayout) -> Tensor:
    """As `sala_kernels.block_scores.block_scores`."""
    T, H, d = q.shape
    kv_heads, per_block, stride = k1.shape[0], layout.block // layout.stride, layout.stride
    G, end = H // kv_heads, position + T
    n1, n2 = num_windows(end, 2 * stride, stride), num_windows(end, 8 * stride, 4 * stride)
    wide = torch.float64 if q.dtype == torch.float64 else torch.float32
    narrow = q.dtype if q.dtype == k1.dtype else wide
    queries = (q.to(wide) * (scale * reference.LOG2_E)).to(narrow)
    queries = queries.view(T, kv_heads, G, d).permute(1, 2, 0, 3).reshape(kv_heads, G * T, d)
    positions = torch.arange(position, end, device=q.device)
    slice_windows = max(per_block, _SCORES_CACHED // (H * T) // per_block * per_block)

    lse = reference.coarse_lse(queries.to(wide), k2[:, :n2].to(wide), positions.repeat(G), stride, slice_windows)
    high = lse.to(narrow)
    low = (lse - high).to(narrow)
    shifted = torch.cat([queries, -high[..., None], -low[..., None]], -1)  # log2(p) as one matrix product
    num_blocks = layout.num_touched(n1)
    scores = [q.new_zeros(kv_heads, T, 0, dtype=torch.float32)]
    reaching = None  # p of the window before the slice, which reaches into its first block
    for start in range(0, num_blocks * per_block, slice_windows):
        stop = min(start + slice_windows, num_blocks * per_block)
        keys = pad(k1[:, start : min(stop, n1)].to(narrow), (0, 2), value=1.0)
        keys = pad(keys, (0, 0, 0, stop - start - keys.shape[1])).unflatten(1, (-1, per_block))
        keys = keys.transpose(1, 2).flatten(1, 2)  # all first windows of a block, all second ones, ...
        every_head = torch.bmm(shifted, keys.transpose(1, 2)).exp2_().view(kv_heads, G, T, per_block, -1)
        p = every_head[:, 0]
        for g in range(1, G):
            p += every_head[:, g]
        _hide_future(p, positions, start, stride)
        best, last = p.amax(2), p[:, :, -1]
        best[..., 1:] = torch.maximum(best[..., 1:], last[..., :-1])
        if reaching is not None:
            best[..., 0] = torch.maximum(best[..., 0], reaching)
        reaching = last[..., -1].clone()
        scores.append(best.float())
    return torch.cat(scores, -1)


def _hide_future(p: Tensor, positions: Tensor, start: int, stride: int) -> None:
    """Set p [kv heads, T, windows of a block, blocks] to 0 where a window is not wholly seen. start: the first one."""
    per_block, num_blocks = p.shape[2:]
    seen_by_all = num_windows(int(positions[0]) + 1, 2 * stride, stride)
    sure = min(num_blocks, max(0, seen_by_all - start) // per_block)
    if sure == num_blocks:
        return
    block = torch.arange(sure, num_blocks, device=p.device)
    window = start + block * per_block + torch.arange(per_block, device=p.device)[:, None]
    window_end = window * stride + 2 * stride - 1
    p[..., sure:].masked_fill_(window_end > positions[:, None, None], 0.0)
