"""The definition of `sala_kernels.rms_norm` in PyTorch."""

import torch
from torch import Tensor


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """The definition of `sala_kernels.rms_norm.rms_norm`."""
    wide = x if x.dtype == torch.float64 else x.float()
    mean_square = torch.linalg.vector_norm(wide, dim=-1, keepdim=True).square() / x.shape[-1]
    return (wide * torch.rsqrt(mean_square + eps)).to(x.dtype) * weight


def add_rms_norm(residual: Tensor, update: Tensor, weight: Tensor, eps: float, *, scale: float) -> Tensor:
    """The definition of `sala_kernels.rms_norm.add_rms_norm`.

    Args:
        residual, update, weight, eps, scale: as there.
    """
    residual += update * scale
    return rms_norm(residual, weight, eps)
