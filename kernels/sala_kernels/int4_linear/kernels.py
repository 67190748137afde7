"""Which kernel of `sala_kernels.int4_linear` computes a product, by its number of rows.

1: a GEMV on the ordinary cores, one launch. A second row would cost it another pass over W, and the tensor cores
take 16 for the price of one, though in two launches where W has few outputs.
Up to MAX_FUSED_ROWS: W is unpacked on its way into the tensor cores, as often as there are tiles of rows.
Beyond: W is made plain once, and torch multiplies. For the largest matrix, 4096 x 16384, that is 170 MB written and
read, 0.04 ms on an H200 and 0.17 ms on a 4090, where the product itself takes 0.10 ms and 0.42 ms for 512 rows: from
there on torch's advantage on the product outweighs it, and at 8,192 rows it costs 3 to 4 percent.
"""

import torch
from torch import Tensor

from sala_kernels.int4_linear.kernels_decode import gemv
from sala_kernels.int4_linear.kernels_prefill import dequantize, gather, gemm
from sala_kernels.int4_linear.matrix import Int4Matrix
from sala_kernels.swiglu import swiglu

MAX_GEMV_ROWS = 1
MAX_FUSED_SWIGLU_ROWS = 16
MAX_FUSED_ROWS = 256
_MAX_SCRATCH_NUMBERS = 1 << 26  # 128 MiB in bf16: the largest of a layer's matrices in one piece


def int4_linear(x: Tensor, matrix: Int4Matrix) -> Tensor:
    """As `sala_kernels.int4_linear.int4_linear`."""
    rows = _rows(x)
    out = torch.empty(rows.shape[0], matrix.shape[0], dtype=x.dtype, device=x.device)
    if rows.shape[0] <= MAX_GEMV_ROWS:
        gemv(rows, matrix, None, out)
    elif rows.shape[0] <= MAX_FUSED_ROWS:
        fused_linear(rows, matrix, out)
    else:
        plain_linear(rows, matrix, out)
    return out.view(*x.shape[:-1], out.shape[1])


def int4_swiglu(x: Tensor, gate: Int4Matrix, up: Int4Matrix) -> Tensor:
    """As `sala_kernels.int4_linear.int4_swiglu`."""
    rows = _rows(x)
    alike = gate.group_size == up.group_size and gate.inputs is None and up.inputs is None
    if not alike or rows.shape[0] > MAX_FUSED_SWIGLU_ROWS:
        return swiglu(int4_linear(x, gate), int4_linear(x, up), backend="triton")
    out = torch.empty(rows.shape[0], gate.shape[0], dtype=x.dtype, device=x.device)
    if rows.shape[0] <= MAX_GEMV_ROWS:
        gemv(rows, gate, up, out)
    else:
        gemm(rows, gate, up, out)
    return out.view(*x.shape[:-1], out.shape[1])


def int4_dequantize(matrix: Int4Matrix, dtype: torch.dtype) -> Tensor:
    """As `sala_kernels.int4_linear.int4_dequantize`."""
    out = torch.empty(matrix.shape, dtype=dtype, device=matrix.device)
    dequantize(matrix, out, 0)
    return out


def fused_linear(rows: Tensor, matrix: Int4Matrix, out: Tensor) -> None:
    """out [M, out] = rows [M, in] W^T by the fused kernel, any M."""
    gemm(rows if matrix.inputs is None else gather(rows, matrix.inputs), matrix, None, out)


def plain_linear(rows: Tensor, matrix: Int4Matrix, out: Tensor) -> None:
    """out [M, out] = rows [M, in] W^T by way of the plain matrix in x's dtype, a part of its rows at a time."""
    num_out, num_in = matrix.shape
    step = max(1, _MAX_SCRATCH_NUMBERS // max(1, num_in))
    scratch = torch.empty(min(step, num_out), num_in, dtype=rows.dtype, device=rows.device)
    for first in range(0, num_out, step):
        part = scratch[: min(step, num_out - first)]
        dequantize(matrix, part, first)
        torch.mm(rows, part.T, out=out[:, first : first + step])


def _rows(x: Tensor) -> Tensor:
    """x as [M, in] with neighbouring columns, rows apart or not."""
    rows = x.reshape(x.shape[:-1].numel(), x.shape[-1])
    return rows if rows.stride(-1) == 1 else rows.contiguous()
