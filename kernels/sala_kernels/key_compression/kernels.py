"""Triton kernel of `sala_kernels.key_compression`: a program a few windows, read strip by strip."""

import triton
import triton.language as tl
from torch import Tensor

from sala_kernels.kv_quantization.rows import QuantizedRows
from sala_kernels.launch import launch
from sala_kernels.positions import Position


def compress_keys_into(keys: Tensor | QuantizedRows, out: Tensor, *, first: int, size: int, stride: int) -> None:
    """As `sala_kernels.key_compression.compress_keys_into`."""
    kv_heads, count, d = out.shape
    columns = triton.next_power_of_2(d)
    rows = max(1, 512 // columns)
    launch(
        _mean_windows,
        (triton.cdiv(count, rows), kv_heads),
        num_warps=2,
        keys=keys,
        out=out,
        first=first,
        count=count,
        stride_kh=keys.stride(0),
        stride_kn=keys.stride(1),
        stride_kd=keys.stride(2),
        stride_oh=out.stride(0),
        stride_on=out.stride(1),
        stride_od=out.stride(2),
        d=d,
        SIZE=size,
        STRIDE=stride,
        ROWS=rows,
        COLUMNS=columns,
    )


def compress_new_keys(
    keys: Tensor | QuantizedRows, out: Tensor, *, position: Position, num_tokens: int, size: int, stride: int
) -> None:
    """As `sala_kernels.key_compression.compress_new_keys`."""
    raise NotImplementedError


@triton.jit(do_not_specialize=["first", "count"])
def _mean_windows(
    keys,
    out,
    first,
    count,
    stride_kh,
    stride_kn,
    stride_kd,
    stride_oh,
    stride_on,
    stride_od,
    d: tl.constexpr,
    SIZE: tl.constexpr,
    STRIDE: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    head = tl.program_id(1).to(tl.int64)
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)  # of out
    column = tl.arange(0, COLUMNS)
    inside = (row < count)[:, None] & (column < d)[None, :]
    start = keys + head * stride_kh + (first + row)[:, None] * (STRIDE * stride_kn) + column[None, :] * stride_kd
    total = tl.zeros([ROWS, COLUMNS], tl.float32)
    # One element is one chain of additions in this order, whatever the tile: a window has the same bits wherever made.
    for strip in range(SIZE // STRIDE):
        strip_sum = tl.zeros([ROWS, COLUMNS], tl.float32)
        for token in tl.static_range(STRIDE):
            offset = tl.cast(strip * STRIDE + token, tl.int64) * stride_kn
            strip_sum += tl.load(start + offset, inside, other=0.0).to(tl.float32)
        total += strip_sum
    mean = tl.div_rn(total, SIZE * 1.0)
    target = out + head * stride_oh + row[:, None] * stride_on + column[None, :] * stride_od
    tl.store(target, mean.to(out.dtype.element_ty), inside)
