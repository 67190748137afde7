"""Prefill: one flash-attention pass over the keys that neighboring queries share, then each query's chosen blocks."""

import triton
import triton.language as tl

from sala_kernels.kv_quantization.kernels import FP8_UNIT, unscaled_values


@triton.jit
def softmax_step(s, m, total):
    """One step of the online softmax over scores s [rows, keys], scaled to base 2, -inf for keys without attention.

    m is the largest score of each row so far, total the sum of its weights. Returns the weights, the factor for older
    sums, and the new m and total.
    """
    m_new = tl.maximum(m, tl.max(s, 1))
    finite = tl.where(m_new == float("-inf"), 0.0, m_new)  # a row may have had no key yet
    p = tl.exp2(s - finite[:, None])
    rescale = tl.exp2(m - finite)
    return p, rescale, m_new, total * rescale + tl.sum(p, 1)


@triton.jit(do_not_specialize=["T", "position", "gap_k", "gap_v", "num_tiles"])
def shared_keys(
    q,
    k,
    v,
    out,
    lse,
    T,
    position,
    gap_k,
    gap_v,
    num_tiles,
    score_scale,
    stride_q,
    stride_q_head,
    stride_k_head,
    stride_v_head,
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
    DENSE: tl.constexpr,
    ROWS: tl.constexpr,
    KEYS: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Attention to the initial and local blocks, or to all keys where a query chooses no blocks.

    One program computes ROWS // G queries and the G heads of one kv head. k and v contain the initial blocks, then the
    keys from a gap of `gap_k` and `gap_v` keys on. Writes the normalized sums to `out` [T, H, DV], and the log2 of the
    sums of weights to `lse` [T, H] if given.
    """
    tile = num_tiles - 1 - tl.program_id(0) if DENSE else tl.program_id(0)  # longest rows first
    kv_head = tl.program_id(1).to(tl.int64)
    first = tile * (ROWS // G)
    last = tl.minimum(first + ROWS // G, T) - 1
    row = tl.arange(0, ROWS)
    written = first + row // G <= last
    query = tl.minimum(first + row // G, last)
    head = kv_head * G + row % G
    column_k, column_v = tl.arange(0, COLUMNS_K), tl.arange(0, COLUMNS_V)
    q_rows = q + query.to(tl.int64) * stride_q + head * stride_q_head
    q_tile = tl.load(q_rows[:, None] + column_k[None, :], (column_k < D)[None, :], other=0.0)

    at = position + query
    first_at, last_at = position + first, position + last
    # the first local key of each row, which attends to all keys before init_end and from local_at on
    local_at = tl.zeros_like(at)
    init_end, local_start, local_end = first * 0, first * 0, first * 0
    if not DENSE:
        own, first_own, last_own = at // BLOCK, first_at // BLOCK, last_at // BLOCK
        local_at = tl.where(own < MAX_BLOCKS, 0, (own - LOCAL + 1) * BLOCK)
        init_end = tl.where(first_own < MAX_BLOCKS, 0, INIT * BLOCK)
        local_start = tl.where(first_own < MAX_BLOCKS, 0, (first_own - LOCAL + 1) * BLOCK)
        local_end = tl.where(last_own < MAX_BLOCKS, 0, (last_own - LOCAL + 1) * BLOCK)
    # tiles of keys: initial blocks; keys that are local to some rows only; keys of all rows; the causal end
    num_init = tl.cdiv(init_end, KEYS)
    num_partial = tl.cdiv(local_end - local_start, KEYS)
    middle = local_start + num_partial * KEYS
    num_middle = tl.maximum(first_at + 1 - middle, 0) // KEYS
    end = middle + num_middle * KEYS
    num_end = tl.cdiv(tl.maximum(last_at + 1 - end, 0), KEYS)

    offset = tl.arange(0, KEYS)
    k_tiles = k + kv_head * stride_k_head + offset[:, None] * STRIDE_K + column_k[None, :]
    v_tiles = v + kv_head * stride_v_head + offset[:, None] * STRIDE_V + column_v[None, :]
    m = tl.full([ROWS], float("-inf"), tl.float32)
    total = tl.zeros([ROWS], tl.float32)
    acc = tl.zeros([ROWS, COLUMNS_V], tl.float32)

    for i in range(0, num_middle):
        start = (middle + i * KEYS).to(tl.int64)
        k_tile = tl.load(k_tiles + (start - gap_k) * STRIDE_K, (column_k < D)[None, :], other=0.0)
        v_tile = tl.load(v_tiles + (start - gap_v) * STRIDE_V, (column_v < DV)[None, :], other=0.0)
        s = tl.dot(q_tile, tl.trans(k_tile), input_precision=PRECISION)
        m_new = tl.maximum(m, tl.max(s, 1) * score_scale)
        p = tl.exp2(s * score_scale - m_new[:, None])
        rescale = tl.exp2(m - m_new)
        total = total * rescale + tl.sum(p, 1)
        acc = tl.dot(p.to(v_tile.dtype), v_tile, acc * rescale[:, None], input_precision=PRECISION)
        m = m_new

    for i in range(0, num_init + num_partial + num_end):
        partial = i - num_init
        start = tl.where(partial < num_partial, local_start + partial * KEYS, end + (partial - num_partial) * KEYS)
        start = tl.where(partial < 0, i * KEYS, start)
        key = start + offset
        valid = key < tl.where(partial < 0, init_end, last_at + 1)
        stored_k, stored_v = start - tl.where(partial < 0, 0, gap_k), start - tl.where(partial < 0, 0, gap_v)
        k_tile = tl.load(
            k_tiles + stored_k.to(tl.int64) * STRIDE_K, valid[:, None] & (column_k < D)[None, :], other=0.0
        )
        v_tile = tl.load(
            v_tiles + stored_v.to(tl.int64) * STRIDE_V, valid[:, None] & (column_v < DV)[None, :], other=0.0
        )
        s = tl.dot(q_tile, tl.trans(k_tile), input_precision=PRECISION)
        seen = valid[None, :] & (key[None, :] <= at[:, None])
        if not DENSE:
            seen &= (key[None, :] >= local_at[:, None]) | (key < INIT * BLOCK)[None, :]
        p, rescale, m, total = softmax_step(tl.where(seen, s * score_scale, float("-inf")), m, total)
        acc = tl.dot(p.to(v_tile.dtype), v_tile, acc * rescale[:, None], input_precision=PRECISION)

    index = query.to(tl.int64) * (tl.num_programs(1) * G) + head
    result = (acc / total[:, None]).to(out.dtype.element_ty)
    tl.store(out + index[:, None] * DV + column_v[None, :], result, written[:, None] & (column_v < DV)[None, :])
    if lse is not None:
        tl.store(lse + index, m + tl.log2(total), written)


@triton.jit(do_not_specialize=["position", "stride_k_scale_head", "stride_v_scale_head", "stride_chosen_head"])
def chosen_blocks(
    q,
    k,
    k_scale,
    v,
    v_scale,
    chosen,
    shared,
    lse,
    out,
    position,
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
    SLOTS: tl.constexpr,
    MAX_BLOCKS: tl.constexpr,
    ROWS: tl.constexpr,
    KEYS: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Add the chosen blocks to the results of `shared_keys` in `shared` [T, H, DV] fp32 and `lse`.

    Writes `out` and the new `lse`. One program computes one query and the G heads of one kv head.
    """
    t = tl.program_id(0)
    kv_head = tl.program_id(1).to(tl.int64)
    row = tl.arange(0, ROWS)
    head = kv_head * G + row
    column_k, column_v = tl.arange(0, COLUMNS_K), tl.arange(0, COLUMNS_V)
    offset = tl.arange(0, KEYS)
    q_rows = q + t.to(tl.int64) * stride_q + head * stride_q_head
    q_tile = tl.load(q_rows[:, None] + column_k[None, :], (row < G)[:, None] & (column_k < D)[None, :], other=0.0)
    index = t.to(tl.int64) * (tl.num_programs(1) * G) + head
    inside = (row < G)[:, None] & (column_v < DV)[None, :]
    acc = tl.load(shared + index[:, None] * DV + column_v[None, :], inside, other=0.0)
    m = tl.load(lse + index, row < G, other=0.0)
    # weights are summed by column of the tile: warps that share a row then reduce once, not at every step
    weights = tl.where(offset == 0, 1.0, 0.0)[None, :] + tl.zeros([ROWS, KEYS], tl.float32)

    k += kv_head * stride_k_head
    v += kv_head * stride_v_head
    if k_scale is not None:
        k_scale += kv_head * stride_k_scale_head
    v_unit: tl.constexpr = FP8_UNIT if v.dtype.element_ty == tl.uint8 else 1.0
    if v_scale is not None:
        v_scale += kv_head * stride_v_scale_head
    chosen += kv_head * stride_chosen_head + t.to(tl.int64) * stride_chosen
    num_keys = tl.where((position + t) // BLOCK < MAX_BLOCKS, 0, SLOTS * BLOCK)
    next_block = tl.load(chosen)
    for start in range(0, num_keys, KEYS):
        if BLOCK % KEYS == 0:
            block = next_block.to(tl.int64)
            next_block = tl.load(chosen + tl.minimum((start + KEYS) // BLOCK, SLOTS - 1))  # one step before its use
            valid = block >= 0
            key = tl.maximum(block, 0) * BLOCK + start % BLOCK + offset
        else:
            slot = (start + offset) // BLOCK
            block = tl.load(chosen + slot, slot < SLOTS, other=-1).to(tl.int64)
            valid = (block >= 0)[None, :]
            key = tl.maximum(block, 0) * BLOCK + (start + offset) % BLOCK
        k_tile = tl.load(k + key[:, None] * STRIDE_K + column_k[None, :], (column_k < D)[None, :], other=0.0)
        v_tile = tl.load(v + key[:, None] * STRIDE_V + column_v[None, :], (column_v < DV)[None, :], other=0.0)
        s = tl.dot(q_tile, tl.trans(unscaled_values(k_tile, q.dtype.element_ty)), input_precision=PRECISION)
        if k_scale is not None:
            s *= tl.load(k_scale + key)[None, :]
        s = tl.where(valid, s * score_scale, float("-inf"))
        m_new = tl.maximum(m, tl.max(s, 1))  # finite: every query attends to its own key
        p = tl.exp2(s - m_new[:, None])
        rescale = tl.exp2(m - m_new)
        weights = weights * rescale[:, None] + p
        if v_scale is not None:
            p *= (tl.load(v_scale + key) * v_unit)[None, :]
        values = unscaled_values(v_tile, q.dtype.element_ty)
        acc = tl.dot(p.to(values.dtype), values, acc * rescale[:, None], input_precision=PRECISION)
        m = m_new

    total = tl.sum(weights, 1)
    result = (acc / total[:, None]).to(out.dtype.element_ty)
    tl.store(out + index[:, None] * DV + column_v[None, :], result, inside)
    tl.store(lse + index, m + tl.log2(total), row < G)
