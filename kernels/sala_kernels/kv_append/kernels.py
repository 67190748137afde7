"""Triton kernel of `sala_kernels.kv_append`. One program writes a few rows of one head, of the keys or the values."""

from typing import Any

import triton
import triton.language as tl
from torch import Tensor

from sala_kernels.kv_quantization.kernels import quantize_tile
from sala_kernels.kv_quantization.rows import QuantizedRows
from sala_kernels.launch import launch
from sala_kernels.positions import Position
from sala_kernels.positions.kernels import load_scalar

_TILE_ELEMENTS = 2048  # numbers of a program


def append_rows(
    k: Tensor, v: Tensor, keys: Tensor | QuantizedRows, values: Tensor | QuantizedRows, *, position: Position
) -> None:
    """Launch the kernel of `sala_kernels.kv_append.append_rows`."""
    T, heads, d = k.shape
    columns = triton.next_power_of_2(max(d, v.shape[2]))
    rows = min(triton.next_power_of_2(T), max(1, _TILE_ELEMENTS // columns))
    launch(
        _append,
        (triton.cdiv(T, rows), heads, 2),
        num_warps=max(1, min(4, rows * columns // 128)),
        position=position,
        T=T,
        capacity=keys.shape[1],
        **_row_arguments("k", k, keys),
        **_row_arguments("v", v, values),
        ROWS=rows,
        COLUMNS=columns,
    )


def _row_arguments(name: str, x: Tensor, rows: Tensor | QuantizedRows) -> dict[str, Any]:
    """The kernel's arguments for the source x and the cache's rows. `name` is "k" or "v"."""
    data, scale = (rows.data, rows.scale) if isinstance(rows, QuantizedRows) else (rows, None)
    if data.stride(2) != 1:
        raise ValueError("the last dimension of a cache's rows must be contiguous")
    return {
        name: x,
        f"{name}_data": data,
        f"{name}_scale": scale,
        f"stride_{name}": x.stride(0),
        f"stride_{name}_head": x.stride(1),
        f"stride_{name}_d": x.stride(2),
        f"stride_{name}_data_head": data.stride(0),
        f"stride_{name}_data": data.stride(1),
        f"stride_{name}_scale_head": 0 if scale is None else scale.stride(0),
        f"stride_{name}_scale": 0 if scale is None else scale.stride(1),
        f"{name.upper()}_SIZE": x.shape[2],
    }


@triton.jit(do_not_specialize=["position", "T", "capacity", "stride_k_scale_head", "stride_v_scale_head"])
def _append(
    k, v, k_data, k_scale, v_data, v_scale, position, T, capacity,
    stride_k, stride_k_head, stride_k_d, stride_k_data_head, stride_k_data, stride_k_scale_head, stride_k_scale,
    stride_v, stride_v_head, stride_v_d, stride_v_data_head, stride_v_data, stride_v_scale_head, stride_v_scale,
    K_SIZE: tl.constexpr, V_SIZE: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    token = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    row = load_scalar(position) + token
    valid = (token < T) & (row >= 0) & (row < capacity)
    head = tl.program_id(1).to(tl.int64)
    if tl.program_id(2) == 0:
        k += head * stride_k_head
        k_data += head * stride_k_data_head
        if k_scale is not None:
            k_scale += head * stride_k_scale_head
        _write(
            k, k_data, k_scale, token, row, valid, stride_k, stride_k_d, stride_k_data, stride_k_scale, K_SIZE, COLUMNS
        )
    else:
        v += head * stride_v_head
        v_data += head * stride_v_data_head
        if v_scale is not None:
            v_scale += head * stride_v_scale_head
        _write(
            v, v_data, v_scale, token, row, valid, stride_v, stride_v_d, stride_v_data, stride_v_scale, V_SIZE, COLUMNS
        )


@triton.jit
def _write(
    x, data, scale, token, row, valid, stride_x, stride_d, stride_data, stride_scale,
    SIZE: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Write the tokens of one head to their rows."""
    token, row = token.to(tl.int64), row.to(tl.int64)
    column = tl.arange(0, COLUMNS)
    inside = valid[:, None] & (column < SIZE)[None, :]
    values = tl.load(x + token[:, None] * stride_x + column[None, :] * stride_d, inside, other=0.0)
    target = data + row[:, None] * stride_data + column[None, :]
    if scale is None:
        tl.store(target, values.to(data.dtype.element_ty), inside)
    else:
        stored, row_scale = quantize_tile(values.to(tl.float32), data.dtype.element_ty)
        tl.store(target, stored, inside)
        tl.store(scale + row * stride_scale, row_scale, valid)
