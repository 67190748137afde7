"""Rotary position embedding (RoPE, arXiv:2104.09864), half-split: dimension i rotates with dimension i + d/2."""

import torch
from torch import Tensor

from sala_kernels.backend import Backend, use_triton
from sala_kernels.positions import Position, check_position
from sala_kernels.rotary import reference

__all__ = ["apply_rotary", "qk_norm_rotary", "rotary_cos_sin"]


def rotary_cos_sin(
    position: Position,
    num_tokens: int,
    dim: int,
    theta: float,
    device: torch.device | str,
    *,
    backend: Backend = "auto",
) -> Tensor:
    """Return the cosines and sines of the rotary angles of T tokens: [2, T, dim / 2] fp32.

    Angles are computed in float64. In float32 the angle of a token at position one million would be off by up to
    0.06 rad. Raises ValueError if `position` is another tensor than described.

    Args:
        position: of the first token, a number, or int64 [1] on `device` for at most 16 tokens.
        num_tokens: T.
        dim: numbers of a head.
        theta: base of the rotary frequencies.
        device: of the result.
        backend: see `sala_kernels.backend.use_triton`.
    """
    target = torch.empty(0, device=device)
    check_position(position, num_tokens, target.device)
    if use_triton(backend, target):
        from sala_kernels.rotary import kernels

        return kernels.rotary_cos_sin(position, num_tokens, dim, theta, target.device)
    return reference.rotary_cos_sin(position, num_tokens, dim, theta, device)


def apply_rotary(x: Tensor, cos_sin: Tensor, *, backend: Backend = "auto") -> Tensor:
    """Rotate x [..., T, H, d] by the angles of cos_sin, [2, T, d / 2] or [2, 1, d / 2] fp32.

    Computed in float32 (float64 for float64) and rounded once to x's dtype. Raises ValueError if cos_sin has another
    shape.
    """
    _check_cos_sin(cos_sin, x)
    if use_triton(backend, x, cos_sin):
        from sala_kernels.rotary import kernels

        return kernels.apply_rotary(x, cos_sin)
    return reference.apply_rotary(x, cos_sin)


def qk_norm_rotary(
    q: Tensor,
    k: Tensor,
    q_weight: Tensor | None,
    k_weight: Tensor | None,
    cos_sin: Tensor | None,
    *,
    eps: float,
    backend: Backend = "auto",
) -> tuple[Tensor, Tensor]:
    """Apply `rms_norm` to every head of q and k, then `apply_rotary`, in one launch. Returns q and k.

    The roundings are those of the separate operations. A tensor that is neither normalized nor rotated may be returned
    itself. Raises ValueError if the shapes do not match.

    Args:
        q, k: [T, H, d] and [T, Hk, d], of one dtype, any strides.
        q_weight, k_weight: [d] of that dtype, or None for no normalization.
        cos_sin: [2, T, d / 2] or [2, 1, d / 2] fp32, or None for no rotation.
        eps: added to the mean square.
        backend: see `sala_kernels.backend.use_triton`.
    """
    if not q.ndim == k.ndim == 3 or q.shape[0] != k.shape[0] or q.shape[2] != k.shape[2]:
        raise ValueError(f"q {list(q.shape)} and k {list(k.shape)} must be [T, H, d] and [T, Hk, d]")
    for weight in (q_weight, k_weight):
        if weight is not None and weight.shape != q.shape[2:]:
            raise ValueError(f"a norm's weight is {list(weight.shape)}; it must be {list(q.shape[2:])}")
    if cos_sin is not None:
        _check_cos_sin(cos_sin, q)
    if use_triton(backend, q, k, q_weight, k_weight, cos_sin):
        from sala_kernels.rotary import kernels

        return kernels.qk_norm_rotary(q, k, q_weight, k_weight, cos_sin, eps=eps)
    return reference.qk_norm_rotary(q, k, q_weight, k_weight, cos_sin, eps=eps)


def _check_cos_sin(cos_sin: Tensor, x: Tensor) -> None:
    T, d = x.shape[-3], x.shape[-1]
    if d % 2 or cos_sin.shape not in ((2, T, d // 2), (2, 1, d // 2)):
        raise ValueError(f"cos_sin is {list(cos_sin.shape)}; heads of {d} and {T} tokens need [2, {T} or 1, {d} / 2]")
