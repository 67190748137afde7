"""Choose and launch the kernel of `sala_kernels.int4_linear` by the number of rows of x.

1 row: a GEMV on the CUDA cores, in one launch. A second row would need another pass over W. Tensor cores compute 16
rows in the time of one, in two launches if W has few outputs.
Up to MAX_FUSED_ROWS: a fused GEMM, which unpacks W on its way into the tensor cores, once for each tile of rows.
More rows: W is dequantized once, and torch multiplies. For the largest matrix, 4096 x 16384, this writes and reads
170 MB, which takes 0.04 ms on an H200 and 0.17 ms on a 4090. The product of 512 rows takes 0.10 ms and 0.42 ms. From
there on, torch's faster product outweighs the dequantization, which takes 3 to 4 percent of the time at 8,192 rows.
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
_MAX_SCRATCH_NUMBERS = 1 << 26  # 128 MiB in bf16: the largest matrix of a layer in one piece


def int4_linear(x: Tensor, matrix: Int4Matrix) -> Tensor:
    """Launch the kernel of `sala_kernels.int4_linear.int4_linear`."""
    rows = _rows(x)
    out = torch.empty(rows.shape[0], matrix.shape[0], dtype=x.dtype, device=x.device)
    if rows.shape[0] <= MAX_GEMV_ROWS:
        gemv(rows, matrix, None, out)
    elif rows.shape[0] <= MAX_FUSED_ROWS:
        fused_linear(rows, matrix, out)
    else:
        dequantized_linear(rows, matrix, out)
    return out.view(*x.shape[:-1], out.shape[1])


def int4_swiglu(x: Tensor, gate: Int4Matrix, up: Int4Matrix) -> Tensor:
    """Launch the kernel of `sala_kernels.int4_linear.int4_swiglu`."""
    rows = _rows(x)
    fusible = gate.group_size == up.group_size and gate.inputs is None and up.inputs is None
    if not fusible or rows.shape[0] > MAX_FUSED_SWIGLU_ROWS:
        return swiglu(int4_linear(x, gate), int4_linear(x, up), backend="triton")
    out = torch.empty(rows.shape[0], gate.shape[0], dtype=x.dtype, device=x.device)
    if rows.shape[0] <= MAX_GEMV_ROWS:
        gemv(rows, gate, up, out)
    else:
        gemm(rows, gate, up, out)
    return out.view(*x.shape[:-1], out.shape[1])


def int4_dequantize(matrix: Int4Matrix, dtype: torch.dtype) -> Tensor:
    """Launch the kernel of `sala_kernels.int4_linear.int4_dequantize`."""
    out = torch.empty(matrix.shape, dtype=dtype, device=matrix.device)
    dequantize(matrix, out, 0)
    return out


def fused_linear(rows: Tensor, matrix: Int4Matrix, out: Tensor) -> None:
    """Write rows [M, in] W^T to out [M, out] by the fused GEMM, for any M."""
    gemm(rows if matrix.inputs is None else gather(rows, matrix.inputs), matrix, None, out)


def dequantized_linear(rows: Tensor, matrix: Int4Matrix, out: Tensor) -> None:
    """Write rows [M, in] W^T to out [M, out] by torch, from dequantized rows of W in x's dtype, some at a time."""
    num_out, num_in = matrix.shape
    step = max(1, _MAX_SCRATCH_NUMBERS // max(1, num_in))
    scratch = torch.empty(min(step, num_out), num_in, dtype=rows.dtype, device=rows.device)
    for first in range(0, num_out, step):
        part = scratch[: min(step, num_out - first)]
        dequantize(matrix, part, first)
        torch.mm(rows, part.T, out=out[:, first : first + step])


def _rows(x: Tensor) -> Tensor:
    """x as [M, in] with contiguous columns. Rows may be strided."""
    rows = x.reshape(x.shape[:-1].numel(), x.shape[-1])
    return rows if rows.stride(-1) == 1 else rows.contiguous()
