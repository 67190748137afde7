"""Keys and values quantized to one byte a number, with one scale for each token and head."""

import torch
from torch import Tensor

from sala_kernels.backend import Backend, use_triton
from sala_kernels.kv_quantization import reference
from sala_kernels.kv_quantization.rows import Kind, QuantizedRows

__all__ = ["Kind", "QuantizedRows", "dequantize_rows", "quantize_rows"]


def quantize_rows(
    x: Tensor, kind: Kind, out: QuantizedRows | None = None, *, backend: Backend = "auto"
) -> QuantizedRows:
    """Quantize every row x[head, token] to one-byte numbers with a scale of its own. Returns the quantized rows.

    "int8" has 127 steps on either side of zero and scale = max|x| / 127. "fp8" is e4m3 with 4 significant bits and
    scale = max|x| / 448. Both round to nearest, ties to even. Rows of zeros stay zeros.
    Raises ValueError if kind is unknown, or if `out` has another shape or kind.

    Args:
        x: [kv heads, n, d], finite, with a contiguous last dimension.
        kind: "int8" or "fp8".
        out: rows to overwrite, of x's shape and this kind, for example rows of a cache. None allocates them.
        backend: see `sala_kernels.backend.use_triton`.
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
    """Return the values of quantized rows, [kv heads, n, d] contiguous: multiplied in float32, rounded to `dtype`."""
    if use_triton(backend, rows.data, rows.scale):
        from sala_kernels.kv_quantization import kernels

        out = torch.empty(rows.shape, dtype=dtype, device=rows.data.device)
        kernels.dequantize_rows(rows, out)
        return out
    return reference.dequantize_rows(rows, dtype)
