"""Triton kernels of `sala_kernels.block_choice`: a program a query and kv head, the threshold found by bisection.

Scores are not negative, so their bits order as integers do. The least of the chosen scores is the largest integer that
as many candidates reach as there are slots: at most 31 counts over a row that stays in registers.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from sala_kernels.blocks import BlockLayout
from sala_kernels.launch import launch
from sala_kernels.positions import Position
from sala_kernels.positions.kernels import number

_LONGEST_ROW = 32768  # candidates held in registers; longer rows are read again for every count
_CHUNK = 8192  # of a longer row


def choose_blocks(scores: Tensor, *, position: Position, layout: BlockLayout) -> Tensor:
    """As `sala_kernels.block_choice.choose_blocks`."""
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
    arguments = {
        "scores": scores,
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
        "VECTORS": _rows_hold_vectors(scores),
    }
    if layout.init + width > _LONGEST_ROW:
        launch(_choose_of_long_row, (T, kv_heads), num_warps=16, CHUNK=_CHUNK, **arguments)
        return chosen
    columns = max(128, triton.next_power_of_2(layout.init + width))
    per_thread = 8 if T * kv_heads <= 64 else 64  # where rows are few, a row's time counts, else the time of all
    warps = min(16, max(1, columns // (32 * per_thread)))
    launch(
        _choose_of_row,
        (T, kv_heads),
        num_warps=warps,
        CHUNK=min(columns, 256 * warps),
        COLUMNS=columns,
        **arguments,
    )
    return chosen


def _rows_hold_vectors(scores: Tensor) -> bool:
    """Whether 16 bytes at a time can be read, up to three values more than there are blocks."""
    kv_heads, T, num_blocks = scores.shape
    if scores.stride(0) % 16 or scores.stride(1) % 16 or scores.storage_offset() % 4:
        return False
    last_row = scores.storage_offset() + (kv_heads - 1) * scores.stride(0) + (T - 1) * scores.stride(1)
    return last_row + triton.cdiv(num_blocks, 4) * 4 <= scores.untyped_storage().nbytes() // scores.element_size()


@triton.jit
def _end(position, num_blocks, BLOCK: tl.constexpr, INIT: tl.constexpr, LOCAL: tl.constexpr):
    """The block after the last that this program's query may choose; INIT if it may choose none."""
    own = (number(position) + tl.program_id(0)) // BLOCK
    return tl.maximum(tl.minimum(own - LOCAL + 1, num_blocks), INIT)


@triton.jit
def _bits(row, start, at, end, INIT: tl.constexpr, VECTORS: tl.constexpr):
    """Scores of the blocks start + at as integers of the same order; negative where there is no candidate."""
    readable = end - start
    if VECTORS:
        readable = (end + 3) // 4 * 4 - start
    score = tl.load(row + start + at, at < readable, other=-float("inf"))
    candidate = (at + (start - INIT)).to(tl.uint32) < (end - INIT).to(tl.uint32)  # no less than 0 either
    return tl.where(candidate, score.to(tl.int32, bitcast=True), -1)


@triton.jit
def _count_reached(row, end, least, INIT: tl.constexpr, VECTORS: tl.constexpr, CHUNK: tl.constexpr):
    """How many candidates of a row have `least` bits or more."""
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
    of_equal,
    INIT: tl.constexpr,
    SLOTS: tl.constexpr,
    SLOTS_PADDED: tl.constexpr,
    VECTORS: tl.constexpr,
    CHUNK: tl.constexpr,
):
    """Store the blocks above `low` and the first `of_equal` that equal it, ascending, then -1 in the slots left.

    The row is read again, in chunks: it is in the cache, and the sums along it need registers of their own.
    """
    at = tl.arange(0, CHUNK)
    above_until = 0
    equal_until = 0
    for start in range(0, end, CHUNK):
        bits = _bits(row, start, at, end, INIT, VECTORS)
        above = bits > low
        equal = bits == low
        ones = above.to(tl.int32) + (equal.to(tl.int32) << 16)  # two counts in one scan, each of CHUNK at most
        until = tl.cumsum(ones, 0)
        before = until - ones
        equal_before = equal_until + (before >> 16)
        slot = above_until + (before & 0xFFFF) + tl.minimum(equal_before, of_equal)
        tl.store(out + slot, (start + at).to(tl.int64), above | (equal & (equal_before < of_equal)))
        total = tl.max(until)
        above_until += total & 0xFFFF
        equal_until += total >> 16
    empty = tl.arange(0, SLOTS_PADDED)
    tl.store(out + empty, tl.full([SLOTS_PADDED], -1, tl.int64), (empty >= count) & (empty < SLOTS))


@triton.jit(do_not_specialize=["position", "T", "num_blocks"])
def _choose_of_row(
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
    reached = tl.sum((bits >= 0).to(tl.int32))  # by how many candidates low is reached
    count = tl.minimum(reached, SLOTS)
    low = 0  # reached by `count` candidates or more
    high = 0x7F800001  # reached by fewer: the bits of infinity and one
    while (high - low > 1) & (reached != count):
        middle = low + (high - low) // 2
        found = COLUMNS + tl.sum((bits - middle) >> 31)  # -1 for each that is less
        enough = found >= count
        low = tl.where(enough, middle, low)
        high = tl.where(enough, high, middle)
        reached = tl.where(enough, found, reached)
    of_equal = count - tl.sum((bits > low).to(tl.int32))
    out = chosen + (head * T + t) * SLOTS
    _write(row, out, end, low, count, of_equal, INIT, SLOTS, SLOTS_PADDED, VECTORS, CHUNK)


@triton.jit(do_not_specialize=["position", "T", "num_blocks"])
def _choose_of_long_row(
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
    """As `_choose_of_row`, a chunk at a time."""
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
    of_equal = count - _count_reached(row, end, low + 1, INIT, VECTORS, CHUNK)
    out = chosen + (head * T + t) * SLOTS
    _write(row, out, end, low, count, of_equal, INIT, SLOTS, SLOTS_PADDED, VECTORS, CHUNK)
