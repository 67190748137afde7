"""The position of a call's first token: a number, or a tensor whose value only the device knows.

A decode step is captured in a CUDA graph and replayed at every position. Its operations therefore take the position as
a tensor and read it inside their kernels. The host never waits for it.
"""

import torch
from torch import Tensor

__all__ = ["MAX_TOKENS", "Position", "check_position"]

Position = int | Tensor
"""A number, or an int64 tensor [1] on the device of the call's tensors."""

MAX_TOKENS = 16  # most tokens of a call whose position is a tensor


def check_position(position: Position, num_tokens: int, device: torch.device) -> None:
    """Raise ValueError if a tensor cannot be the position of `num_tokens` tokens on `device`. Its value is not read."""
    if isinstance(position, int):
        return
    if position.shape != (1,) or position.dtype != torch.int64 or position.device != device:
        found = f"{list(position.shape)} {position.dtype} on {position.device}"
        raise ValueError(f"a position that is a tensor must be [1] int64 on {device}, found {found}")
    if num_tokens > MAX_TOKENS:
        raise ValueError(f"{num_tokens} tokens are at a position that is a tensor; at most {MAX_TOKENS} are supported")
