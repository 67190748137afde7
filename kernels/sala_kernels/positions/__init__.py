"""Where the first token of a call stands: a number, or one that only the device knows.

A decode step is captured once and replayed at every position, so its operations take the position as a tensor and
read it inside their kernels; the host never waits for it.
"""

import torch
from torch import Tensor

__all__ = ["MAX_TOKENS", "Position", "check_position"]

Position = int | Tensor
"""A number, or an int64 tensor [1] on the device of the call's tensors."""

MAX_TOKENS = 16  # of a call whose position is a tensor


def check_position(position: Position, num_tokens: int, device: torch.device) -> None:
    """Raise ValueError for a tensor that is no position of `num_tokens` tokens on `device`. Its value is not read."""
    if isinstance(position, int):
        return
    if position.shape != (1,) or position.dtype != torch.int64 or position.device != device:
        found = f"{list(position.shape)} {position.dtype} on {position.device}"
        raise ValueError(f"a position that is a tensor must be [1] int64 on {device}, found {found}")
    if num_tokens > MAX_TOKENS:
        raise ValueError(f"{num_tokens} tokens at a position that is a tensor; at most {MAX_TOKENS} are computed so")
