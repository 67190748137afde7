"""Products with matrices of 4-bit integers (GPTQ: arXiv:2210.17323); activations keep their dtype (W4A16)."""

import torch
from torch import Tensor

from sala_kernels.backend import Backend, use_triton
from sala_kernels.int4_linear import reference
from sala_kernels.int4_linear.matrix import Int4Matrix, repack_int4

__all__ = ["Int4Matrix", "int4_dequantize", "int4_linear", "int4_swiglu", "repack_int4"]


def int4_linear(x: Tensor, matrix: Int4Matrix, *, backend: Backend = "auto") -> Tensor:
    """x W^T, accumulated in float32, with W[o, i] = scale * (q - zero) of the input's group.

    x: [..., in] bf16, fp16 or fp32, its last dimension contiguous or not. Returns [..., out] in x's dtype, contiguous.
    The reference rounds W to x's dtype before the product; the fused kernels, which take few rows, do not round it.
    Raises ValueError if x has another number of columns than the matrix, or lies on another device.
    """
    _check(x, matrix)
    if use_triton(backend, x, matrix.words):
        from sala_kernels.int4_linear import kernels

        return kernels.int4_linear(x, matrix)
    return reference.int4_linear(x, matrix)


def int4_swiglu(x: Tensor, gate: Int4Matrix, up: Int4Matrix, *, backend: Backend = "auto") -> Tensor:
    """silu(x Wgate^T) * (x Wup^T); the two products of `int4_linear`, and in one kernel where x has few rows.

    x: [..., in]; gate, up: of one shape. Returns [..., out] in x's dtype, contiguous. The fused kernel rounds only the
    result to x's dtype. Raises ValueError as `int4_linear`, and for matrices of different shapes.
    """
    _check(x, gate)
    _check(x, up)
    if gate.shape != up.shape:
        raise ValueError(f"gate {gate.shape} and up {up.shape} must have one shape")
    if use_triton(backend, x, gate.words):
        from sala_kernels.int4_linear import kernels

        return kernels.int4_swiglu(x, gate, up)
    return reference.int4_swiglu(x, gate, up)


def int4_dequantize(matrix: Int4Matrix, dtype: torch.dtype, *, backend: Backend = "auto") -> Tensor:
    """The plain matrix [out, in], scale * (q - zero) in float32, rounded to `dtype` (bf16, fp16 or fp32)."""
    if use_triton(backend, matrix.words) and dtype != torch.float64:
        from sala_kernels.int4_linear import kernels

        return kernels.int4_dequantize(matrix, dtype)
    return reference.dequantize(matrix, dtype)


def _check(x: Tensor, matrix: Int4Matrix) -> None:
    if x.ndim == 0 or x.shape[-1] != matrix.in_features:
        raise ValueError(f"x must be [..., {matrix.in_features}] for a matrix {matrix.shape}, got {tuple(x.shape)}")
    if x.device != matrix.device:
        raise ValueError(f"x is on {x.device}, the matrix on {matrix.device}")
