"""Which blocks a query of a sparse layer attends to (InfLLM-V2, arXiv:2509.24663)."""

import torch
from torch import Tensor

from sala_kernels.backend import Backend, use_triton
from sala_kernels.block_choice import reference
from sala_kernels.block_choice.reference import selected_mask
from sala_kernels.blocks import BlockLayout
from sala_kernels.positions import Position, check_position

__all__ = ["choose_blocks", "selected_mask"]


def choose_blocks(scores: Tensor, *, position: Position, layout: BlockLayout, backend: Backend = "auto") -> Tensor:
    """The best-scored blocks besides the always-kept first and local ones; of equal scores the earlier block.

    scores: [kv heads, T, blocks] fp32 from `block_scores` (none negative but -inf, which is never chosen), for the
    queries at `position` ..., a number, or int64 [1] on the device for at most 16 tokens; what they hold for blocks
    behind a query does not matter.
    Returns [kv heads, T, slots] int64, ascending; -1 in the last slots where there are fewer blocks to choose from.
    Raises ValueError if scores are not float32.
    """
    if scores.dtype != torch.float32:
        raise ValueError(f"scores must be torch.float32, not {scores.dtype}")
    check_position(position, scores.shape[1], scores.device)
    if use_triton(backend, scores):
        from sala_kernels.block_choice import kernels

        return kernels.choose_blocks(scores, position=position, layout=layout)
    return reference.choose_blocks(scores, position=int(position), layout=layout)
