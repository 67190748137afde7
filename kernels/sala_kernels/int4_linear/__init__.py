"""Linear layers with 4-bit weights (GPTQ, arXiv:2210.17323). Activations keep their dtype (W4A16)."""

import torch
from torch import Tensor

from sala_kernels.backend import Backend, use_triton
from sala_kernels.int4_linear import cpu, reference
from sala_kernels.int4_linear.cpu import INT4_SCRATCH_BYTES
from sala_kernels.int4_linear.cpu_matrix import CpuInt4Matrix, block_outputs, repack_int4_for_cpu
from sala_kernels.int4_linear.matrix import Int4Matrix, repack_int4
from sala_kernels.swiglu import swiglu

__all__ = [
    "INT4_SCRATCH_BYTES",
    "CpuInt4Matrix",
    "Int4Matrix",
    "Int4Weight",
    "block_outputs",
    "int4_dequantize",
    "int4_linear",
    "int4_swiglu",
    "repack_int4",
    "repack_int4_for_cpu",
]

Int4Weight = Int4Matrix | CpuInt4Matrix
"""A matrix in the layout of a card's kernels, which the reference also computes, or in that of a CPU."""


def int4_linear(x: Tensor, matrix: Int4Weight, *, backend: Backend = "auto") -> Tensor:
    """Return x W^T, [..., out] in x's dtype, contiguous. W[o, i] = scale * (q - zero), by the group of input i.

    Sums are float32. The reference rounds W to x's dtype before the product. The fused kernels, which compute few rows,
    do not round it. Of a CpuInt4Matrix, with few rows in bfloat16, the scales are rounded to bfloat16 instead (`cpu`).
    x: [..., in] bf16, fp16 or fp32, any strides. Raises ValueError if x has another number of columns than the matrix,
    or is on another device.
    """
    _check(x, matrix)
    if isinstance(matrix, CpuInt4Matrix):
        _refuse_triton(backend)
        return cpu.int4_linear(x, matrix)
    if use_triton(backend, x, matrix.words):
        from sala_kernels.int4_linear import kernels

        return kernels.int4_linear(x, matrix)
    return reference.int4_linear(x, matrix)


def int4_swiglu(x: Tensor, gate: Int4Weight, up: Int4Weight, *, backend: Backend = "auto") -> Tensor:
    """Return silu(x Wgate^T) * (x Wup^T), [..., out] in x's dtype, contiguous.

    The products are those of `int4_linear`. For few rows of x, one fused kernel computes all, and rounds only the
    result to x's dtype. Raises ValueError as `int4_linear`, and for matrices of different shapes.

    Args:
        x: [..., in].
        gate, up: matrices of one shape.
        backend: see `sala_kernels.backend.use_triton`.
    """
    _check(x, gate)
    _check(x, up)
    if gate.shape != up.shape:
        raise ValueError(f"gate {gate.shape} and up {up.shape} must have one shape")
    if isinstance(gate, CpuInt4Matrix) or isinstance(up, CpuInt4Matrix):
        return swiglu(int4_linear(x, gate, backend=backend), int4_linear(x, up, backend=backend), backend="reference")
    if use_triton(backend, x, gate.words):
        from sala_kernels.int4_linear import kernels

        return kernels.int4_swiglu(x, gate, up)
    return reference.int4_swiglu(x, gate, up)


def int4_dequantize(matrix: Int4Weight, dtype: torch.dtype, *, backend: Backend = "auto") -> Tensor:
    """Return the dequantized matrix [out, in]: scale * (q - zero) in float32, rounded to `dtype` (bf16, fp16, fp32)."""
    if isinstance(matrix, CpuInt4Matrix):
        _refuse_triton(backend)
        return cpu.int4_dequantize(matrix, dtype)
    if use_triton(backend, matrix.words) and dtype != torch.float64:
        from sala_kernels.int4_linear import kernels

        return kernels.int4_dequantize(matrix, dtype)
    return reference.dequantize(matrix, dtype)


def _refuse_triton(backend: Backend) -> None:
    if backend == "triton":
        raise ValueError("the Triton kernels do not read the layout of a CpuInt4Matrix; use backend='auto'")


def _check(x: Tensor, matrix: Int4Weight) -> None:
    if x.ndim == 0 or x.shape[-1] != matrix.in_features:
        raise ValueError(f"x must be [..., {matrix.in_features}] for a matrix {matrix.shape}, got {tuple(x.shape)}")
    if x.device != matrix.device:
        raise ValueError(f"x is on {x.device}, the matrix on {matrix.device}")
