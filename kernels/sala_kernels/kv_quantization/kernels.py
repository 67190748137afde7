"""Triton kernels of `sala_kernels.kv_quantization`, and functions by which other kernels read quantized rows."""

import triton
import triton.language as tl
from torch import Tensor

from sala_kernels.kv_quantization import reference
from sala_kernels.kv_quantization.rows import QuantizedRows
from sala_kernels.launch import launch

FP8_UNIT = tl.constexpr(2.0**8)  # `unscaled_values` of fp8 rows are smaller by this factor
_MAX_FP8 = tl.constexpr(reference.MAX_FP8)
_MAX_INT8 = tl.constexpr(reference.MAX_INT8)
_MIN_SCALE = tl.constexpr(reference.MIN_SCALE)


def quantize_rows(x: Tensor, out: QuantizedRows) -> None:
    """Launch the kernel of `sala_kernels.kv_quantization.quantize_rows`. It reads x once and writes `out` once."""
    if x.stride(-1) != 1 or out.data.stride(-1) != 1:
        raise ValueError("the last dimension of rows must be contiguous")
    heads, n, d = x.shape
    columns = triton.next_power_of_2(d)
    rows = max(1, 2048 // columns)
    launch(
        _quantize,
        (triton.cdiv(n, rows), heads),
        num_warps=4,
        x=x,
        data=out.data,
        scale=out.scale,
        n=n,
        stride_x_head=x.stride(0),
        stride_x=x.stride(1),
        stride_data_head=out.data.stride(0),
        stride_data=out.data.stride(1),
        stride_scale_head=out.scale.stride(0),
        stride_scale=out.scale.stride(1),
        d=d,
        ROWS=rows,
        COLUMNS=columns,
    )


def dequantize_rows(rows: QuantizedRows, out: Tensor, *, first: int = 0, gap: int = 0) -> None:
    """Dequantize m rows of `rows` into `out` [kv heads, m, d], contiguous.

    Args:
        rows: the quantized rows.
        out: overwritten.
        first: the rows 0 ... first - 1 come first.
        gap: rows that are skipped after them. The next row is first + gap.
    """
    heads, m, d = out.shape
    columns = triton.next_power_of_2(d)
    tile = max(1, 2048 // columns)
    launch(
        _dequantize,
        (triton.cdiv(m, tile), heads),
        num_warps=4,
        data=rows.data,
        scale=rows.scale,
        out=out,
        m=m,
        first=first,
        gap=gap,
        stride_data_head=rows.data.stride(0),
        stride_data=rows.data.stride(1),
        stride_scale_head=rows.scale.stride(0),
        stride_scale=rows.scale.stride(1),
        d=d,
        ROWS=tile,
        COLUMNS=columns,
    )


@triton.jit(do_not_specialize=["n", "stride_scale_head"], do_not_specialize_on_alignment=["scale"])
def _quantize(
    x,
    data,
    scale,
    n,
    stride_x_head,
    stride_x,
    stride_data_head,
    stride_data,
    stride_scale_head,
    stride_scale,
    d: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    head = tl.program_id(1).to(tl.int64)
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    column = tl.arange(0, COLUMNS)
    inside = (row < n)[:, None] & (column < d)[None, :]
    values = tl.load(x + head * stride_x_head + row[:, None] * stride_x + column[None, :], inside, other=0.0)
    stored, row_scale = quantize_tile(values.to(tl.float32), data.dtype.element_ty)
    tl.store(data + head * stride_data_head + row[:, None] * stride_data + column[None, :], stored, inside)
    tl.store(scale + head * stride_scale_head + row * stride_scale, row_scale, row < n)


@triton.jit(do_not_specialize=["m", "first", "gap", "stride_scale_head"])
def _dequantize(
    data,
    scale,
    out,
    m,
    first,
    gap,
    stride_data_head,
    stride_data,
    stride_scale_head,
    stride_scale,
    d: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    head = tl.program_id(1).to(tl.int64)
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    column = tl.arange(0, COLUMNS)
    inside = (row < m)[:, None] & (column < d)[None, :]
    source = tl.where(row < first, row, row + gap)
    stored = tl.load(data + head * stride_data_head + source[:, None] * stride_data + column[None, :], inside, other=0)
    unit: tl.constexpr = FP8_UNIT if data.dtype.element_ty == tl.uint8 else 1.0
    row_scale = tl.load(scale + head * stride_scale_head + source * stride_scale, row < m, other=0.0) * unit
    values = unscaled_values(stored, tl.float32) * row_scale[:, None]
    tl.store(out + (head * m + row[:, None]) * d + column[None, :], values.to(out.dtype.element_ty), inside)


@triton.jit
def quantize_tile(values, dtype: tl.constexpr):
    """Quantize values, fp32 [rows, columns], finite, 0 in columns from d on.

    Returns the stored numbers in `dtype` (int8, or uint8 for fp8) and the scales [rows].
    """
    largest: tl.constexpr = _MAX_FP8 if dtype == tl.uint8 else _MAX_INT8
    scale = tl.maximum(tl.div_rn(tl.max(tl.abs(values), 1), largest), _MIN_SCALE)
    # correctly rounded, so the compiler cannot fuse the division with the additions that round to integers below
    steps = tl.div_rn(values, tl.zeros_like(values) + scale[:, None])
    steps = tl.minimum(tl.maximum(steps, -largest), largest)
    stored = _fp8_bits(steps) if dtype == tl.uint8 else _nearest_integer(steps).to(tl.int8)
    return stored, scale


@triton.jit
def _nearest_integer(x):
    """Round fp32 x, |x| < 2^22, to the nearest integer, ties to even. From 2^23 on, fp32 holds integers only."""
    return (x + 12582912.0) - 12582912.0  # 1.5 * 2^23


@triton.jit
def _fp8_bits(x):
    """The bits of the e4m3 number nearest to fp32 x, |x| <= 448, ties to even, as uint8."""
    bits = x.to(tl.int32, bitcast=True)
    size = tl.abs(x)
    exponent = tl.maximum((bits >> 23) & 0xFF, 121)  # 121 stands for 2^-6: below, the steps of e4m3 have one size
    step_at = ((exponent + 20) << 23).to(tl.float32, bitcast=True)  # at this size, fp32 has steps of 2^(exponent - 3)
    rounded = (size + step_at) - step_at
    half = (rounded * 0.00390625).to(tl.float16).to(tl.int16, bitcast=True)  # exact; 2^-8 shifts e4m3's bias to fp16's
    return ((half >> 7).to(tl.int32) | ((bits >> 24) & 0x80)).to(tl.uint8)


@triton.jit
def unscaled_values(x, dtype: tl.constexpr):
    """The stored numbers x of a tile of keys or values in `dtype`, without the row scales. Exact.

    The numbers of fp8 rows are divided by FP8_UNIT, which the row scales then include.
    """
    if x.dtype == tl.uint8:
        # the sign is in bits 15 and 14, of which 14 is cleared; exponent and fraction are where fp16 has them
        moved = x.to(tl.int8, bitcast=True).to(tl.int16) << 7
        return (moved & -0x4001).to(tl.float16, bitcast=True).to(dtype)
    elif x.dtype == tl.int8:
        # an integer added to the bits of 1.5 * 2^23 is added to the number: cheaper than a conversion on most GPUs
        return ((x.to(tl.int32) + 0x4B400000).to(tl.float32, bitcast=True) - 12582912.0).to(dtype)
    else:
        return x.to(dtype)
