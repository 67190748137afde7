"""Root-mean-square normalization (RMSNorm, arXiv:1910.07467), alone or after the residual addition."""

from torch import Tensor

from sala_kernels.backend import Backend, use_triton
from sala_kernels.rms_norm import reference

__all__ = ["add_rms_norm", "rms_norm"]


def rms_norm(x: Tensor, weight: Tensor, eps: float, *, backend: Backend = "auto") -> Tensor:
    """Return x * rsqrt(mean(x^2) + eps) * weight over the last dimension, in x's shape and dtype.

    The mean is computed in float32 (float64 for float64). The normalized x is rounded to its dtype before it is
    multiplied by the weight.

    Args:
        x: [..., D].
        weight: [D].
        eps: added to the mean square.
        backend: see `sala_kernels.backend.use_triton`.
    """
    if use_triton(backend, x, weight):
        from sala_kernels.rms_norm import kernels

        return kernels.rms_norm(x, weight, eps)
    return reference.rms_norm(x, weight, eps)


def add_rms_norm(
    residual: Tensor, update: Tensor, weight: Tensor, eps: float, *, scale: float, backend: Backend = "auto"
) -> Tensor:
    """Add update * scale to residual in place and return `rms_norm` of the sum.

    The scaled update is rounded to its dtype before the addition.

    Args:
        residual, update: [..., D], of one dtype.
        weight: [D].
        eps: added to the mean square.
        scale: factor of the update.
        backend: see `sala_kernels.backend.use_triton`.
    """
    if use_triton(backend, residual, update, weight):
        from sala_kernels.rms_norm import kernels

        return kernels.add_rms_norm(residual, update, weight, eps, scale=scale)
    return reference.add_rms_norm(residual, update, weight, eps, scale=scale)
