"""Triton kernel of `lightning_decode`, `lightning_verify` and `lightning_advance`.

It reads the state once, advances it token by token in registers, and writes it once or not at all. All three operations
use it, so that a token has the same bits in each. The state is updated by one `fma`, which leaves the compiler no
choice, and the shape of a tile does not depend on the number of tokens.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from sala_kernels.launch import capability, launch
from sala_kernels.lightning_attention.inputs import DecodeInputs
from sala_kernels.positions import Position
from sala_kernels.positions.kernels import load_scalar

_BV = 16  # columns of a program's state, 64 bytes of a row: few, so that one sequence occupies a GPU


def lightning_decode(inputs: DecodeInputs) -> Tensor:
    """Launch the kernel of `sala_kernels.lightning_attention.lightning_decode`."""
    q, k, v = inputs.q, inputs.k, inputs.v
    o = torch.empty(*q.shape[:2], v.shape[-1], dtype=q.dtype, device=q.device)
    _launch(
        q[:, None],
        k[:, None],
        v[:, None],
        inputs.state,
        inputs.log_decay,
        1,
        o=o,
        store_state=True,
        **_preparation(inputs, by_token=False),
    )
    return o


def lightning_verify(inputs: DecodeInputs) -> tuple[Tensor, Tensor]:
    """Launch the kernel of `sala_kernels.lightning_attention.lightning_verify`."""
    q, k, v = inputs.q, inputs.k, inputs.v
    o = torch.empty(*q.shape[:2], v.shape[-1], dtype=q.dtype, device=q.device)
    k_ready = torch.empty(k.shape, dtype=k.dtype, device=k.device)
    _launch(
        q[None],
        k[None],
        v[None],
        inputs.state[None],
        inputs.log_decay,
        q.shape[0],
        o=o,
        k_ready=k_ready,
        store_state=False,
        **_preparation(inputs, by_token=True),
    )
    return o, k_ready


def lightning_advance(states: Tensor, ks: Tensor, vs: Tensor, log_decay: Tensor, count: Position) -> None:
    """Launch the kernel of `sala_kernels.lightning_attention.lightning_advance`. Its sequences are the layers."""
    _launch(None, ks, vs, states, log_decay, count, store_state=True, **_NO_PREPARATION)


_NO_ROTATION: dict[str, Any] = {"cos_sin": None, "stride_cos_sin_b": 0, "stride_cos_sin_t": 0, "sin_offset": 0}
_NO_PREPARATION: dict[str, Any] = {"scale": 1.0, "eps": 0.0, "q_norm": None, "k_norm": None, **_NO_ROTATION}


def _preparation(inputs: DecodeInputs, *, by_token: bool) -> dict[str, Any]:
    """The arguments for scale, norms and rotation. by_token: whether the angles are of tokens, not of sequences."""
    return {
        "scale": inputs.scale,
        "eps": inputs.eps,
        "q_norm": None if inputs.q_norm is None else inputs.q_norm.contiguous(),
        "k_norm": None if inputs.k_norm is None else inputs.k_norm.contiguous(),
        **_rotation(inputs.cos_sin, inputs.q.shape[0], inputs.q.shape[2], by_token=by_token),
    }


def _rotation(cos_sin: Tensor | None, rows: int, K: int, *, by_token: bool) -> dict[str, Any]:
    """The arguments for the angles of `rows` tokens or sequences. Raises ValueError if cos_sin has another shape."""
    if cos_sin is None:
        return _NO_ROTATION
    if cos_sin.shape not in ((2, rows, K // 2), (2, 1, K // 2)) or K % 2:
        raise ValueError(f"cos_sin is {list(cos_sin.shape)}; needed is [2, {rows} or 1, {K} / 2]")
    step = 0 if cos_sin.shape[1] == 1 else K // 2
    return {
        "cos_sin": cos_sin.contiguous(),
        "stride_cos_sin_b": 0 if by_token else step,
        "stride_cos_sin_t": step if by_token else 0,
        "sin_offset": cos_sin.shape[1] * (K // 2),
    }


def _launch(
    q: Tensor | None,
    k: Tensor,
    v: Tensor,
    state: Tensor,
    log_decay: Tensor,
    count: Position,
    *,
    store_state: bool,
    o: Tensor | None = None,
    k_ready: Tensor | None = None,
    **preparation: Any,
) -> None:
    """Advance state [B, H, K, V] by the first `count` tokens of k and v, [B, T, Hk, .].

    q: [B, T, H, K], or None for no output. store_state: whether the new state is written.
    """
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
        num_warps=8 if capability(state) == 100 else 4,  # on sm_100, 4 warps would spill
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
        T=k.shape[1],
        H=H,
        group=H // k.shape[2],
        K=K,
        V=V,
        BK=triton.next_power_of_2(K),
        BV=BV,
        STORE_STATE=store_state,
        **preparation,
    )


@triton.jit(do_not_specialize=["count", "T"])
def _steps(
    q, k, v, state, log_decay, o, k_ready, q_norm, k_norm, cos_sin, count,
    stride_qb, stride_qt, stride_qh, stride_kb, stride_kt, stride_kh, stride_vb, stride_vt, stride_vh,
    stride_cos_sin_b, stride_cos_sin_t, sin_offset, scale, eps, T, H, group,
    K: tl.constexpr, V: tl.constexpr, BK: tl.constexpr, BV: tl.constexpr, STORE_STATE: tl.constexpr,
):  # fmt: skip
    """Advance BV columns of one head's state over all tokens."""
    row = tl.program_id(0).to(tl.int64)
    batch, head = row // H, row % H
    kv_head = head // group
    column, value_column = tl.arange(0, BK), tl.program_id(1) * BV + tl.arange(0, BV)
    num_tokens = tl.minimum(load_scalar(count), T)  # the host may not know the count
    inside = (column[:, None] < K) & (value_column[None, :] < V) & (num_tokens > 0)
    state += row * (K * V) + (column[:, None] * V + value_column[None, :])
    S = tl.load(state, inside, other=0.0)  # [BK, BV]
    decay = tl.exp(tl.load(log_decay + head).to(tl.float32))
    k += batch * stride_kb + kv_head * stride_kh
    v += batch * stride_vb + kv_head * stride_vh + value_column
    if cos_sin is not None:
        cos_sin += batch * stride_cos_sin_b
    if q is not None:
        q += batch * stride_qb + head * stride_qh
        o += (batch * T * H + head) * V + value_column
    if k_ready is not None:
        k_ready += batch * T * (H // group) * K + kv_head * K + column
        ready = (column < K) & (tl.program_id(1) == 0) & (head % group == 0)
    for t in range(num_tokens):
        token = tl.cast(t, tl.int64)
        angles = cos_sin
        if cos_sin is not None:
            angles += token * stride_cos_sin_t
        keys = _norm_and_rotate(k + token * stride_kt, k_norm, angles, sin_offset, eps, K, BK)
        values = tl.load(v + token * stride_vt, value_column < V, other=0.0).to(tl.float32)
        if q is not None:
            queries = _norm_and_rotate(q + token * stride_qt, q_norm, angles, sin_offset, eps, K, BK)
        S = tl.fma(S, decay, keys[:, None] * values[None, :])
        if q is not None:
            result = tl.sum((queries * scale)[:, None] * S, 0)
            tl.store(o + token * H * V, result.to(o.dtype.element_ty), value_column < V)
        if k_ready is not None:
            tl.store(k_ready + token * (H // group) * K, keys.to(k_ready.dtype.element_ty), ready)
    if STORE_STATE:
        tl.store(state, S, inside)


@triton.jit
def _norm_and_rotate(x, weight, cos_sin, sin_offset, eps, K: tl.constexpr, BK: tl.constexpr):
    """x [K], normalized if there is a weight and rotated if there are angles, as [BK] fp32 with zeros from K on.

    The roundings are those of `rms_norm` and `apply_rotary`.
    """
    column = tl.arange(0, BK)
    inside = column < K
    dtype = x.dtype.element_ty
    value = tl.load(x + column, inside, other=0.0).to(tl.float32)
    half: tl.constexpr = K // 2
    partner_column = tl.where(column < half, column + half, column - half)  # the dimension with which this one rotates
    if cos_sin is not None:
        partner = tl.load(x + partner_column, inside, other=0.0).to(tl.float32)
    if weight is not None:
        size = tl.rsqrt(tl.sum(value * value) / K + eps)
        value = (value * size).to(dtype).to(tl.float32) * tl.load(weight + column, inside, other=0.0).to(tl.float32)
        value = value.to(dtype).to(tl.float32)
        if cos_sin is not None:
            partner_weight = tl.load(weight + partner_column, inside, other=0.0).to(tl.float32)
            partner = ((partner * size).to(dtype).to(tl.float32) * partner_weight).to(dtype).to(tl.float32)
    if cos_sin is not None:
        cos = tl.load(cos_sin + column % half, inside, other=0.0)
        sin = tl.load(cos_sin + sin_offset + column % half, inside, other=0.0)
        rotated = tl.where(column < half, value * cos - partner * sin, value * cos + partner * sin)
        value = rotated.to(dtype).to(tl.float32)
    return value
