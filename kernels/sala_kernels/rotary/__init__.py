"""Rotary position embedding (arXiv:2104.09864), half-split: dimension i turns with dimension i + d/2."""

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
    """cos and sin for the positions from `position` on: [2, T, dim / 2] fp32, the angles in float64.

    In float32 the angle of a token at one million would be off by up to 0.06 rad.
    position: a number, or int64 [1] on `device` for at most 16 tokens. Raises ValueError for another tensor.
    """
    where = torch.empty(0, device=device)
    check_position(position, num_tokens, where.device)
    if use_triton(backend, where):
        from sala_kernels.rotary import kernels

        return kernels.rotary_cos_sin(position, num_tokens, dim, theta, where.device)
    return reference.rotary_cos_sin(position, num_tokens, dim, theta, device)


def apply_rotary(x: Tensor, cos_sin: Tensor, *, backend: Backend = "auto") -> Tensor:
    """Turn x [..., T, H, d] by cos_sin [2, T, d / 2] or [2, 1, d / 2]; computed in float32, returned in x's dtype.

    Raises ValueError if cos_sin has another shape.
    """
    _check_turn(cos_sin, x)
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
    """`rms_norm` of every head of q and k, then `apply_rotary`: one launch, with the roundings of the two.

    q: [T, H, d]; k: [T, Hk, d], one dtype, any strides. q_weight, k_weight: [d] of that dtype, or None: not normalised.
    cos_sin: [2, T, d / 2] or [2, 1, d / 2] fp32, or None: not turned.
    Returns q and k, in their shapes and dtype; what is neither normalised nor turned may be returned as it is.
    Raises ValueError for shapes that do not fit.
    """
    if not q.ndim == k.ndim == 3 or q.shape[0] != k.shape[0] or q.shape[2] != k.shape[2]:
        raise ValueError(f"q {list(q.shape)} and k {list(k.shape)} must be [T, H, d] and [T, Hk, d]")
    for weight in (q_weight, k_weight):
        if weight is not None and weight.shape != q.shape[2:]:
            raise ValueError(f"a norm's weight is {list(weight.shape)}; needed is {list(q.shape[2:])}")
    if cos_sin is not None:
        _check_turn(cos_sin, q)
    if use_triton(backend, q, k, q_weight, k_weight, cos_sin):
        from sala_kernels.rotary import kernels

        return kernels.qk_norm_rotary(q, k, q_weight, k_weight, cos_sin, eps=eps)
    return reference.qk_norm_rotary(q, k, q_weight, k_weight, cos_sin, eps=eps)


def _check_turn(cos_sin: Tensor, x: Tensor) -> None:
    T, d = x.shape[-3], x.shape[-1]
    if d % 2 or cos_sin.shape not in ((2, T, d // 2), (2, 1, d // 2)):
        raise ValueError(f"cos_sin is {list(cos_sin.shape)}; heads of {d} and {T} tokens need [2, {T} or 1, {d} / 2]")
