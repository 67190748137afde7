"""What the decode and prefill kernels of `sala_kernels.block_scores` have in common: arguments and device functions."""

from typing import Any

import triton
import triton.language as tl
from torch import Tensor

from sala_kernels.blocks import BlockLayout
from sala_kernels.positions import Position


def query_arguments(
    q: Tensor, kv_heads: int, *, position: Position, scale_log2: float, layout: BlockLayout
) -> dict[str, Any]:
    """The arguments of both passes for the queries q [T, H, d]. scale_log2: scale * log2(e)."""
    T, H, d = q.shape
    return {
        "position": position,
        "T": T,
        "scale_log2": scale_log2,
        "stride_qt": q.stride(0),
        "stride_qh": q.stride(1),
        "stride_qd": q.stride(2),
        "G": H // kv_heads,
        "d": d,
        "D": max(16, triton.next_power_of_2(d)),
        "STRIDE": layout.stride,
    }


def key_strides(pooled: Tensor) -> dict[str, int]:
    """The strides of pooled keys [kv heads, N, d]."""
    return {"stride_kh": pooled.stride(0), "stride_kn": pooled.stride(1), "stride_kd": pooled.stride(2)}


def block_arguments(k1: Tensor, out: Tensor, layout: BlockLayout, *, windows: int) -> dict[str, Any]:
    """The second pass's arguments for the fine windows k1, the scores `out` and tiles of `windows` windows."""
    per_block = layout.block // layout.stride
    padded = triton.next_power_of_2(per_block)
    return {
        "k1": k1,
        "out": out,
        "n1": k1.shape[1],
        "num_blocks": out.shape[2],
        "stride_oh": out.stride(0),
        "stride_ot": out.stride(1),
        **key_strides(k1),
        "PER_BLOCK": per_block,
        "PADDED": padded,
        "SLOTS": max(2, windows // padded),
    }


@triton.jit
def load_windows(k, window, valid, column, stride_kn, stride_kd, d: tl.constexpr):
    """Pooled keys k of one kv head, [windows, columns], 0 where not valid and in columns from d on."""
    return tl.load(
        k + window.to(tl.int64)[:, None] * stride_kn + column[None, :] * stride_kd,
        valid[:, None] & (column < d)[None, :],
        other=0.0,
    )


@triton.jit
def tile_windows(AXIS: tl.constexpr, SLOTS: tl.constexpr, PADDED: tl.constexpr, PER_BLOCK: tl.constexpr):
    """The fine windows of a tile of SLOTS - 1 blocks, [SLOTS * PADDED], and which of them the tile needs.

    The program's index along AXIS is that of the tile. A slot holds the windows of one block. Slot 0 is the block
    before the tile: only its last window is needed, which overlaps the tile's first block.
    """
    at = tl.arange(0, SLOTS * PADDED)
    within = at % PADDED
    window = (tl.program_id(AXIS) * (SLOTS - 1) - 1 + at // PADDED) * PER_BLOCK + within
    return window, (at >= PER_BLOCK - 1) & (within < PER_BLOCK) & (window >= 0)


@triton.jit
def pool(p, ROWS: tl.constexpr, SLOTS: tl.constexpr, PADDED: tl.constexpr, PER_BLOCK: tl.constexpr):
    """Scores of blocks [ROWS, SLOTS] from scores of windows p [ROWS, SLOTS * PADDED].

    p is 0 for windows that are not scored. The score of a slot is the maximum over its windows and the last window of
    the slot before it, of which slot 0 has none.
    """
    windows = tl.reshape(p, [ROWS, SLOTS, PADDED])
    is_last = (tl.arange(0, PADDED) == PER_BLOCK - 1)[None, None, :]
    last = tl.sum(tl.where(is_last, windows, 0.0), 2)
    before = tl.maximum(tl.arange(0, SLOTS) - 1, 0)
    last_before = tl.gather(last, tl.broadcast_to(before[None, :], [ROWS, SLOTS]), 1)
    return tl.maximum(tl.max(windows, 2), last_before)


@triton.jit
def log2_sum(top, total, empty: tl.constexpr):
    """The base-2 logarithm of the sum total * exp2(top); `empty` if nothing was added."""
    some = total > 0
    return tl.where(some, top + tl.log2(tl.where(some, total, 1.0)), empty)


@triton.jit
def merged(parts, axis: tl.constexpr, empty: tl.constexpr):
    """log2 of the sum of exp2(parts) over an axis; `empty` if all are -inf."""
    top = tl.max(parts, axis)
    finite_top = tl.where(top == -float("inf"), 0.0, top)
    total = tl.sum(tl.exp2(parts - tl.expand_dims(finite_top, axis)), axis)
    return log2_sum(finite_top, total, empty)
