"""Root-mean-square normalisation (arXiv:1910.07467), alone or with the residual addition before it."""

from torch import Tensor

from sala_kernels.backend import Backend, use_triton
from sala_kernels.rms_norm import reference

__all__ = ["add_rms_norm", "rms_norm"]


def rms_norm(x: Tensor, weight: Tensor, eps: float, *, backend: Backend = "auto") -> Tensor:
    """x * rsqrt(mean(x^2) + eps) * weight over the last dimension; the mean in float32 (float64 for float64).

    x: [..., D]; weight: [D]. The normalised x is rounded to its dtype before the weight. Returns x's shape and dtype.
    """
    if use_triton(backend, x, weight):
        from sala_kernels.rms_norm import kernels

        return kernels.rms_norm(x, weight, eps)
    return reference.rms_norm(x, weight, eps)


def add_rms_norm(
    residual: Tensor, update: Tensor, weight: Tensor, eps: float, *, scale: float, backend: Backend = "auto"
) -> Tensor:
    """residual += update * scale, in place; returns `rms_norm` of the sum.

    residual, update: [..., D], one dtype; weight: [D]. The scaled update is rounded to the dtype before the addition.
    """
    if use_triton(backend, residual, update, weight):
        from sala_kernels.rms_norm import kernels

        return kernels.add_rms_norm(residual, update, weight, eps, scale=scale)
    return reference.add_rms_norm(residual, update, weight, eps, scale=scale)
