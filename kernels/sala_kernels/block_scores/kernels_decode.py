"""Triton kernels of `sala_kernels.block_scores` for few queries: all their heads in one tile, split over the keys.

A query's bits depend on its position alone: tiles have one shape however many queries there are, and tile i of the
coarse windows belongs to split i mod 64 however many rows are given.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from sala_kernels.blocks import BlockLayout
from sala_kernels.launch import launch
from sala_kernels.positions import Position
from sala_kernels.positions.kernels import number

_ROWS = 32  # query heads times queries of a program
_SPLITS = 64  # of a kv head's coarse windows: every program of the second pass reads all their results
_WINDOWS = 64  # of a tile


def score_few(
    q: Tensor, k1: Tensor, k2: Tensor, out: Tensor, *, position: Position, scale_log2: float, layout: BlockLayout
) -> None:
    """Fill out [kv heads, T, blocks]; k1 and k2 hold at least what the last query sees, scale_log2 is scale * log2(e).

    The grids are those of all rows given; programs whose windows no query sees load none.
    """
    T, H, d = q.shape
    kv_heads, _, num_blocks = out.shape
    n2, G = k2.shape[1], H // kv_heads
    heads = triton.next_power_of_2(G)
    queries = max(1, _ROWS // heads)
    columns = max(16, triton.next_power_of_2(d))
    warps = 8 if q.element_size() == 4 else 4  # no tensor cores: the operands lie in registers
    splits = max(1, min(_SPLITS, triton.cdiv(n2, _WINDOWS)))
    parts = torch.empty(kv_heads, T, G, splits, dtype=torch.float32, device=q.device)
    shape = {
        "position": position,
        "T": T,
        "scale_log2": scale_log2,
        "stride_qt": q.stride(0),
        "stride_qh": q.stride(1),
        "stride_qd": q.stride(2),
        "G": G,
        "d": d,
        "D": columns,
        "STRIDE": layout.stride,
        "QUERIES": queries,
        "HEADS": heads,
    }
    query_tiles = triton.cdiv(T, queries)
    launch(
        _few_coarse_sums,
        (query_tiles, splits, kv_heads),  # programs of the same keys one after another: they lie in the L2 cache
        num_warps=warps,
        num_stages=3 if columns <= 128 else 2,
        q=q,
        k2=k2,
        parts=parts,
        n2=n2,
        splits=splits,
        stride_kh=k2.stride(0),
        stride_kn=k2.stride(1),
        stride_kd=k2.stride(2),
        WINDOWS=_WINDOWS,
        **shape,
    )
    per_block = layout.block // layout.stride
    padded = triton.next_power_of_2(per_block)
    slots = max(2, _WINDOWS // padded)
    launch(
        _few_score_blocks,
        (query_tiles, triton.cdiv(num_blocks, slots - 1), kv_heads),
        num_warps=warps,
        num_stages=1,
        q=q,
        k1=k1,
        parts=parts,
        out=out,
        n1=k1.shape[1],
        num_blocks=num_blocks,
        splits=splits,
        stride_oh=out.stride(0),
        stride_ot=out.stride(1),
        stride_kh=k1.stride(0),
        stride_kn=k1.stride(1),
        stride_kd=k1.stride(2),
        PER_BLOCK=per_block,
        PADDED=padded,
        SLOTS=slots,
        SPLITS=triton.next_power_of_2(_SPLITS),
        **shape,
    )


@triton.jit
def log2_sum(top, total, empty: tl.constexpr):
    """The logarithm of a sum of powers kept as total * exp2(top); `empty` where nothing was added."""
    some = total > 0
    return tl.where(some, top + tl.log2(tl.where(some, total, 1.0)), empty)


@triton.jit
def merged(parts, axis: tl.constexpr, empty: tl.constexpr):
    """log2 of the sum of exp2(parts) over an axis; `empty` where all are -inf."""
    top = tl.max(parts, axis)
    safe = tl.where(top == -float("inf"), 0.0, top)
    total = tl.sum(tl.exp2(parts - tl.expand_dims(safe, axis)), axis)
    return log2_sum(safe, total, empty)


@triton.jit
def pool(p, ROWS: tl.constexpr, SLOTS: tl.constexpr, PADDED: tl.constexpr, PER_BLOCK: tl.constexpr):
    """The best window of each block and of the one that reaches into it: [ROWS, SLOTS * PADDED] -> [ROWS, SLOTS].

    Windows of a slot beyond PER_BLOCK are 0. Slot 0 gives its last window to slot 1 and gets none itself.
    """
    windows = tl.reshape(p, [ROWS, SLOTS, PADDED])
    is_last = (tl.arange(0, PADDED) == PER_BLOCK - 1)[None, None, :]
    last = tl.sum(tl.where(is_last, windows, 0.0), 2)
    before = tl.maximum(tl.arange(0, SLOTS) - 1, 0)
    reaching = tl.gather(last, tl.broadcast_to(before[None, :], [ROWS, SLOTS]), 1)
    return tl.maximum(tl.max(windows, 2), reaching)


@triton.jit(do_not_specialize=["position", "T", "n2", "splits"])
def _few_coarse_sums(
    q,
    k2,
    parts,
    position,
    T,
    n2,
    splits,
    scale_log2,
    stride_qt,
    stride_qh,
    stride_qd,
    stride_kh,
    stride_kn,
    stride_kd,
    G: tl.constexpr,
    d: tl.constexpr,
    D: tl.constexpr,
    STRIDE: tl.constexpr,
    QUERIES: tl.constexpr,
    HEADS: tl.constexpr,
    WINDOWS: tl.constexpr,
):
    """parts[kv head, t, head, split] = log2 sum exp2 over the split's windows seen, -inf where none is."""
    split = tl.program_id(1)
    kv_head = tl.program_id(2).to(tl.int64)
    row = tl.arange(0, QUERIES * HEADS)
    t = tl.program_id(0) * QUERIES + row // HEADS
    head = row % HEADS
    there = (t < T) & (head < G)
    column = tl.arange(0, D)
    q_row = q + t.to(tl.int64) * stride_qt + (kv_head * G + head) * stride_qh
    x = tl.load(q_row[:, None] + column[None, :] * stride_qd, there[:, None] & (column < d)[None, :], other=0.0)
    at = tl.arange(0, WINDOWS)
    tokens = number(position) + t + 1
    all_tokens = number(position) + tl.minimum(tl.program_id(0) * QUERIES + QUERIES, T)
    end = tl.minimum(all_tokens // (4 * STRIDE) - 1, n2)  # windows that the last query sees
    top = tl.full([QUERIES * HEADS], -float("inf"), tl.float32)
    total = tl.zeros([QUERIES * HEADS], tl.float32)
    for start in range(split * WINDOWS, end, splits * WINDOWS):
        window = start + at
        k = tl.load(
            k2 + kv_head * stride_kh + window.to(tl.int64)[:, None] * stride_kn + column[None, :] * stride_kd,
            (window < end)[:, None] & (column < d)[None, :],
            other=0.0,
        )
        s = tl.dot(x, tl.trans(k), input_precision="ieee") * scale_log2
        seen = ((window + 2) * (4 * STRIDE))[None, :] <= tokens[:, None]
        s = tl.where(seen & (window < end)[None, :], s, -float("inf"))
        higher = tl.maximum(top, tl.max(s, 1))
        safe = tl.where(higher == -float("inf"), 0.0, higher)
        total = total * tl.exp2(top - safe) + tl.sum(tl.exp2(s - safe[:, None]), 1)
        top = higher
    part = log2_sum(top, total, -float("inf"))
    tl.store(parts + ((kv_head * T + t) * G + head) * splits + split, part, there)


@triton.jit(do_not_specialize=["position", "T", "n1", "num_blocks", "splits"])
def _few_score_blocks(
    q,
    k1,
    parts,
    out,
    position,
    T,
    n1,
    num_blocks,
    splits,
    scale_log2,
    stride_oh,
    stride_ot,
    stride_qt,
    stride_qh,
    stride_qd,
    stride_kh,
    stride_kn,
    stride_kd,
    G: tl.constexpr,
    d: tl.constexpr,
    D: tl.constexpr,
    STRIDE: tl.constexpr,
    QUERIES: tl.constexpr,
    HEADS: tl.constexpr,
    PER_BLOCK: tl.constexpr,
    PADDED: tl.constexpr,
    SLOTS: tl.constexpr,
    SPLITS: tl.constexpr,
):
    """As `_score_blocks`: a tile of blocks, for all heads of a few queries at once; 0 where nothing is seen."""
    first_query, tile = tl.program_id(0) * QUERIES, tl.program_id(1)
    kv_head = tl.program_id(2).to(tl.int64)
    query = first_query + tl.arange(0, QUERIES)
    tokens = number(position) + query + 1
    end = (number(position) + tl.minimum(first_query + QUERIES, T)) // STRIDE - 1  # windows that the last query sees
    best = tl.zeros([QUERIES, SLOTS], tl.float32)
    if tl.maximum(tile * (SLOTS - 1) * PER_BLOCK - 1, 0) < end:
        column = tl.arange(0, D)
        at = tl.arange(0, SLOTS * PADDED)
        within = at % PADDED
        window = (tile * (SLOTS - 1) - 1 + at // PADDED) * PER_BLOCK + within
        wanted = (at >= PER_BLOCK - 1) & (within < PER_BLOCK) & (window >= 0) & (window < tl.minimum(end, n1))
        k = tl.load(
            k1 + kv_head * stride_kh + window.to(tl.int64)[:, None] * stride_kn + column[None, :] * stride_kd,
            wanted[:, None] & (column < d)[None, :],
            other=0.0,
        )
        row = tl.arange(0, QUERIES * HEADS)
        t = first_query + row // HEADS
        head = row % HEADS
        there = (t < T) & (head < G)
        q_row = q + t.to(tl.int64) * stride_qt + (kv_head * G + head) * stride_qh
        x = tl.load(q_row[:, None] + column[None, :] * stride_qd, there[:, None] & (column < d)[None, :], other=0.0)
        split = tl.arange(0, SPLITS)
        part = tl.load(
            parts + (((kv_head * T + t) * G + head) * splits)[:, None] + split[None, :],
            there[:, None] & (split < splits)[None, :],
            other=-float("inf"),
        )
        norm = tl.where(there, merged(part, 1, 0.0), float("inf"))  # exp2(-inf) = 0: rows without a head add nothing
        s = tl.dot(x, tl.trans(k), input_precision="ieee")
        p = tl.reshape(tl.exp2(s * scale_log2 - norm[:, None]), [QUERIES, HEADS, SLOTS * PADDED])
        seen = wanted[None, :] & (((window + 2) * STRIDE)[None, :] <= tokens[:, None])
        best = pool(tl.where(seen, tl.sum(p, 1), 0.0), QUERIES, SLOTS, PADDED, PER_BLOCK)
    slot = tl.arange(0, SLOTS)
    block = tile * (SLOTS - 1) - 1 + slot
    stored = (query < T)[:, None] & ((slot > 0) & (block < num_blocks))[None, :]
    tl.store(out + kv_head * stride_oh + query.to(tl.int64)[:, None] * stride_ot + block[None, :], best, stored)
