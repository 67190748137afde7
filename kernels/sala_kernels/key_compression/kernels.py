"""Triton kernel of `sala_kernels.key_compression`. One program computes a few windows of one head, strip by strip."""

import triton
import triton.language as tl
from torch import Tensor

from sala_kernels.kv_quantization.kernels import FP8_UNIT, unscaled_values
from sala_kernels.kv_quantization.rows import QuantizedRows
from sala_kernels.launch import launch
from sala_kernels.positions import Position
from sala_kernels.positions.kernels import load_scalar


def compress_keys_into(keys: Tensor | QuantizedRows, out: Tensor, *, first: int, size: int, stride: int) -> None:
    """Launch the kernel of `sala_kernels.key_compression.compress_keys_into`."""
    _launch(keys, out, None, first, out.shape[1], size, stride)


def compress_new_keys(
    keys: Tensor | QuantizedRows, out: Tensor, *, position: Position, num_tokens: int, size: int, stride: int
) -> None:
    """Launch the kernel of `sala_kernels.key_compression.compress_new_keys`.

    The grid covers the most windows that `num_tokens` tokens can complete.
    """
    _launch(keys, out, position, num_tokens, triton.cdiv(num_tokens, stride), size, stride)


def _launch(
    keys: Tensor | QuantizedRows,
    out: Tensor,
    position: Position | None,
    first: int,
    max_windows: int,
    size: int,
    stride: int,
) -> None:
    """Launch the kernel for up to `max_windows` windows.

    first: index of the window in row 0 of out or, with a position, the number of new tokens.
    """
    data, scale = (keys.data, keys.scale) if isinstance(keys, QuantizedRows) else (keys, None)
    kv_heads, num_rows, d = out.shape
    columns = triton.next_power_of_2(d)
    rows = max(1, 512 // columns)
    launch(
        _mean_windows,
        (triton.cdiv(max_windows, rows), kv_heads),
        num_warps=2,
        keys=data,
        scale=scale,
        out=out,
        position=position,
        first=first,
        num_rows=num_rows,
        stride_kh=data.stride(0),
        stride_kn=data.stride(1),
        stride_kd=data.stride(2),
        stride_sh=0 if scale is None else scale.stride(0),
        stride_sn=0 if scale is None else scale.stride(1),
        stride_oh=out.stride(0),
        stride_on=out.stride(1),
        stride_od=out.stride(2),
        d=d,
        SIZE=size,
        STRIDE=stride,
        ROWS=rows,
        COLUMNS=columns,
    )


@triton.jit
def _num_windows(tokens, SIZE: tl.constexpr, STRIDE: tl.constexpr):
    return tl.where(tokens >= SIZE, (tokens - SIZE) // STRIDE + 1, 0)


@triton.jit(do_not_specialize=["position", "first", "num_rows", "stride_sh"])
def _mean_windows(
    keys,
    scale,
    out,
    position,
    first,
    num_rows,
    stride_kh,
    stride_kn,
    stride_kd,
    stride_sh,
    stride_sn,
    stride_oh,
    stride_on,
    stride_od,
    d: tl.constexpr,
    SIZE: tl.constexpr,
    STRIDE: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Compute ROWS windows of one head.

    Without a position, they are rows of out, and row 0 is window `first`. With a position, they are windows that the
    `first` tokens from there on complete, and window j goes to row j.
    """
    head = tl.program_id(1).to(tl.int64)
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    if position is None:
        window = first + row
        valid = row < num_rows
        num_strips = SIZE // STRIDE
    else:
        before = _num_windows(load_scalar(position), SIZE, STRIDE)
        until = tl.minimum(_num_windows(load_scalar(position) + first, SIZE, STRIDE), num_rows)
        row += before
        window = row
        valid = row < until
        num_strips = tl.where(before + tl.program_id(0) * ROWS < until, SIZE // STRIDE, 0)
    column = tl.arange(0, COLUMNS)
    inside = valid[:, None] & (column < d)[None, :]
    token = window.to(tl.int64) * STRIDE
    start = keys + head * stride_kh + token[:, None] * stride_kn + column[None, :] * stride_kd
    unit: tl.constexpr = FP8_UNIT if keys.dtype.element_ty == tl.uint8 else 1.0
    if scale is not None:
        scale += head * stride_sh + token * stride_sn
    total = tl.zeros([ROWS, COLUMNS], tl.float32)
    # The additions of an element have this order whatever the tile is. So a window has the same bits in every call.
    for strip in range(num_strips):
        strip_sum = tl.zeros([ROWS, COLUMNS], tl.float32)
        for i in tl.static_range(STRIDE):
            offset = tl.cast(strip * STRIDE + i, tl.int64)
            stored = tl.load(start + offset * stride_kn, inside, other=0)
            if scale is not None:
                row_scale = tl.load(scale + offset * stride_sn, valid, other=0.0) * unit
                strip_sum = tl.fma(unscaled_values(stored, tl.float32), row_scale[:, None], strip_sum)
            else:
                strip_sum += stored.to(tl.float32)
        total += strip_sum
    mean = tl.div_rn(total, SIZE * 1.0)
    target = out + head * stride_oh + row.to(tl.int64)[:, None] * stride_on + column[None, :] * stride_od
    tl.store(target, mean.to(out.dtype.element_ty), inside)
