"""Triton kernels of `sala_kernels.block_scores` for many queries (prefill): a tile of queries, head by head."""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from sala_kernels.block_scores.kernels_shared import (
    block_arguments,
    key_strides,
    load_windows,
    log2_sum,
    merged,
    pool,
    query_arguments,
    tile_windows,
)
from sala_kernels.blocks import BlockLayout
from sala_kernels.launch import capability, launch

MAX_PER_BLOCK = 32  # windows of a block
_PROGRAMS = 1024  # a few for every multiprocessor of any GPU
_TILES = 4  # fewest tiles of coarse windows of a program, where splitting them makes more programs
_MERGED = 256  # values of a program that merges


def score_many(
    q: Tensor, k1: Tensor, k2: Tensor, out: Tensor, *, position: int, scale_log2: float, layout: BlockLayout
) -> None:
    """Fill out [kv heads, T, blocks]. k1, k2: the windows that the last query sees. scale_log2: scale * log2(e)."""
    T, H, _ = q.shape
    kv_heads, _, num_blocks = out.shape
    if max(H * q.stride(1), 128 * q.stride(0)) >= 2**31:  # offsets within a tile have 32 bits
        q = q.contiguous()
    shape = query_arguments(q, kv_heads, position=position, scale_log2=scale_log2, layout=layout)
    lse = _coarse(q, k2, shape)
    queries, windows, warps, stages = _score_tile(q, shape["D"])
    blocks = block_arguments(k1, out, layout, windows=windows)
    launch(
        _score_blocks,
        (triton.cdiv(num_blocks, blocks["SLOTS"] - 1), triton.cdiv(T, queries), kv_heads),
        num_warps=warps,
        num_stages=stages,
        q=q,
        lse=lse,
        QUERIES=queries,
        **blocks,
        **shape,
    )


def _coarse(q: Tensor, k2: Tensor, shape: dict[str, Any]) -> Tensor:
    """First pass: log2 sum exp2 over the coarse windows that a query sees, [H, T] fp32; 0 if it sees none."""
    T, H, _ = q.shape
    queries, windows, warps, stages = _coarse_tile(q, shape["D"])
    tiles = triton.cdiv(k2.shape[1], windows)
    programs = triton.cdiv(T, queries) * H
    splits = max(1, min(tiles // _TILES, _PROGRAMS // programs))
    per_split = max(1, triton.cdiv(tiles, splits))
    splits = max(1, triton.cdiv(tiles, per_split))
    parts = torch.empty(splits, H, T, dtype=torch.float32, device=q.device)
    launch(
        _coarse_sums,
        (triton.cdiv(T, queries), H, splits),
        num_warps=warps,
        num_stages=stages,
        q=q,
        k2=k2,
        parts=parts,
        n2=k2.shape[1],
        tiles_per_split=per_split,
        QUERIES=queries,
        WINDOWS=windows,
        LANES=8 if capability(q) == 90 else 16,
        EMPTY=0.0 if splits == 1 else -float("inf"),
        **key_strides(k2),
        **shape,
    )
    if splits == 1:
        return parts[0]
    lse = torch.empty(H, T, dtype=torch.float32, device=q.device)
    launch(
        _merge_sums,
        (triton.cdiv(H * T, _MERGED),),
        num_warps=2,
        parts=parts,
        lse=lse,
        count=H * T,
        splits=splits,
        BLOCK=_MERGED,
    )
    return lse


def _score_tile(q: Tensor, columns: int) -> tuple[int, int, int, int]:
    """(queries, windows, warps, stages) of a tile of the second pass.

    At least two programs fit on a multiprocessor, three on Hopper: one computes powers while another multiplies.
    """
    if q.element_size() == 4:  # no tensor cores
        return 32, 64 if columns <= 128 else 32, 8, 1
    return 64, 128 if columns <= 128 else 64, 4, 3 if capability(q) == 80 else 2


def _coarse_tile(q: Tensor, columns: int) -> tuple[int, int, int, int]:
    """(queries, windows, warps, stages) of a tile of the first pass."""
    if q.element_size() == 4:
        return 32, 64 if columns <= 128 else 32, 8, 1
    if columns > 128:
        return 64, 64, 4, 2
    return 128, 128 if capability(q) == 90 else 64, 8, 2


@triton.jit
def _num_seen(tokens, SIZE: tl.constexpr, STEP: tl.constexpr):
    """Number of windows of SIZE tokens, one every STEP, within the first `tokens` tokens."""
    return tl.where(tokens >= SIZE, (tokens - SIZE) // STEP + 1, 0)


@triton.jit
def _coarse_step(x, k_at, inside, top, total, window, tokens, scale_log2, SIZE, STEP, MASKED: tl.constexpr):
    """Add one tile of coarse windows to the online sums: total * exp2(top * scale_log2), each [QUERIES, LANES].

    Lane i sums the windows i modulo LANES. In the register layout of a tensor core's result, a lane stays in one
    thread: threads exchange nothing before the end.
    """
    k = tl.load(k_at, inside, other=0.0)  # [WINDOWS, D]
    s = tl.dot(x, tl.trans(k), input_precision="ieee")
    if MASKED:
        s = tl.where((window * STEP + SIZE)[None, :] <= tokens[:, None], s, -float("inf"))
    s = tl.reshape(s, [s.shape[0], s.shape[1] // top.shape[1], top.shape[1]])
    new_top = tl.maximum(top, tl.max(s, 1))
    finite_top = tl.where(new_top == -float("inf"), 0.0, new_top) * scale_log2
    total = total * tl.exp2(top * scale_log2 - finite_top) + tl.sum(tl.exp2(s * scale_log2 - finite_top[:, None, :]), 1)
    return new_top, total


@triton.jit(do_not_specialize=["position", "T", "n2", "tiles_per_split"])
def _coarse_sums(
    q,
    k2,
    parts,
    position,
    T,
    n2,
    tiles_per_split,
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
    WINDOWS: tl.constexpr,
    LANES: tl.constexpr,
    EMPTY: tl.constexpr,
):
    """parts[split, head, t] = log2 sum exp2 over the split's windows that query t sees. A tile of queries, one head."""
    head = tl.program_id(1)
    split = tl.program_id(2)
    SIZE: tl.constexpr = 8 * STRIDE
    STEP: tl.constexpr = 4 * STRIDE
    first = tl.program_id(0) * QUERIES
    t = first + tl.arange(0, QUERIES)
    column = tl.arange(0, D)
    q += first.to(tl.int64) * stride_qt + head.to(tl.int64) * stride_qh
    x = tl.load(
        q + tl.arange(0, QUERIES)[:, None] * stride_qt + column[None, :] * stride_qd,
        (t < T)[:, None] & (column < d)[None, :],
        other=0.0,
    )
    k2 += (head // G).to(tl.int64) * stride_kh
    tokens = position + t + 1
    begin = split * tiles_per_split * WINDOWS
    seen_by_all = _num_seen(position + first + 1, SIZE, STEP)
    seen_by_last = tl.minimum(_num_seen(tl.minimum(position + first + QUERIES, position + T), SIZE, STEP), n2)
    end = tl.minimum(begin + tiles_per_split * WINDOWS, seen_by_last)
    end_unmasked = begin + tl.maximum(tl.minimum(seen_by_all, end) - begin, 0) // WINDOWS * WINDOWS
    top = tl.full([QUERIES, LANES], -float("inf"), tl.float32)
    total = tl.zeros([QUERIES, LANES], tl.float32)
    row = tl.arange(0, WINDOWS)
    k_at = row[:, None] * stride_kn + column[None, :] * stride_kd
    for start in range(begin, end_unmasked, WINDOWS):
        k_start = k2 + tl.cast(start, tl.int64) * stride_kn
        inside = (column < d)[None, :]
        top, total = _coarse_step(
            x, k_start + k_at, inside, top, total, start + row, tokens, scale_log2, SIZE, STEP, False
        )
    for start in range(end_unmasked, end, WINDOWS):
        k_start = k2 + tl.cast(start, tl.int64) * stride_kn
        inside = ((start + row) < n2)[:, None] & (column < d)[None, :]
        top, total = _coarse_step(
            x, k_start + k_at, inside, top, total, start + row, tokens, scale_log2, SIZE, STEP, True
        )
    part = merged(log2_sum(top * scale_log2, total, -float("inf")), 1, EMPTY)
    num_heads = tl.num_programs(1)
    tl.store(parts + (split * num_heads + head).to(tl.int64) * T + t, part, t < T)


@triton.jit(do_not_specialize=["count", "splits"])
def _merge_sums(parts, lse, count, splits, BLOCK: tl.constexpr):
    """lse[i] = log2 of the sum of exp2(parts[split, i]) over the splits; 0 if all are -inf."""
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = at < count
    top = tl.full([BLOCK], -float("inf"), tl.float32)
    total = tl.zeros([BLOCK], tl.float32)
    for split in range(splits):
        part = tl.load(parts + tl.cast(split, tl.int64) * count + at, inside, other=-float("inf"))
        new_top = tl.maximum(top, part)
        finite_top = tl.where(new_top == -float("inf"), 0.0, new_top)
        total = total * tl.exp2(top - finite_top) + tl.exp2(part - finite_top)
        top = new_top
    tl.store(lse + at, log2_sum(top, total, 0.0), inside)


@triton.jit(do_not_specialize=["position", "n1", "num_blocks"])  # T too would spill registers on sm_86
def _score_blocks(
    q,
    k1,
    lse,
    out,
    position,
    T,
    n1,
    num_blocks,
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
    PER_BLOCK: tl.constexpr,
    PADDED: tl.constexpr,
    SLOTS: tl.constexpr,
    QUERIES: tl.constexpr,
):
    """Scores of a tile of SLOTS - 1 blocks for a tile of queries.

    The programs of one tile of queries are neighbors: the queries are in the L2 cache, and K1 too.
    """
    kv_head = tl.program_id(2)
    first_query = tl.program_id(1) * QUERIES
    WINDOWS: tl.constexpr = SLOTS * PADDED
    window, scored = tile_windows(0, SLOTS, PADDED, PER_BLOCK)
    scored = scored & (window < n1)
    column = tl.arange(0, D)
    k = load_windows(k1 + kv_head.to(tl.int64) * stride_kh, window, scored, column, stride_kn, stride_kd, d)
    row = tl.arange(0, QUERIES)
    t = first_query + row
    q += first_query.to(tl.int64) * stride_qt + kv_head.to(tl.int64) * G * stride_qh
    q_at = q + row[:, None] * stride_qt + column[None, :] * stride_qd
    q_inside = (t < T)[:, None] & (column < d)[None, :]
    lse_at = lse + kv_head.to(tl.int64) * G * T + t
    p = tl.zeros([QUERIES, WINDOWS], tl.float32)
    last_query = position + tl.minimum(first_query + QUERIES, T) - 1
    first_window = tl.maximum((tl.program_id(0) * (SLOTS - 1)) * PER_BLOCK - 1, 0)
    heads = tl.where(first_window * STRIDE + 2 * STRIDE - 1 <= last_query, G, 0)
    head_lse = tl.load(lse_at, t < T, other=0.0)
    for head in range(heads):
        x = tl.load(q_at + head * stride_qh, q_inside, other=0.0)
        next_lse = tl.load(lse_at + tl.minimum(head + 1, G - 1) * T, t < T, other=0.0)
        s = tl.dot(x, tl.trans(k), input_precision="ieee")
        p += tl.exp2(s * scale_log2 - head_lse[:, None])
        head_lse = next_lse
    seen = scored[None, :] & ((window * STRIDE + 2 * STRIDE - 1)[None, :] <= (position + t)[:, None])
    best = pool(tl.where(seen, p, 0.0), QUERIES, SLOTS, PADDED, PER_BLOCK)
    slot = tl.arange(0, SLOTS)
    block = tl.program_id(0) * (SLOTS - 1) - 1 + slot
    stored = (t < T)[:, None] & ((slot > 0) & (block < num_blocks))[None, :]
    out += kv_head.to(tl.int64) * stride_oh + first_query.to(tl.int64) * stride_ot
    tl.store(out + row[:, None] * stride_ot + block[None, :], best, stored)
