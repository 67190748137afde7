"""Triton kernels of `sala_kernels.block_scores` for few queries (decode): a tile holds all heads of a few queries.

The programs of a query split the windows. A query's bits depend only on its position: the shape of a tile does not
depend on the number of queries, and tile i of the coarse windows belongs to split i mod 64 whatever number of rows is
given.
"""

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
from sala_kernels.launch import launch
from sala_kernels.positions import Position
from sala_kernels.positions.kernels import load_scalar

_ROWS = 32  # query heads times queries of a program
_SPLITS = 64  # programs that split the coarse windows of a kv head; the second pass reads the results of all
_WINDOWS = 64  # windows of a tile


def score_few(
    q: Tensor, k1: Tensor, k2: Tensor, out: Tensor, *, position: Position, scale_log2: float, layout: BlockLayout
) -> None:
    """Fill out [kv heads, T, blocks]. k1 and k2 hold at least the windows that the last query sees.

    The grids cover all rows of k1 and k2. Programs whose windows no query sees load none. scale_log2: scale * log2(e).
    """
    T, H, _ = q.shape
    kv_heads, _, num_blocks = out.shape
    n2, G = k2.shape[1], H // kv_heads
    heads = triton.next_power_of_2(G)
    queries = max(1, _ROWS // heads)
    warps = 8 if q.element_size() == 4 else 4  # float32 has no tensor cores: operands are in registers
    splits = max(1, min(_SPLITS, triton.cdiv(n2, _WINDOWS)))
    parts = torch.empty(kv_heads, T, G, splits, dtype=torch.float32, device=q.device)
    shape = query_arguments(q, kv_heads, position=position, scale_log2=scale_log2, layout=layout)
    shape |= {"QUERIES": queries, "HEADS": heads}
    query_tiles = triton.cdiv(T, queries)
    launch(
        _few_coarse_sums,
        (query_tiles, splits, kv_heads),  # programs of the same keys are neighbors: the keys are in the L2 cache
        num_warps=warps,
        num_stages=3 if shape["D"] <= 128 else 2,
        q=q,
        k2=k2,
        parts=parts,
        n2=n2,
        splits=splits,
        WINDOWS=_WINDOWS,
        **key_strides(k2),
        **shape,
    )
    blocks = block_arguments(k1, out, layout, windows=_WINDOWS)
    launch(
        _few_score_blocks,
        (query_tiles, triton.cdiv(num_blocks, blocks["SLOTS"] - 1), kv_heads),
        num_warps=warps,
        num_stages=1,
        q=q,
        parts=parts,
        splits=splits,
        SPLITS=triton.next_power_of_2(_SPLITS),
        **blocks,
        **shape,
    )


@triton.jit
def _load_queries(
    q, kv_head, T, stride_qt, stride_qh, stride_qd,
    G: tl.constexpr, d: tl.constexpr, D: tl.constexpr, QUERIES: tl.constexpr, HEADS: tl.constexpr,
):  # fmt: skip
    """The program's queries, a row for each of a kv head's query heads.

    Returns x [QUERIES * HEADS, D], and of each row the query, the head among those of the kv head, and whether there is
    one.
    """
    row = tl.arange(0, QUERIES * HEADS)
    t = tl.program_id(0) * QUERIES + row // HEADS
    head = row % HEADS
    valid = (t < T) & (head < G)
    column = tl.arange(0, D)
    q_row = q + t.to(tl.int64) * stride_qt + (kv_head * G + head) * stride_qh
    x = tl.load(q_row[:, None] + column[None, :] * stride_qd, valid[:, None] & (column < d)[None, :], other=0.0)
    return x, t, head, valid


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
    """parts[kv head, t, head, split] = log2 sum exp2 over the split's windows that the query sees; -inf if none."""
    split = tl.program_id(1)
    kv_head = tl.program_id(2).to(tl.int64)
    x, t, head, valid = _load_queries(q, kv_head, T, stride_qt, stride_qh, stride_qd, G, d, D, QUERIES, HEADS)
    column = tl.arange(0, D)
    at = tl.arange(0, WINDOWS)
    tokens = load_scalar(position) + t + 1
    all_tokens = load_scalar(position) + tl.minimum(tl.program_id(0) * QUERIES + QUERIES, T)
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
        new_top = tl.maximum(top, tl.max(s, 1))
        finite_top = tl.where(new_top == -float("inf"), 0.0, new_top)
        total = total * tl.exp2(top - finite_top) + tl.sum(tl.exp2(s - finite_top[:, None]), 1)
        top = new_top
    part = log2_sum(top, total, -float("inf"))
    tl.store(parts + ((kv_head * T + t) * G + head) * splits + split, part, valid)


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
    """Scores of a tile of blocks for a few queries, all their heads at once; 0 for blocks without a window seen."""
    first_query, tile = tl.program_id(0) * QUERIES, tl.program_id(1)
    kv_head = tl.program_id(2).to(tl.int64)
    query = first_query + tl.arange(0, QUERIES)
    tokens = load_scalar(position) + query + 1
    all_tokens = load_scalar(position) + tl.minimum(first_query + QUERIES, T)
    end = all_tokens // STRIDE - 1  # windows that the last query sees
    best = tl.zeros([QUERIES, SLOTS], tl.float32)
    if tl.maximum(tile * (SLOTS - 1) * PER_BLOCK - 1, 0) < end:
        column = tl.arange(0, D)
        window, scored = tile_windows(1, SLOTS, PADDED, PER_BLOCK)
        scored = scored & (window < tl.minimum(end, n1))
        k = load_windows(k1 + kv_head * stride_kh, window, scored, column, stride_kn, stride_kd, d)
        x, t, head, valid = _load_queries(q, kv_head, T, stride_qt, stride_qh, stride_qd, G, d, D, QUERIES, HEADS)
        split = tl.arange(0, SPLITS)
        part = tl.load(
            parts + (((kv_head * T + t) * G + head) * splits)[:, None] + split[None, :],
            valid[:, None] & (split < splits)[None, :],
            other=-float("inf"),
        )
        lse = tl.where(valid, merged(part, 1, 0.0), float("inf"))  # exp2(-inf) = 0: other rows add nothing
        s = tl.dot(x, tl.trans(k), input_precision="ieee")
        p = tl.reshape(tl.exp2(s * scale_log2 - lse[:, None]), [QUERIES, HEADS, SLOTS * PADDED])
        seen = scored[None, :] & (((window + 2) * STRIDE)[None, :] <= tokens[:, None])
        best = pool(tl.where(seen, tl.sum(p, 1), 0.0), QUERIES, SLOTS, PADDED, PER_BLOCK)
    slot = tl.arange(0, SLOTS)
    block = tile * (SLOTS - 1) - 1 + slot
    stored = (query < T)[:, None] & ((slot > 0) & (block < num_blocks))[None, :]
    tl.store(out + kv_head * stride_oh + query.to(tl.int64)[:, None] * stride_ot + block[None, :], best, stored)
