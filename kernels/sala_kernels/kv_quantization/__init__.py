"""Keys and values in one byte an element, with one scale for each token and head."""

import torch
from torch import Tensor

from sala_kernels.backend import Backend, use_triton
from sala_kernels.kv_quantization import reference
from sala_kernels.kv_quantization.rows import Kind, QuantizedRows

__all__ = ["Kind", "QuantizedRows", "dequantize_rows", "quantize_rows"]


def quantize_rows(
    x: Tensor, kind: Kind, out: QuantizedRows | None = None, *, backend: Backend = "auto"
) -> QuantizedRows:
    """Round every row x[head, token] to one-byte numbers times a scale of its own.

    x: [kv heads, n, d], any strides but 1 in d; kind: "int8" (127 steps either side, scale = max|x| / 127) or "fp8"
    (e4m3: 4 significant bits, scale = max|x| / 448). Both round to the nearest, ties to even; x must be finite. Rows
    of zeros stay zeros.
    out: where to write, of x's shape and this kind, such as rows of a cache; made if None. Returns it.
    Raises ValueError if kind is unknown, or `out` has another shape or kind.
    """
    if kind not in ("int8", "fp8"):
        raise ValueError(f"unknown kind of quantization {kind!r}; choose int8 or fp8")
    if out is None:
        out = QuantizedRows.empty(x.shape, kind, x.device)
    if out.shape != x.shape or out.kind != kind:
        raise ValueError(f"rows {list(x.shape)} as {kind} do not fit into {list(out.shape)} of {out.kind}")
    if use_triton(backend, x, out.data, out.scale):
        from sala_kernels.kv_quantization import kernels

        kernels.quantize_rows(x, out)
    else:
        reference.quantize_rows(x, out)
    return out


def dequantize_rows(rows: QuantizedRows, dtype: torch.dtype = torch.float32, *, backend: Backend = "auto") -> Tensor:
    """The numbers that quantized rows stand for: multiplied in float32, then rounded to `dtype`.

    Returns [kv heads, n, d], contiguous.
    """
    if use_triton(backend, rows.data, rows.scale):
        from sala_kernels.kv_quantization import kernels

        out = torch.empty(rows.shape, dtype=dtype, device=rows.data.device)
        kernels.dequantize_rows(rows, out)
        return out
    return reference.dequantize_rows(rows, dtype)
