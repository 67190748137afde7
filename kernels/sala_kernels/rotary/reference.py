"""The definition of `sala_kernels.rotary` in PyTorch."""

import torch
from torch import Tensor

from sala_kernels.positions import Position
from sala_kernels.rms_norm.reference import rms_norm


def rotary_cos_sin(position: Position, num_tokens: int, dim: int, theta: float, device: torch.device | str) -> Tensor:
    """The definition of `sala_kernels.rotary.rotary_cos_sin`.

    Args:
        position, num_tokens, dim, theta, device: as there.
    """
    inverse = theta ** (-torch.arange(0, dim, 2, dtype=torch.float64, device=device) / dim)
    positions = torch.arange(num_tokens, device=device) + position
    angle = positions.double()[:, None] * inverse
    return torch.stack([angle.cos(), angle.sin()]).float()


def apply_rotary(x: Tensor, cos_sin: Tensor) -> Tensor:
    """The definition of `sala_kernels.rotary.apply_rotary`.

    Products run over whole heads: half a head can be too short for a CPU's vector units.
    """
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    cos, sin = cos_sin[:, :, None]
    a, b = x.chunk(2, -1)
    swapped = torch.cat([b, a], -1).to(dtype).mul_(torch.cat([-sin, sin], -1))
    return x.to(dtype, copy=True).mul_(torch.cat([cos, cos], -1)).add_(swapped).to(x.dtype)


def qk_norm_rotary(
    q: Tensor, k: Tensor, q_weight: Tensor | None, k_weight: Tensor | None, cos_sin: Tensor | None, *, eps: float
) -> tuple[Tensor, Tensor]:
    """The definition of `sala_kernels.rotary.qk_norm_rotary`.

    Args:
        q, k, q_weight, k_weight, cos_sin, eps: as there.
    """
    if q_weight is not None:
        q = rms_norm(q, q_weight, eps)
    if k_weight is not None:
        k = rms_norm(k, k_weight, eps)
    if cos_sin is not None:
        q, k = apply_rotary(q, cos_sin), apply_rotary(k, cos_sin)
    return q, k
