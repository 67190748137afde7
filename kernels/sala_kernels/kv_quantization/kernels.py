"""Triton kernels of `sala_kernels.kv_quantization`, and the reading of quantized rows inside other kernels."""

import triton
import triton.language as tl
from torch import Tensor

from sala_kernels.kv_quantization import reference
from sala_kernels.kv_quantization.rows import QuantizedRows
from sala_kernels.launch import launch

FP8_UNIT = tl.constexpr(2.0**8)  # `stored_numbers` of fp8 rows are smaller by this
_MAX_FP8 = tl.constexpr(reference.MAX_FP8)
_MAX_INT8 = tl.constexpr(reference.MAX_INT8)
_MIN_SCALE = tl.constexpr(reference.MIN_SCALE)


def quantize_rows(x: Tensor, out: QuantizedRows) -> None:
    """As `sala_kernels.kv_quantization.quantize_rows`, into `out`: one launch, read once and written once."""
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
    """Into `out` [kv heads, m, d], contiguous: of `rows` the first `first` ones, then those `gap` further on."""
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


@triton.jit
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
    stored, row_scale = quantized(values.to(tl.float32), data.dtype.element_ty)
    tl.store(data + head * stride_data_head + row[:, None] * stride_data + column[None, :], stored, inside)
    tl.store(scale + head * stride_scale_head + row * stride_scale, row_scale, row < n)


@triton.jit
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
    values = stored_numbers(stored, tl.float32) * row_scale[:, None]
    tl.store(out + (head * m + row[:, None]) * d + column[None, :], values.to(out.dtype.element_ty), inside)


@triton.jit
def quantized(values, dtype: tl.constexpr):
    """fp32 [rows, d], finite, zeros behind d: what is stored of them, in `dtype`, and the scales of the rows."""
    largest: tl.constexpr = _MAX_FP8 if dtype == tl.uint8 else _MAX_INT8
    scale = tl.maximum(tl.div_rn(tl.max(tl.abs(values), 1), largest), _MIN_SCALE)
    # a correctly rounded division: no compiler can fuse it with the additions that round to integers below
    steps = tl.div_rn(values, tl.zeros_like(values) + scale[:, None])
    steps = tl.minimum(tl.maximum(steps, -largest), largest)
    stored = _fp8_bits(steps) if dtype == tl.uint8 else _nearest_integer(steps).to(tl.int8)
    return stored, scale


@triton.jit
def _nearest_integer(x):
    """fp32, |x| < 2^22, to the nearest integer, ties to even: beyond 2^23 fp32 holds integers only."""
    return (x + 12582912.0) - 12582912.0  # 1.5 * 2^23


@triton.jit
def _fp8_bits(x):
    """fp32, |x| <= 448, to the bits of the nearest e4m3 number, ties to even, as uint8."""
    bits = x.to(tl.int32, bitcast=True)
    size = tl.abs(x)
    exponent = tl.maximum((bits >> 23) & 0xFF, 121)  # 121: 2^-6, below which steps shrink no more
    step_at = ((exponent + 20) << 23).to(tl.float32, bitcast=True)  # fp32 near it moves by 2^(exponent - 3)
    rounded = (size + step_at) - step_at
    half = (rounded * 0.00390625).to(tl.float16).to(tl.int16, bitcast=True)  # exact; 2^-8 shifts e4m3's bias to fp16's
    return ((half >> 7).to(tl.int32) | ((bits >> 24) & 0x80)).to(tl.uint8)


@triton.jit
def stored_numbers(x, dtype: tl.constexpr):
    """What a tile of keys or values holds, in `dtype`, scales not applied; fp8's are 1 / FP8_UNIT of theirs. Exact."""
    if x.dtype == tl.uint8:
        moved = (
            x.to(tl.int8, bitcast=True).to(tl.int16) << 7
        )  # sign (twice), then exponent and fraction in fp16's places
        return (moved & -0x4001).to(tl.float16, bitcast=True).to(dtype)
    elif x.dtype == tl.int8:
        # an integer added to the bits of 1.5 * 2^23 is added to the number: cheaper than a conversion on most cards
        return ((x.to(tl.int32) + 0x4B400000).to(tl.float32, bitcast=True) - 12582912.0).to(dtype)
    else:
        return x.to(dtype)
