"""Triton kernels of `sala_kernels.block_choice`. One program chooses the blocks of one query and kv head.

Scores are not negative, so their bits, as integers, have the same order. The smallest chosen score is the largest
integer with at least as many candidates at or above it as there are slots. Bisection finds it with at most 31 counts
over a row of scores that stays in registers.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from sala_kernels.blocks import BlockLayout
from sala_kernels.launch import launch
from sala_kernels.positions import Position
from sala_kernels.positions.kernels import load_scalar

_LONGEST_ROW = 32768  # scores that fit in registers; a longer row is read again for every count
_CHUNK = 8192  # scores of a longer row that are read at a time


def choose_blocks(scores: Tensor, *, position: Position, layout: BlockLayout) -> Tensor:
    """Launch the kernel of `sala_kernels.block_choice.choose_blocks`."""
    kv_heads, T, num_blocks = scores.shape
    if scores.stride(2) != 1:
        scores = scores.contiguous()
    chosen = torch.empty(kv_heads, T, layout.slots, dtype=torch.int64, device=scores.device)
    end = num_blocks
    if isinstance(position, int):
        end = min(end, (position + T - 1) // layout.block - layout.local + 1)
    width = max(0, end - layout.init)
    if width == 0:
        return chosen.fill_(-1)
    if chosen.numel() == 0:
        return chosen
    rows_hold_vectors = _rows_hold_vectors(scores)
    arguments = {
        "scores": _with_whole_vectors(scores) if rows_hold_vectors else scores,
        "chosen": chosen,
        "position": position,
        "T": T,
        "num_blocks": num_blocks,
        "stride_sh": scores.stride(0),
        "stride_st": scores.stride(1),
        "BLOCK": layout.block,
        "INIT": layout.init,
        "LOCAL": layout.local,
        "SLOTS": layout.slots,
        "SLOTS_PADDED": triton.next_power_of_2(layout.slots),
        "VECTORS": rows_hold_vectors,
    }
    if layout.init + width > _LONGEST_ROW:
        launch(_choose_in_long_row, (T, kv_heads), num_warps=16, CHUNK=_CHUNK, **arguments)
        return chosen
    columns = max(128, triton.next_power_of_2(layout.init + width))
    per_thread = 8 if T * kv_heads <= 64 else 64  # few rows: least time of a row; many rows: least time of all
    warps = min(16, max(1, columns // (32 * per_thread)))
    launch(
        _choose_in_row,
        (T, kv_heads),
        num_warps=warps,
        CHUNK=min(columns, 256 * warps),
        COLUMNS=columns,
        **arguments,
    )
    return chosen


def _rows_hold_vectors(scores: Tensor) -> bool:
    """Whether rows can be read 16 bytes at a time, which reads up to three values beyond the last block."""
    kv_heads, T, num_blocks = scores.shape
    if scores.stride(0) % 16 or scores.stride(1) % 16 or scores.storage_offset() % 4:
        return False
    last_row = scores.storage_offset() + (kv_heads - 1) * scores.stride(0) + (T - 1) * scores.stride(1)
    return last_row + triton.cdiv(num_blocks, 4) * 4 <= scores.untyped_storage().nbytes() // scores.element_size()


def _with_whole_vectors(scores: Tensor) -> Tensor:
    """The scores, with the values after the last block that reading 16 bytes at a time includes."""
    kv_heads, T, num_blocks = scores.shape
    return scores.as_strided((kv_heads, T, triton.cdiv(num_blocks, 4) * 4), scores.stride())


@triton.jit
def _end(position, num_blocks, BLOCK: tl.constexpr, INIT: tl.constexpr, LOCAL: tl.constexpr):
    """End of the blocks from which this program's query chooses. They start at INIT; INIT if there are none."""
    own = (load_scalar(position) + tl.program_id(0)) // BLOCK
    return tl.maximum(tl.minimum(own - LOCAL + 1, num_blocks), INIT)


@triton.jit
def _bits(row, start, at, end, INIT: tl.constexpr, VECTORS: tl.constexpr):
    """Scores of blocks start + at as integers of the same order; negative for blocks that are no candidates."""
    readable = end - start
    if VECTORS:
        readable = (end + 3) // 4 * 4 - start
    score = tl.load(row + start + at, at < readable, other=-float("inf"))
    # unsigned, so that negative numbers are excluded too
    candidate = (at + (start - INIT)).to(tl.uint32) < (end - INIT).to(tl.uint32)
    return tl.where(candidate, score.to(tl.int32, bitcast=True), -1)


@triton.jit
def _count_reached(row, end, least, INIT: tl.constexpr, VECTORS: tl.constexpr, CHUNK: tl.constexpr):
    """How many candidates of a row have scores whose bits are at least `least`."""
    total = tl.zeros([CHUNK], tl.int32)
    for start in range(0, end, CHUNK):
        bits = _bits(row, start, tl.arange(0, CHUNK), end, INIT, VECTORS)
        total += (bits >= least).to(tl.int32)
    return tl.sum(total)


@triton.jit
def _write(
    row,
    out,
    end,
    low,
    count,
    num_ties,
    INIT: tl.constexpr,
    SLOTS: tl.constexpr,
    SLOTS_PADDED: tl.constexpr,
    VECTORS: tl.constexpr,
    CHUNK: tl.constexpr,
):
    """Store the blocks with scores above `low` and the first `num_ties` with score `low`, ascending, then -1.

    The row is read again, in chunks. It is in the cache, and the cumulative sums need the registers.
    """
    at = tl.arange(0, CHUNK)
    above_until = 0
    equal_until = 0
    for start in range(0, end, CHUNK):
        bits = _bits(row, start, at, end, INIT, VECTORS)
        above = bits > low
        equal = bits == low
        ones = above.to(tl.int32) + (equal.to(tl.int32) << 16)  # two counts in one scan, each at most CHUNK
        until = tl.cumsum(ones, 0)
        before = until - ones
        equal_before = equal_until + (before >> 16)
        slot = above_until + (before & 0xFFFF) + tl.minimum(equal_before, num_ties)
        tl.store(out + slot, (start + at).to(tl.int64), above | (equal & (equal_before < num_ties)))
        total = tl.max(until)
        above_until += total & 0xFFFF
        equal_until += total >> 16
    empty = tl.arange(0, SLOTS_PADDED)
    tl.store(out + empty, tl.full([SLOTS_PADDED], -1, tl.int64), (empty >= count) & (empty < SLOTS))


@triton.jit(do_not_specialize=["position", "T", "num_blocks"])
def _choose_in_row(
    scores,
    chosen,
    position,
    T,
    num_blocks,
    stride_sh,
    stride_st,
    BLOCK: tl.constexpr,
    INIT: tl.constexpr,
    LOCAL: tl.constexpr,
    SLOTS: tl.constexpr,
    SLOTS_PADDED: tl.constexpr,
    VECTORS: tl.constexpr,
    CHUNK: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    t = tl.program_id(0).to(tl.int64)
    head = tl.program_id(1).to(tl.int64)
    end = _end(position, num_blocks, BLOCK, INIT, LOCAL)
    row = scores + head * stride_sh + t * stride_st
    bits = _bits(row, 0, tl.arange(0, COLUMNS), end, INIT, VECTORS)
    reached = tl.sum((bits >= 0).to(tl.int32))  # candidates that reach `low`
    count = tl.minimum(reached, SLOTS)
    low = 0  # at least `count` candidates reach it
    high = 0x7F800001  # fewer reach it: the bits of infinity, plus one
    while (high - low > 1) & (reached != count):
        middle = low + (high - low) // 2
        found = COLUMNS + tl.sum((bits - middle) >> 31)  # each score below `middle` adds -1
        enough = found >= count
        low = tl.where(enough, middle, low)
        high = tl.where(enough, high, middle)
        reached = tl.where(enough, found, reached)
    num_ties = count - tl.sum((bits > low).to(tl.int32))
    out = chosen + (head * T + t) * SLOTS
    _write(row, out, end, low, count, num_ties, INIT, SLOTS, SLOTS_PADDED, VECTORS, CHUNK)


@triton.jit(do_not_specialize=["position", "T", "num_blocks"])
def _choose_in_long_row(
    scores,
    chosen,
    position,
    T,
    num_blocks,
    stride_sh,
    stride_st,
    BLOCK: tl.constexpr,
    INIT: tl.constexpr,
    LOCAL: tl.constexpr,
    SLOTS: tl.constexpr,
    SLOTS_PADDED: tl.constexpr,
    VECTORS: tl.constexpr,
    CHUNK: tl.constexpr,
):
    """As `_choose_in_row`, for a row that is read in chunks."""
    t = tl.program_id(0).to(tl.int64)
    head = tl.program_id(1).to(tl.int64)
    end = _end(position, num_blocks, BLOCK, INIT, LOCAL)
    row = scores + head * stride_sh + t * stride_st
    reached = _count_reached(row, end, 0, INIT, VECTORS, CHUNK)
    count = tl.minimum(reached, SLOTS)
    low = 0
    high = 0x7F800001
    while (high - low > 1) & (reached != count):
        middle = low + (high - low) // 2
        found = _count_reached(row, end, middle, INIT, VECTORS, CHUNK)
        enough = found >= count
        low = tl.where(enough, middle, low)
        high = tl.where(enough, high, middle)
        reached = tl.where(enough, found, reached)
    num_ties = count - _count_reached(row, end, low + 1, INIT, VECTORS, CHUNK)
    out = chosen + (head * T + t) * SLOTS
    _write(row, out, end, low, count, num_ties, INIT, SLOTS, SLOTS_PADDED, VECTORS, CHUNK)
