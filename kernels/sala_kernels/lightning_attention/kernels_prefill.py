"""Triton kernels of `lightning_attention`: three launches for any length, or one for a single segment.

The tokens are divided into segments, which are computed in parallel. The first launch sums what each segment adds to
the state. The second passes over these sums and computes the state that enters each segment. In the third, each
segment goes through its blocks of tokens with the state in registers. The state gives the attention to all tokens
before a block, and decayed scores give the attention within the block.
"""

from dataclasses import dataclass
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from sala_kernels.launch import capability, launch

_MIN_SEGMENT_TOKENS = 256
_MAX_SEGMENT_TOKENS = 2048
_NUM_WARPS = 3072  # of all programs together: about three waves on the largest GPUs
_SCAN_BLOCK = 512
_MAX_TILE_STRIDE = 2**31 // 64  # offsets within a tile of 64 tokens have 32 bits


@dataclass(frozen=True, kw_only=True)
class _Tiles:
    """Sizes of a block of tokens and of a tile of the state, and how a program computes them."""

    C: int  # tokens of a block
    BK: int  # rows of the state: all of them
    BV: int  # columns of the state
    decay_values: bool  # multiply v, not k, by the decay to the end of the block
    num_warps: int
    num_stages: int  # of the last launch


def _tiles(q: Tensor, K: int, V: int) -> _Tiles:
    """Tiles for which two programs fit on a multiprocessor without spills.

    On sm_90, blocks have the 64 tokens that its tensor cores need, and operands are in shared memory. There it is
    cheaper to decay v and write it back than to transpose and decay k in registers.
    """
    BK, columns = max(16, triton.next_power_of_2(K)), max(16, triton.next_power_of_2(V))
    if q.dtype == torch.float32:  # no tensor cores: operands are in registers
        return _Tiles(C=16, BK=BK, BV=16, decay_values=False, num_warps=8, num_stages=2)
    if BK > 128:
        return _Tiles(C=32, BK=BK, BV=min(columns, 32), decay_values=False, num_warps=8, num_stages=2)
    if capability(q) == 90 and q.dtype == torch.bfloat16 and columns >= 64:
        return _Tiles(C=64, BK=BK, BV=64, decay_values=True, num_warps=4, num_stages=2)
    blackwell = capability(q) == 100  # there, decayed keys beside the operands of tcgen05 would spill
    return _Tiles(C=32, BK=BK, BV=min(columns, 64), decay_values=blackwell, num_warps=4, num_stages=3)


def lightning_attention(
    q: Tensor, k: Tensor, v: Tensor, state: Tensor, log_decay: Tensor, *, scale: float
) -> tuple[Tensor, Tensor]:
    """Launch the kernels of `sala_kernels.lightning_attention.lightning_attention`."""
    if not q.dtype == k.dtype == v.dtype:
        raise ValueError(f"q, k and v must have one dtype, not {q.dtype}, {k.dtype} and {v.dtype}")
    q, k, v = (x if x.stride(-1) == 1 and x.stride(1) < _MAX_TILE_STRIDE else x.contiguous() for x in (q, k, v))
    B, T, H, K = q.shape
    V = v.shape[-1]
    tiles = _tiles(q, K, V)
    num_tiles = triton.cdiv(V, tiles.BV)
    segment = _segment_tokens(T, B * H * num_tiles, tiles)
    num_segments = triton.cdiv(T, segment)
    o = torch.empty(B, T, H, V, dtype=q.dtype, device=q.device)
    after = torch.empty(B, H, K, V, dtype=torch.float32, device=q.device)
    entering = torch.empty(num_segments - 1, B, H, K, V, dtype=torch.float32, device=q.device)
    state, log_decay = state.contiguous(), log_decay.contiguous()
    common: dict[str, Any] = {
        "k": k,
        "v": v,
        "log_decay": log_decay,
        "entering": entering,
        "stride_kb": k.stride(0),
        "stride_kt": k.stride(1),
        "stride_kh": k.stride(2),
        "stride_vb": v.stride(0),
        "stride_vt": v.stride(1),
        "stride_vh": v.stride(2),
        "BH": B * H,
        "H": H,
        "group": H // k.shape[2],
        "segment": segment,
        "K": K,
        "V": V,
        "BK": tiles.BK,
        "BV": tiles.BV,
        "C": tiles.C,
        "num_warps": tiles.num_warps,
    }
    if num_segments > 1:
        launch(_sum_segments, ((num_segments - 1) * B * H * num_tiles,), num_stages=3, **common)
        launch(
            _pass_states,
            (B * H, triton.cdiv(K * V, _SCAN_BLOCK)),
            num_warps=4,
            state=state,
            entering=entering,
            log_decay=log_decay,
            step=B * H * K * V,
            H=H,
            size=K * V,
            segment=segment,
            num_sums=num_segments - 1,
            BLOCK=_SCAN_BLOCK,
        )
    launch(
        _attend,
        (num_segments * B * H * num_tiles,),
        num_stages=tiles.num_stages,
        q=q,
        state=state,
        o=o,
        after=after,
        stride_qb=q.stride(0),
        stride_qt=q.stride(1),
        stride_qh=q.stride(2),
        scale=scale,
        T=T,
        num_segments=num_segments,
        DECAY_VALUES=tiles.decay_values,
        **common,
    )
    return o, after


def _segment_tokens(T: int, num_rows: int, tiles: _Tiles) -> int:
    """Tokens of a segment, whole blocks: few enough to occupy the GPU, enough to be worth storing a state."""
    num_programs = _NUM_WARPS // tiles.num_warps
    tokens = triton.cdiv(T, triton.cdiv(num_programs, num_rows))
    bounded = min(max(tokens, _MIN_SEGMENT_TOKENS), _MAX_SEGMENT_TOKENS)
    return triton.cdiv(bounded, tiles.C) * tiles.C


@triton.jit
def _sum_segments(
    k, v, log_decay, entering,
    stride_kb, stride_kt, stride_kh, stride_vb, stride_vt, stride_vh, BH, H, group, segment,
    K: tl.constexpr, V: tl.constexpr, BK: tl.constexpr, BV: tl.constexpr, C: tl.constexpr,
):  # fmt: skip
    """entering[n] <- what segment n adds to the state at its end, for all segments but the last."""
    num_tiles: tl.constexpr = (V + BV - 1) // BV
    pid = tl.program_id(0)
    row, n = pid // num_tiles % BH, pid // num_tiles // BH
    batch, head = (row // H).to(tl.int64), row % H
    kv_head = (head // group).to(tl.int64)
    decay = tl.load(log_decay + head).to(tl.float32)
    token, column = tl.arange(0, C), tl.arange(0, BK)
    value_column = pid % num_tiles * BV + tl.arange(0, BV)
    k += batch * stride_kb + kv_head * stride_kh
    v += batch * stride_vb + kv_head * stride_vh
    # exp(-104) is zero in float32: a token that decays further before the end adds nothing
    reach = tl.minimum(104.0 / tl.maximum(-decay, 1e-6), segment).to(tl.int32)
    end = (n + 1) * segment
    begin = end - segment + tl.maximum(segment - 1 - reach, 0) // C * C
    S = tl.zeros([BK, BV], dtype=tl.float32)
    for start in range(begin, end, C):
        first = tl.cast(start, tl.int64)
        k_tile = k + first * stride_kt + (token[:, None] * stride_kt + column[None, :])
        v_tile = v + first * stride_vt + (token[:, None] * stride_vt + value_column[None, :])
        keys = tl.load(k_tile, column[None, :] < K, other=0.0)  # [C, BK]
        values = tl.load(v_tile, value_column[None, :] < V, other=0.0)  # [C, BV]
        fade = tl.exp(decay * (end - 1 - start - token).to(tl.float32))
        decayed = (tl.trans(keys).to(tl.float32) * fade[None, :]).to(keys.dtype)
        S = tl.dot(decayed, values, S, input_precision="ieee")
    inside = (column[:, None] < K) & (value_column[None, :] < V)
    entering += (n.to(tl.int64) * BH + row) * (K * V)
    tl.store(entering + (column[:, None] * V + value_column[None, :]), S, inside)


@triton.jit(do_not_specialize=["num_sums"])
def _pass_states(state, entering, log_decay, step, H, size, segment, num_sums, BLOCK: tl.constexpr):
    """entering[n] <- the state that enters segment n + 1, from what segment n adds. In place."""
    row = tl.program_id(0).to(tl.int64)
    element = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = element < size
    fade = tl.exp(tl.load(log_decay + row % H).to(tl.float32) * segment)
    carry = tl.load(state + row * size + element, inside, other=0.0).to(tl.float32)
    entering += row * size + element
    for n in range(0, num_sums, 4):  # four at a time: their loads overlap
        at0 = entering + tl.cast(n, tl.int64) * step
        at1, at2 = at0 + step, at0 + tl.cast(2, tl.int64) * step
        at3 = at2 + step
        there1, there2, there3 = inside & (n + 1 < num_sums), inside & (n + 2 < num_sums), inside & (n + 3 < num_sums)
        sum0 = tl.load(at0, inside, other=0.0)
        sum1 = tl.load(at1, there1, other=0.0)
        sum2 = tl.load(at2, there2, other=0.0)
        sum3 = tl.load(at3, there3, other=0.0)
        carry = carry * fade + sum0
        tl.store(at0, carry, inside)
        carry = carry * fade + sum1
        tl.store(at1, carry, there1)
        carry = carry * fade + sum2
        tl.store(at2, carry, there2)
        carry = carry * fade + sum3
        tl.store(at3, carry, there3)


@triton.jit(do_not_specialize=["T", "num_segments"])
def _attend(
    q, k, v, state, log_decay, entering, o, after,
    stride_qb, stride_qt, stride_qh, stride_kb, stride_kt, stride_kh, stride_vb, stride_vt, stride_vh,
    scale, T, BH, H, group, segment, num_segments,
    K: tl.constexpr, V: tl.constexpr, BK: tl.constexpr, BV: tl.constexpr, C: tl.constexpr, DECAY_VALUES: tl.constexpr,
):  # fmt: skip
    """The outputs of one segment of one head. The last segment also writes the state after the last token."""
    num_tiles: tl.constexpr = (V + BV - 1) // BV
    pid = tl.program_id(0)
    row, n = pid // num_tiles % BH, pid // num_tiles // BH
    batch, head = (row // H).to(tl.int64), row % H
    kv_head = (head // group).to(tl.int64)
    decay = tl.load(log_decay + head).to(tl.float32)
    token, column = tl.arange(0, C), tl.arange(0, BK)
    value_column = pid % num_tiles * BV + tl.arange(0, BV)
    q += batch * stride_qb + head.to(tl.int64) * stride_qh
    k += batch * stride_kb + kv_head * stride_kh
    v += batch * stride_vb + kv_head * stride_vh
    o += (batch * T * H + head) * V
    inside = (column[:, None] < K) & (value_column[None, :] < V)
    place = column[:, None] * V + value_column[None, :]
    if n == 0:
        S = tl.load(state + row.to(tl.int64) * (K * V) + place, inside, other=0.0).to(tl.float32)
    else:
        S = tl.load(entering + ((n - 1).to(tl.int64) * BH + row) * (K * V) + place, inside, other=0.0)
    distance = token[:, None] - token[None, :]
    within = tl.where(distance >= 0, tl.exp(decay * tl.maximum(distance, 0).to(tl.float32)) * scale, 0.0)
    before = tl.exp(decay * (token + 1).to(tl.float32)) * scale
    end = tl.minimum((n + 1) * segment, T)
    for start in range(n * segment, end, C):
        first = tl.cast(start, tl.int64)
        valid = start + token[:, None] < end
        valid_k, valid_v = valid & (column[None, :] < K), valid & (value_column[None, :] < V)
        q_tile = q + first * stride_qt + (token[:, None] * stride_qt + column[None, :])
        k_tile = k + first * stride_kt + (token[:, None] * stride_kt + column[None, :])
        v_tile = v + first * stride_vt + (token[:, None] * stride_vt + value_column[None, :])
        o_tile = o + first * (H * V) + (token[:, None] * (H * V) + value_column[None, :])
        queries = tl.load(q_tile, valid_k, other=0.0)  # [C, BK]
        keys = tl.load(k_tile, valid_k, other=0.0)  # [C, BK]
        scores = tl.dot(queries, tl.trans(keys), input_precision="ieee") * within  # [C, C]
        # rounded for this product alone; for float16 inputs to TF32, as a sum over many tokens can exceed float16
        S_before = S if queries.dtype == tl.float16 else S.to(queries.dtype)
        values = tl.load(v_tile, valid_v, other=0.0)  # [C, BV]
        last = tl.minimum(end - start, C) - 1  # the last token of the block
        fade = tl.exp(decay * tl.maximum(last - token, 0).to(tl.float32))
        S *= tl.exp(decay * (last + 1).to(tl.float32))
        # the state is updated before the outputs are computed: this order needs fewer registers
        if DECAY_VALUES:
            decayed = (values.to(tl.float32) * fade[:, None]).to(values.dtype)
            S = tl.dot(tl.trans(keys), decayed, S, input_precision="ieee")
        else:
            decayed = (tl.trans(keys).to(tl.float32) * fade[None, :]).to(keys.dtype)
            S = tl.dot(decayed, values, S, input_precision="ieee")
        if queries.dtype == tl.float16:
            result = tl.dot(queries.to(tl.float32), S_before, input_precision="tf32") * before[:, None]  # [C, BV]
        else:
            result = tl.dot(queries, S_before, input_precision="ieee") * before[:, None]
        result = tl.dot(scores.to(values.dtype), values, result, input_precision="ieee")
        tl.store(o_tile, result.to(o.dtype.element_ty), valid_v)
    if n == num_segments - 1:
        tl.store(after + row.to(tl.int64) * (K * V) + place, S, inside)
