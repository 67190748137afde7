"""Decode: programs split the keys of each query (split-K), and their results are merged by their sums of weights.

Tile i of a query's keys belongs to split i modulo the number of splits. A query's bits therefore depend neither on the
number of queries nor on the number of rows given.
"""

import triton
import triton.language as tl

from sala_kernels.block_attention.kernels_prefill import softmax_step
from sala_kernels.kv_quantization.kernels import FP8_UNIT, unscaled_values
from sala_kernels.positions.kernels import load_scalar


@triton.jit
def _num_tiles(
    at,
    chosen,
    BLOCK: tl.constexpr,
    INIT: tl.constexpr,
    LOCAL: tl.constexpr,
    MAX_BLOCKS: tl.constexpr,
    KEYS: tl.constexpr,
):
    """Number of tiles of the row of keys that `_attended_keys` describes."""
    if chosen is None:
        return tl.cdiv(at + 1, KEYS)
    else:
        own = at // BLOCK
        num_shared = INIT * BLOCK + at + 1 - (own - LOCAL + 1) * BLOCK
        return tl.cdiv(tl.where(own < MAX_BLOCKS, at + 1, num_shared + (MAX_BLOCKS - INIT - LOCAL) * BLOCK), KEYS)


@triton.jit
def _attended_keys(
    index,
    at,
    chosen,
    BLOCK: tl.constexpr,
    INIT: tl.constexpr,
    LOCAL: tl.constexpr,
    MAX_BLOCKS: tl.constexpr,
):
    """The keys to which the query at `at` attends, in a row: initial, local, then chosen blocks; or all, if dense.

    index: [KEYS], places in that row. Returns the keys at these places, int64, and whether there is one. Where there is
    none, the key may be beyond the last row: every access to a key's data must be masked.
    """
    if chosen is None:
        return index.to(tl.int64), index <= at
    else:
        own = at // BLOCK
        dense = own < MAX_BLOCKS
        num_init = tl.where(dense, 0, INIT * BLOCK)
        local_at = tl.where(dense, 0, (own - LOCAL + 1) * BLOCK)
        num_shared = num_init + at + 1 - local_at
        chosen_index = index - num_shared
        slot = chosen_index // BLOCK
        is_chosen = (chosen_index >= 0) & (slot < MAX_BLOCKS - INIT - LOCAL) & (not dense)
        block = tl.load(chosen + slot, is_chosen, other=-1).to(tl.int64)
        shared_key = tl.where(index < num_init, index, index - num_init + local_at)
        valid = (chosen_index < 0) | (block >= 0)
        key = tl.where(chosen_index < 0, shared_key.to(tl.int64), block * BLOCK + chosen_index % BLOCK)
        return tl.where(valid, key, 0), valid


@triton.jit(do_not_specialize=["position", "count", "stride_k_scale_head", "stride_v_scale_head", "stride_chosen_head"])
def split_keys(
    q,
    k,
    k_scale,
    v,
    v_scale,
    chosen,
    parts,
    lses,
    position,
    count,
    score_scale,
    stride_q,
    stride_q_head,
    stride_k_head,
    stride_k_scale_head,
    stride_v_head,
    stride_v_scale_head,
    stride_chosen_head,
    stride_chosen,
    STRIDE_K: tl.constexpr,
    STRIDE_V: tl.constexpr,
    G: tl.constexpr,
    D: tl.constexpr,
    DV: tl.constexpr,
    COLUMNS_K: tl.constexpr,
    COLUMNS_V: tl.constexpr,
    BLOCK: tl.constexpr,
    INIT: tl.constexpr,
    LOCAL: tl.constexpr,
    MAX_BLOCKS: tl.constexpr,
    ROWS: tl.constexpr,
    KEYS: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Attention of one query and the G heads of one kv head to some tiles of its keys, by one program.

    Writes the normalized sums to `parts` [T, H, splits, DV] fp32, if there are values, and the log2 of the sums of
    weights to `lses` [T, H, splits]. They are 0 and -inf for a split without keys and, if `count` is given, for queries
    from `count` on.
    """
    t, split = tl.program_id(0), tl.program_id(1)
    kv_head = tl.program_id(2).to(tl.int64)
    row = tl.arange(0, ROWS)
    head = kv_head * G + row
    column_k, column_v = tl.arange(0, COLUMNS_K), tl.arange(0, COLUMNS_V)
    q_rows = q + t.to(tl.int64) * stride_q + head * stride_q_head
    q_tile = tl.load(q_rows[:, None] + column_k[None, :], (row < G)[:, None] & (column_k < D)[None, :], other=0.0)
    k += kv_head * stride_k_head
    if v is not None:
        v += kv_head * stride_v_head
        v_unit: tl.constexpr = FP8_UNIT if v.dtype.element_ty == tl.uint8 else 1.0
    if k_scale is not None:
        k_scale += kv_head * stride_k_scale_head
    if v_scale is not None:
        v_scale += kv_head * stride_v_scale_head
    if chosen is not None:
        chosen += kv_head * stride_chosen_head + t.to(tl.int64) * stride_chosen
    at = load_scalar(position) + t
    tiles = _num_tiles(at, chosen, BLOCK, INIT, LOCAL, MAX_BLOCKS, KEYS)
    if count is not None:
        tiles = tl.where(t < load_scalar(count), tiles, 0)
    m = tl.full([ROWS], float("-inf"), tl.float32)
    total = tl.zeros([ROWS], tl.float32)
    acc = tl.zeros([ROWS, COLUMNS_V], tl.float32)
    for tile in range(split, tiles, tl.num_programs(1)):
        index = tile * KEYS + tl.arange(0, KEYS)
        key, valid = _attended_keys(index, at, chosen, BLOCK, INIT, LOCAL, MAX_BLOCKS)
        k_rows = k + key * STRIDE_K
        k_tile = tl.load(k_rows[:, None] + column_k[None, :], valid[:, None] & (column_k < D)[None, :], other=0.0)
        if v is not None:
            v_rows = v + key * STRIDE_V
            v_tile = tl.load(v_rows[:, None] + column_v[None, :], valid[:, None] & (column_v < DV)[None, :], other=0.0)
        s = tl.dot(q_tile, tl.trans(unscaled_values(k_tile, q.dtype.element_ty)), input_precision=PRECISION)
        if k_scale is not None:
            s *= tl.load(k_scale + key, valid, other=0.0)[None, :]
        s = tl.where(valid[None, :], s * score_scale, float("-inf"))
        p, rescale, m, total = softmax_step(s, m, total)
        if v is not None:
            if v_scale is not None:
                p *= (tl.load(v_scale + key, valid, other=0.0) * v_unit)[None, :]
            values = unscaled_values(v_tile, q.dtype.element_ty)
            acc = tl.dot(p.to(values.dtype), values, acc * rescale[:, None], input_precision=PRECISION)
    place = (t.to(tl.int64) * (tl.num_programs(2) * G) + head) * tl.num_programs(1) + split
    weight = tl.where(total == 0.0, 1.0, total)  # total is 0 if this split has no key: then m is -inf
    if v is not None:
        inside = (row < G)[:, None] & (column_v < DV)[None, :]
        tl.store(parts + place[:, None] * DV + column_v[None, :], acc / weight[:, None], inside)
    tl.store(lses + place, m + tl.log2(weight), row < G)


@triton.jit(do_not_specialize=["splits"])
def merge_splits(parts, lses, out, splits, DV: tl.constexpr, SPLITS: tl.constexpr, COLUMNS: tl.constexpr):
    """Merge `parts` by `lses` into out [T * H, DV]. One program computes COLUMNS columns of one row."""
    row = tl.program_id(0).to(tl.int64)
    split = tl.arange(0, SPLITS)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    part_lse = tl.load(lses + row * splits + split, split < splits, other=float("-inf"))
    inside = (split < splits)[:, None] & (column < DV)[None, :]
    part = tl.load(parts + (row * splits + split[:, None]) * DV + column[None, :], inside, other=0.0)
    m = tl.max(part_lse, 0)  # finite: every query attends to its own key
    weight = tl.exp2(part_lse - m)
    total = tl.sum(weight, 0)
    result = tl.sum(part * weight[:, None], 0) / total
    tl.store(out + row * DV + column, result.to(out.dtype.element_ty), column < DV)


@triton.jit(
    do_not_specialize=["position", "count", "splits", "num_keys", "stride_k_scale_head", "stride_chosen_head"],
    do_not_specialize_on_alignment=["mass"],
)
def key_mass(
    q,
    k,
    k_scale,
    chosen,
    lses,
    mass,
    position,
    count,
    score_scale,
    splits,
    num_keys,
    stride_q,
    stride_q_head,
    stride_k_head,
    stride_k_scale_head,
    stride_chosen_head,
    stride_chosen,
    STRIDE_K: tl.constexpr,
    G: tl.constexpr,
    D: tl.constexpr,
    COLUMNS_K: tl.constexpr,
    BLOCK: tl.constexpr,
    INIT: tl.constexpr,
    LOCAL: tl.constexpr,
    MAX_BLOCKS: tl.constexpr,
    ROWS: tl.constexpr,
    KEYS: tl.constexpr,
    SPLITS: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Add the probability of every key, summed over heads, to `mass` [num_keys] fp32.

    Programs are those of `split_keys`. Each merges `lses` [T, H, splits].
    """
    t, split = tl.program_id(0), tl.program_id(1)
    kv_head = tl.program_id(2).to(tl.int64)
    row = tl.arange(0, ROWS)
    head = kv_head * G + row
    column_k = tl.arange(0, COLUMNS_K)
    q_rows = q + t.to(tl.int64) * stride_q + head * stride_q_head
    q_tile = tl.load(q_rows[:, None] + column_k[None, :], (row < G)[:, None] & (column_k < D)[None, :], other=0.0)
    part = tl.arange(0, SPLITS)
    place = (t.to(tl.int64) * (tl.num_programs(2) * G) + head)[:, None] * splits + part[None, :]
    part_lse = tl.load(lses + place, (row < G)[:, None] & (part < splits)[None, :], other=float("-inf"))
    m = tl.max(part_lse, 1)
    m = tl.where(m == float("-inf"), 0.0, m)
    total = tl.sum(tl.exp2(part_lse - m[:, None]), 1)
    norm = tl.where(total > 0, m + tl.log2(tl.where(total > 0, total, 1.0)), float("inf"))
    k += kv_head * stride_k_head
    if k_scale is not None:
        k_scale += kv_head * stride_k_scale_head
    if chosen is not None:
        chosen += kv_head * stride_chosen_head + t.to(tl.int64) * stride_chosen
    at = load_scalar(position) + t
    tiles = _num_tiles(at, chosen, BLOCK, INIT, LOCAL, MAX_BLOCKS, KEYS)
    if count is not None:
        tiles = tl.where(t < load_scalar(count), tiles, 0)
    for tile in range(split, tiles, tl.num_programs(1)):
        index = tile * KEYS + tl.arange(0, KEYS)
        key, valid = _attended_keys(index, at, chosen, BLOCK, INIT, LOCAL, MAX_BLOCKS)
        k_rows = k + key * STRIDE_K
        k_tile = tl.load(k_rows[:, None] + column_k[None, :], valid[:, None] & (column_k < D)[None, :], other=0.0)
        s = tl.dot(q_tile, tl.trans(unscaled_values(k_tile, q.dtype.element_ty)), input_precision=PRECISION)
        if k_scale is not None:
            s *= tl.load(k_scale + key, valid, other=0.0)[None, :]
        p = tl.exp2(s * score_scale - norm[:, None])
        tl.atomic_add(mass + key, tl.sum(p, 0), valid & (key < num_keys), sem="relaxed")
