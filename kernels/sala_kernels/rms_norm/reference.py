"""The definition of `sala_kernels.rms_norm`, in PyTorch."""

import torch
from torch import Tensor


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """As `sala_kernels.rms_norm.rms_norm`."""
    wide = x if x.dtype == torch.float64 else x.float()
    return (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps)).to(x.dtype) * weight


def add_rms_norm(residual: Tensor, update: Tensor, weight: Tensor, eps: float, *, scale: float) -> Tensor:
    """As `sala_kernels.rms_norm.add_rms_norm`."""
    residual += update * scale
    return rms_norm(residual, weight, eps)
