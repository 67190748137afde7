"""The definition of `sala_kernels.int4_linear` in PyTorch."""

import torch
from torch import Tensor
from torch.nn.functional import linear, silu

from sala_kernels.int4_linear.matrix import SYMMETRIC_ZERO, Int4Matrix, unpack


def dequantize(matrix: Int4Matrix, dtype: torch.dtype) -> Tensor:
    """The definition of `sala_kernels.int4_linear.int4_dequantize`."""
    scale = matrix.scales.float().T.repeat_interleave(matrix.group_size, 1)
    zero = SYMMETRIC_ZERO if matrix.zeros is None else matrix.zeros.float().T.repeat_interleave(matrix.group_size, 1)
    weight = ((unpack(matrix.words).float() - zero) * scale).to(dtype)
    return weight[:, : matrix.in_features].contiguous() if matrix.slots is None else weight[:, matrix.slots]


def int4_linear(x: Tensor, matrix: Int4Matrix) -> Tensor:
    """The definition of `sala_kernels.int4_linear.int4_linear`."""
    wide = x if x.dtype == torch.float64 else x.float()
    return linear(wide, dequantize(matrix, x.dtype).to(wide.dtype)).to(x.dtype)


def int4_swiglu(x: Tensor, gate: Int4Matrix, up: Int4Matrix) -> Tensor:
    """The definition of `sala_kernels.int4_linear.int4_swiglu`."""
    return silu(int4_linear(x, gate)) * int4_linear(x, up)
