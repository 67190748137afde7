"""Rotary position embedding (arXiv:2104.09864), half-split: dimension i turns with dimension i + d/2."""

import torch
from torch import Tensor


def rotary_cos_sin(position: int, num_tokens: int, dim: int, theta: float, device: torch.device | str) -> Tensor:
    """cos and sin for the positions from `position` on: [2, T, dim / 2] fp32, the angles in float64.

    In float32 the angle of a token at one million would be off by up to 0.06 rad.
    """
    inverse = theta ** (-torch.arange(0, dim, 2, dtype=torch.float64, device=device) / dim)
    angle = torch.arange(position, position + num_tokens, dtype=torch.float64, device=device)[:, None] * inverse
    return torch.stack([angle.cos(), angle.sin()]).float()


def apply_rotary(x: Tensor, cos_sin: Tensor) -> Tensor:
    """Turn x [..., T, H, d] by cos_sin [2, T, d / 2]; computed in float32, returned in x's dtype."""
    wide = x if x.dtype == torch.float64 else x.float()
    cos, sin = cos_sin[:, :, None]
    a, b = wide.chunk(2, -1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1).to(x.dtype)
