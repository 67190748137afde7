"""Launch the Triton kernels of `sala_kernels.block_scores`: those for few queries (decode) or for many (prefill).

Both read the pooled keys in two passes. The first computes log2 sum exp2 over the coarse windows for every query head.
The second scores a tile of fine windows for all query heads of a kv head, takes the maximum over each block and stores
only that.
"""

from math import log

import torch
from torch import Tensor

from sala_kernels.block_scores.kernels_decode import score_few
from sala_kernels.block_scores.kernels_prefill import MAX_PER_BLOCK, score_many
from sala_kernels.blocks import BlockLayout
from sala_kernels.key_compression import num_windows
from sala_kernels.positions import MAX_TOKENS, Position

_ROW = 32  # a row of scores starts at a multiple of this, so that the choice can read 16 bytes at a time


def block_scores(q: Tensor, k1: Tensor, k2: Tensor, *, position: Position, scale: float, layout: BlockLayout) -> Tensor:
    """Launch the kernels of `sala_kernels.block_scores.block_scores`. Raises ValueError for over 32 windows a block."""
    T = q.shape[0]
    kv_heads = k1.shape[0]
    stride, per_block = layout.stride, layout.block // layout.stride
    if per_block > MAX_PER_BLOCK:
        raise ValueError(f"the Triton kernels take up to {MAX_PER_BLOCK} windows a block, not {per_block}")
    n1, n2 = k1.shape[1], k2.shape[1]  # upper bounds; the kernels compute how many windows are seen
    if isinstance(position, int):
        n1, n2 = num_windows(position + T, 2 * stride, stride), num_windows(position + T, 8 * stride, 4 * stride)
    num_blocks = layout.num_touched(n1)
    if not q.dtype == k1.dtype == k2.dtype:
        q, k1, k2 = q.float(), k1.float(), k2.float()
    row = -(-num_blocks // _ROW) * _ROW
    out = torch.empty(kv_heads, T, row, dtype=torch.float32, device=q.device)[..., :num_blocks]
    if not out.numel():
        return out
    k1, k2, scale_log2 = k1[:, :n1], k2[:, :n2], scale / log(2)
    if T > MAX_TOKENS:
        assert isinstance(position, int)
        score_many(q, k1, k2, out, position=position, scale_log2=scale_log2, layout=layout)
    else:
        score_few(q, k1, k2, out, position=position, scale_log2=scale_log2, layout=layout)
    return out
