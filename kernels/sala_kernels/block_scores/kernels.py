"""The launches behind `sala_kernels.block_scores`: kernels for few queries (decode) and for many (prefill).

Both go over the keys twice. The first pass makes log2 sum exp2 over the coarse windows of every query head; the
second scores a tile of fine windows for all query heads of a kv head and pools them to blocks before they are stored.
"""

from math import log

import torch
from torch import Tensor

from sala_kernels.block_scores.kernels_decode import score_few
from sala_kernels.block_scores.kernels_prefill import MAX_PER_BLOCK, score_many
from sala_kernels.blocks import BlockLayout
from sala_kernels.key_compression import num_windows
from sala_kernels.positions import Position

_FEW = 16  # queries that the decode kernels take
_ROW = 32  # a row of scores begins at a multiple of this: the choice reads 16 bytes at a time


def block_scores(
    q: Tensor, k1: Tensor, k2: Tensor, *, position: Position, scale: float, layout: BlockLayout
) -> Tensor:
    """As `sala_kernels.block_scores.block_scores`. Raises ValueError for more than 32 windows a block."""
    T = q.shape[0]
    kv_heads = k1.shape[0]
    stride, per_block = layout.stride, layout.block // layout.stride
    if per_block > MAX_PER_BLOCK:
        raise ValueError(f"the Triton kernels take up to {MAX_PER_BLOCK} windows a block, not {per_block}")
    n1 = num_windows(position + T, 2 * stride, stride)
    n2 = num_windows(position + T, 8 * stride, 4 * stride)
    num_blocks = -(-(n1 + 1) // per_block) if n1 else 0  # the last window reaches one stride further
    if not q.dtype == k1.dtype == k2.dtype:
        q, k1, k2 = q.float(), k1.float(), k2.float()
    row = -(-num_blocks // _ROW) * _ROW
    out = torch.empty(kv_heads, T, row, dtype=torch.float32, device=q.device)[..., :num_blocks]
    score = score_few if T <= _FEW else score_many
    if out.numel():
        score(q, k1[:, :n1], k2[:, :n2], out, position=position, scale_log2=scale / log(2), layout=layout)
    return out
