"""Top-k choice of the blocks to which a query of a sparse layer attends (InfLLM-V2, arXiv:2509.24663)."""

import torch
from torch import Tensor

from sala_kernels.backend import Backend, use_triton
from sala_kernels.block_choice import reference
from sala_kernels.block_choice.reference import selected_mask
from sala_kernels.blocks import BlockLayout
from sala_kernels.positions import Position, check_position

__all__ = ["choose_blocks", "selected_mask"]


def choose_blocks(scores: Tensor, *, position: Position, layout: BlockLayout, backend: Backend = "auto") -> Tensor:
    """Choose the `layout.slots` blocks with the highest scores, apart from the initial and local blocks.

    Of equal scores, the earlier block is chosen. Returns [kv heads, T, slots] int64, ascending. If a query has fewer
    blocks to choose from, its last slots are -1. Raises ValueError if scores are not float32.

    Args:
        scores: [kv heads, T, blocks] fp32 from `block_scores`, not negative, or -inf for blocks that are never chosen.
            Scores of blocks after a query's own may have any values.
        position: of the first query, a number, or int64 [1] on the device for at most 16 tokens.
        layout: sizes of blocks, and how many are initial, local and chosen.
        backend: see `sala_kernels.backend.use_triton`.
    """
    if scores.dtype != torch.float32:
        raise ValueError(f"scores must be torch.float32, not {scores.dtype}")
    check_position(position, scores.shape[1], scores.device)
    if use_triton(backend, scores):
        from sala_kernels.block_choice import kernels

        return kernels.choose_blocks(scores, position=position, layout=layout)
    return reference.choose_blocks(scores, position=int(position), layout=layout)
