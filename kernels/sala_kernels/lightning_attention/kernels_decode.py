"""Triton kernel of `lightning_decode`: one launch, the state read once and written once."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from sala_kernels.launch import launch
from sala_kernels.positions import Position

_BV = 16  # 64 bytes of a row: one sequence then fills a card with programs


def lightning_decode(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    state: Tensor,
    log_decay: Tensor,
    *,
    scale: float,
    q_norm: Tensor | None,
    k_norm: Tensor | None,
    eps: float,
    cos_sin: Tensor | None,
) -> Tensor:
    """As `sala_kernels.lightning_attention.lightning_decode`."""
    B, H, K = q.shape
    V = v.shape[-1]
    if state.dtype != torch.float32 or not state.is_contiguous():
        raise ValueError(f"state must be float32 and contiguous, to be changed in place; it is {state.dtype}")
    if not q.dtype == k.dtype == v.dtype:
        raise ValueError(f"q, k and v must have one dtype, not {q.dtype}, {k.dtype} and {v.dtype}")
    if cos_sin is not None and (cos_sin.shape not in ((2, B, K // 2), (2, 1, K // 2)) or K % 2):
        raise ValueError(f"cos_sin is {list(cos_sin.shape)}; needed is [2, {B} or 1, {K} / 2]")
    q, k, v = (x if x.stride(-1) == 1 else x.contiguous() for x in (q, k, v))
    turn = None if cos_sin is None else cos_sin.contiguous()
    o = torch.empty(B, H, V, dtype=q.dtype, device=q.device)
    BV = min(_BV, triton.next_power_of_2(V))
    launch(
        _step,
        (B * H, triton.cdiv(V, BV)),
        num_warps=4,
        q=q,
        k=k,
        v=v,
        state=state,
        log_decay=log_decay.contiguous(),
        o=o,
        q_norm=None if q_norm is None else q_norm.contiguous(),
        k_norm=None if k_norm is None else k_norm.contiguous(),
        cos_sin=turn,
        stride_qb=q.stride(0),
        stride_qh=q.stride(1),
        stride_kb=k.stride(0),
        stride_kh=k.stride(1),
        stride_vb=v.stride(0),
        stride_vh=v.stride(1),
        stride_turn=0 if turn is None or turn.shape[1] == 1 else K // 2,
        turn_size=0 if turn is None else turn.shape[1] * (K // 2),
        scale=scale,
        eps=eps,
        H=H,
        group=H // k.shape[1],
        K=K,
        V=V,
        BK=triton.next_power_of_2(K),
        BV=BV,
    )
    return o


def lightning_verify(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    state: Tensor,
    log_decay: Tensor,
    *,
    scale: float,
    q_norm: Tensor | None,
    k_norm: Tensor | None,
    eps: float,
    cos_sin: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """As `sala_kernels.lightning_attention.lightning_verify`."""
    raise NotImplementedError


def lightning_advance(states: Tensor, ks: Tensor, vs: Tensor, log_decay: Tensor, count: Position) -> None:
    """As `sala_kernels.lightning_attention.lightning_advance`."""
    raise NotImplementedError


@triton.jit
def _step(
    q, k, v, state, log_decay, o, q_norm, k_norm, cos_sin,
    stride_qb, stride_qh, stride_kb, stride_kh, stride_vb, stride_vh, stride_turn, turn_size, scale, eps, H, group,
    K: tl.constexpr, V: tl.constexpr, BK: tl.constexpr, BV: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    batch, head = row // H, row % H
    kv_head = head // group
    column, value_column = tl.arange(0, BK), tl.program_id(1) * BV + tl.arange(0, BV)
    inside = (column[:, None] < K) & (value_column[None, :] < V)
    state += row * (K * V) + (column[:, None] * V + value_column[None, :])
    S = tl.load(state, inside, other=0.0)  # [BK, BV]
    if cos_sin is not None:
        cos_sin += batch * stride_turn
    queries = _prepared(q + batch * stride_qb + head * stride_qh, q_norm, cos_sin, turn_size, eps, K, BK)
    keys = _prepared(k + batch * stride_kb + kv_head * stride_kh, k_norm, cos_sin, turn_size, eps, K, BK)
    values = tl.load(v + batch * stride_vb + kv_head * stride_vh + value_column, value_column < V, other=0.0)
    S = S * tl.exp(tl.load(log_decay + head).to(tl.float32)) + keys[:, None] * values.to(tl.float32)[None, :]
    tl.store(state, S, inside)
    result = tl.sum((queries * scale)[:, None] * S, 0)
    tl.store(o + row * V + value_column, result.to(o.dtype.element_ty), value_column < V)


@triton.jit
def _prepared(x, weight, cos_sin, turn_size, eps, K: tl.constexpr, BK: tl.constexpr):
    """x [K], normalised if there are weights, then turned if there are angles; rounded where `rms_norm` and
    `apply_rotary` round. [BK] fp32, zeros behind K."""
    column = tl.arange(0, BK)
    inside = column < K
    dtype = x.dtype.element_ty
    value = tl.load(x + column, inside, other=0.0).to(tl.float32)
    half: tl.constexpr = K // 2
    facing = tl.where(column < half, column + half, column - half)  # the dimension that this one turns with
    if cos_sin is not None:
        partner = tl.load(x + facing, inside, other=0.0).to(tl.float32)
    if weight is not None:
        size = tl.rsqrt(tl.sum(value * value) / K + eps)
        value = (value * size).to(dtype).to(tl.float32) * tl.load(weight + column, inside, other=0.0).to(tl.float32)
        value = value.to(dtype).to(tl.float32)
        if cos_sin is not None:
            facing_weight = tl.load(weight + facing, inside, other=0.0).to(tl.float32)
            partner = ((partner * size).to(dtype).to(tl.float32) * facing_weight).to(dtype).to(tl.float32)
    if cos_sin is not None:
        cos = tl.load(cos_sin + column % half, inside, other=0.0)
        sin = tl.load(cos_sin + turn_size + column % half, inside, other=0.0)
        turned = tl.where(column < half, value * cos - partner * sin, value * cos + partner * sin)
        value = turned.to(dtype).to(tl.float32)
    return value
