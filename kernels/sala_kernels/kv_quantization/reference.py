"""The definition of `sala_kernels.kv_quantization` in PyTorch."""

import torch
from torch import Tensor

from sala_kernels.kv_quantization.rows import QuantizedRows

MAX_INT8 = 127.0
MAX_FP8 = 448.0  # the largest finite e4m3 number
MIN_SCALE = 2.0**-100  # scale of a row of zeros


def quantize_rows(x: Tensor, out: QuantizedRows) -> None:
    """The definition of `sala_kernels.kv_quantization.quantize_rows`. `out` is overwritten."""
    largest = MAX_INT8 if out.kind == "int8" else MAX_FP8
    wide = x.float()
    most = wide.abs().amax(-1)
    # divided by a tensor: CUDA turns a division by a scalar into a product, which has other bits
    scale = (most / torch.full_like(most, largest)).clamp(min=MIN_SCALE)
    steps = (wide / scale[..., None]).clamp(-largest, largest)
    out.scale.copy_(scale)
    if out.kind == "int8":
        out.data.copy_(steps.round())
    else:
        out.data.copy_(steps.to(torch.float8_e4m3fn).view(torch.uint8))


def dequantize_rows(rows: QuantizedRows, dtype: torch.dtype) -> Tensor:
    """The definition of `sala_kernels.kv_quantization.dequantize_rows`."""
    data = rows.data if rows.kind == "int8" else rows.data.view(torch.float8_e4m3fn)
    return (data.float() * rows.scale[..., None]).to(dtype)
