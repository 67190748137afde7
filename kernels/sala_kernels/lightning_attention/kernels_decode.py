"""Triton kernel of `lightning_decode`, `lightning_verify` and `lightning_advance`: the state is read once, taken from
token to token in registers, and written once or not at all.

One kernel for all three, so that a token has the same bits whichever takes it: the state's product and sum are one
`fma`, which leaves the compiler no choice, and tiles have one shape however many tokens there are.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from sala_kernels.launch import launch
from sala_kernels.positions import Position
from sala_kernels.positions.kernels import number

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
    o = torch.empty(*q.shape[:2], v.shape[-1], dtype=q.dtype, device=q.device)
    _launch(
        q[:, None],
        k[:, None],
        v[:, None],
        state,
        log_decay,
        1,
        o=o,
        written=True,
        scale=scale,
        eps=eps,
        **_turned(cos_sin, q.shape[0], q.shape[2], by_token=False),
        **_norms(q_norm, k_norm),
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
    o = torch.empty(*q.shape[:2], v.shape[-1], dtype=q.dtype, device=q.device)
    k_ready = torch.empty(k.shape, dtype=k.dtype, device=k.device)
    _launch(
        q[None],
        k[None],
        v[None],
        state[None],
        log_decay,
        q.shape[0],
        o=o,
        k_ready=k_ready,
        written=False,
        scale=scale,
        eps=eps,
        **_turned(cos_sin, q.shape[0], q.shape[2], by_token=True),
        **_norms(q_norm, k_norm),
    )
    return o, k_ready


def lightning_advance(states: Tensor, ks: Tensor, vs: Tensor, log_decay: Tensor, count: Position) -> None:
    """As `sala_kernels.lightning_attention.lightning_advance`: the layers are the kernel's sequences."""
    _launch(None, ks, vs, states, log_decay, count, written=True, **_turned(None, 1, 2, by_token=True), **_norms())


def _norms(q_norm: Tensor | None = None, k_norm: Tensor | None = None) -> dict[str, Any]:
    return {
        "q_norm": None if q_norm is None else q_norm.contiguous(),
        "k_norm": None if k_norm is None else k_norm.contiguous(),
    }


def _turned(cos_sin: Tensor | None, rows: int, K: int, *, by_token: bool) -> dict[str, Any]:
    """The angles' arguments; `rows` are tokens, or sequences. Raises ValueError if cos_sin does not fit."""
    if cos_sin is None:
        return {"cos_sin": None, "stride_turn_b": 0, "stride_turn_t": 0, "turn_size": 0}
    if cos_sin.shape not in ((2, rows, K // 2), (2, 1, K // 2)) or K % 2:
        raise ValueError(f"cos_sin is {list(cos_sin.shape)}; needed is [2, {rows} or 1, {K} / 2]")
    step = 0 if cos_sin.shape[1] == 1 else K // 2
    return {
        "cos_sin": cos_sin.contiguous(),
        "stride_turn_b": 0 if by_token else step,
        "stride_turn_t": step if by_token else 0,
        "turn_size": cos_sin.shape[1] * (K // 2),
    }


def _launch(
    q: Tensor | None,
    k: Tensor,
    v: Tensor,
    state: Tensor,
    log_decay: Tensor,
    count: Position,
    *,
    written: bool,
    o: Tensor | None = None,
    k_ready: Tensor | None = None,
    scale: float = 1.0,
    eps: float = 0.0,
    **rest: Any,
) -> None:
    """q: [B, T, H, K] or None: no output is wanted; k, v: [B, T, Hk, .]; state: [B, H, K, V]; the first `count` tokens
    are taken. written: whether the state is."""
    B, H, K, V = state.shape
    if state.dtype != torch.float32 or not state.is_contiguous():
        raise ValueError(f"state must be float32 and contiguous, to be changed in place; it is {state.dtype}")
    if k.dtype != v.dtype or (q is not None and q.dtype != k.dtype):
        raise ValueError(
            f"q, k and v must have one dtype, not {'none' if q is None else q.dtype}, {k.dtype}, {v.dtype}"
        )
    k, v = (x if x.stride(-1) == 1 else x.contiguous() for x in (k, v))
    q = q if q is None or q.stride(-1) == 1 else q.contiguous()
    BV = min(_BV, triton.next_power_of_2(V))
    launch(
        _steps,
        (B * H, triton.cdiv(V, BV)),
        num_warps=4,
        q=q,
        k=k,
        v=v,
        state=state,
        log_decay=log_decay.contiguous(),
        o=o,
        k_ready=k_ready,
        count=count,
        stride_qb=0 if q is None else q.stride(0),
        stride_qt=0 if q is None else q.stride(1),
        stride_qh=0 if q is None else q.stride(2),
        stride_kb=k.stride(0),
        stride_kt=k.stride(1),
        stride_kh=k.stride(2),
        stride_vb=v.stride(0),
        stride_vt=v.stride(1),
        stride_vh=v.stride(2),
        scale=scale,
        eps=eps,
        T=k.shape[1],
        H=H,
        group=H // k.shape[2],
        K=K,
        V=V,
        BK=triton.next_power_of_2(K),
        BV=BV,
        WRITTEN=written,
        **rest,
    )


@triton.jit(do_not_specialize=["count", "T"])
def _steps(
    q, k, v, state, log_decay, o, k_ready, q_norm, k_norm, cos_sin, count,
    stride_qb, stride_qt, stride_qh, stride_kb, stride_kt, stride_kh, stride_vb, stride_vt, stride_vh,
    stride_turn_b, stride_turn_t, turn_size, scale, eps, T, H, group,
    K: tl.constexpr, V: tl.constexpr, BK: tl.constexpr, BV: tl.constexpr, WRITTEN: tl.constexpr,
):  # fmt: skip
    """One program: BV columns of one head's state, over all tokens."""
    row = tl.program_id(0).to(tl.int64)
    batch, head = row // H, row % H
    kv_head = head // group
    column, value_column = tl.arange(0, BK), tl.program_id(1) * BV + tl.arange(0, BV)
    num_tokens = number(count)
    inside = (column[:, None] < K) & (value_column[None, :] < V) & (num_tokens > 0)
    state += row * (K * V) + (column[:, None] * V + value_column[None, :])
    S = tl.load(state, inside, other=0.0)  # [BK, BV]
    decay = tl.exp(tl.load(log_decay + head).to(tl.float32))
    k += batch * stride_kb + kv_head * stride_kh
    v += batch * stride_vb + kv_head * stride_vh + value_column
    if cos_sin is not None:
        cos_sin += batch * stride_turn_b
    if q is not None:
        q += batch * stride_qb + head * stride_qh
        o += (batch * T * H + head) * V + value_column
    if k_ready is not None:
        k_ready += batch * T * (H // group) * K + kv_head * K + column
        ready = (column < K) & (tl.program_id(1) == 0) & (head % group == 0)
    for t in range(num_tokens):
        token = tl.cast(t, tl.int64)
        turn = cos_sin
        if cos_sin is not None:
            turn += token * stride_turn_t
        keys = _prepared(k + token * stride_kt, k_norm, turn, turn_size, eps, K, BK)
        values = tl.load(v + token * stride_vt, value_column < V, other=0.0).to(tl.float32)
        if q is not None:
            queries = _prepared(q + token * stride_qt, q_norm, turn, turn_size, eps, K, BK)
        S = tl.fma(S, decay, keys[:, None] * values[None, :])
        if q is not None:
            result = tl.sum((queries * scale)[:, None] * S, 0)
            tl.store(o + token * H * V, result.to(o.dtype.element_ty), value_column < V)
        if k_ready is not None:
            tl.store(k_ready + token * (H // group) * K, keys.to(k_ready.dtype.element_ty), ready)
    if WRITTEN:
        tl.store(state, S, inside)


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
