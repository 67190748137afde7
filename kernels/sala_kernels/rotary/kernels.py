"""Triton kernels of `sala_kernels.rotary`.

One kernel computes the cosines and sines of the rotary angles from positions, in float64. The other normalizes and
rotates heads in registers: it reads each head once and writes it once.
"""

from math import log2, pi

import torch
import triton
import triton.language as tl
from torch import Tensor

from sala_kernels.launch import launch
from sala_kernels.positions import Position
from sala_kernels.positions.kernels import load_scalar

_TILE_ELEMENTS = 4096  # numbers of a program, all of one token
_ANGLES = 256  # angles of a program
_QUARTER = tl.constexpr(pi / 2)
_QUARTER_REST = tl.constexpr(6.123233995736766e-17)  # pi / 2 minus its float64 value


def rotary_cos_sin(position: Position, num_tokens: int, dim: int, theta: float, device: torch.device) -> Tensor:
    """Launch the kernel of `sala_kernels.rotary.rotary_cos_sin`."""
    half = triton.cdiv(dim, 2)
    out = torch.empty(2, num_tokens, half, dtype=torch.float32, device=device)
    launch(
        _cos_sin,
        (triton.cdiv(num_tokens * half, _ANGLES),),
        num_warps=4,
        out=out,
        position=position,
        count=num_tokens * half,
        HALF=half,
        EXPONENT=-2 * log2(theta) / dim,
        BLOCK=_ANGLES,
    )
    return out


def apply_rotary(x: Tensor, cos_sin: Tensor) -> Tensor:
    """Launch the kernel of `sala_kernels.rotary.apply_rotary`."""
    heads = x.reshape(-1, *x.shape[-2:])
    out = torch.empty(heads.shape, dtype=x.dtype, device=x.device)
    _launch(heads, None, None, None, cos_sin, out, None, 0.0, num_tokens=x.shape[-3])
    return out.view(x.shape)


def qk_norm_rotary(
    q: Tensor, k: Tensor, q_weight: Tensor | None, k_weight: Tensor | None, cos_sin: Tensor | None, *, eps: float
) -> tuple[Tensor, Tensor]:
    """Launch the kernel of `sala_kernels.rotary.qk_norm_rotary`."""
    q_out, k_out = (torch.empty(x.shape, dtype=x.dtype, device=x.device) for x in (q, k))
    _launch(q, k, q_weight, k_weight, cos_sin, q_out, k_out, eps, num_tokens=q.shape[0])
    return q_out, k_out


def _launch(
    q: Tensor,
    k: Tensor | None,
    q_weight: Tensor | None,
    k_weight: Tensor | None,
    cos_sin: Tensor | None,
    q_out: Tensor,
    k_out: Tensor | None,
    eps: float,
    *,
    num_tokens: int,
) -> None:
    """Normalize and rotate q and k, [N, heads, d]. Token i has the angles of row i % num_tokens of cos_sin."""
    q = q if q.stride(-1) == 1 else q.contiguous()
    k = k if k is None or k.stride(-1) == 1 else k.contiguous()
    cos_sin = None if cos_sin is None else cos_sin.contiguous()
    N, H, d = q.shape
    num_kv_heads = 0 if k is None else k.shape[1]
    block = triton.next_power_of_2(max(1, (d + 1) // 2))
    rows = min(triton.next_power_of_2(max(H, num_kv_heads)), max(1, _TILE_ELEMENTS // (2 * block)))
    num_q_tiles = triton.cdiv(H, rows)
    launch(
        _norm_and_rotate,
        (N * (num_q_tiles + triton.cdiv(num_kv_heads, rows)),),
        num_warps=min(4, max(1, rows * block // 256)),
        q=q,
        k=k,
        q_weight=None if q_weight is None else q_weight.contiguous(),
        k_weight=None if k_weight is None else k_weight.contiguous(),
        cos_sin=cos_sin,
        q_out=q_out,
        k_out=k_out,
        stride_qt=q.stride(0),
        stride_qh=q.stride(1),
        stride_kt=0 if k is None else k.stride(0),
        stride_kh=0 if k is None else k.stride(1),
        stride_cos_sin=0 if cos_sin is None or cos_sin.shape[1] == 1 else d // 2,
        sin_offset=0 if cos_sin is None else cos_sin.shape[1] * (d // 2),
        num_tokens=num_tokens,
        H=H,
        num_kv_heads=num_kv_heads,
        num_q_tiles=num_q_tiles,
        num_tiles=num_q_tiles + triton.cdiv(num_kv_heads, rows),
        eps=eps,
        D=d,
        ROWS=rows,
        BLOCK=block,
    )


@triton.jit(do_not_specialize=["position", "count"])
def _cos_sin(out, position, count, HALF: tl.constexpr, EXPONENT: tl.constexpr, BLOCK: tl.constexpr):
    """Write BLOCK cosines and sines of out [2, T, HALF].

    A library's float64 cosine keeps a table on the stack. This one needs none: it reduces the angle by multiples of
    pi / 2 and sums the first terms of the Taylor series.
    """
    offset = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    token = (load_scalar(position) + offset // HALF).to(tl.float64)
    angle = token * tl.exp2((offset % HALF).to(tl.float64) * _double(EXPONENT))
    quarters = tl.floor(angle / _double(_QUARTER) + _double(0.5))
    rest = tl.fma(-quarters, _double(_QUARTER), angle)
    rest = tl.fma(-quarters, _double(_QUARTER_REST), rest)
    sine, cosine = rest * _series(rest * rest, 1), _series(rest * rest, 0)
    quarter = quarters.to(tl.int64) & 3
    odd = (quarter & 1) == 1
    cos = tl.where(odd, sine, cosine)
    sin = tl.where(odd, cosine, sine)
    cos = tl.where((quarter == 1) | (quarter == 2), -cos, cos)
    sin = tl.where(quarter >= 2, -sin, sin)
    tl.store(out + offset, cos.to(tl.float32), offset < count)
    tl.store(out + count + offset, sin.to(tl.float32), offset < count)


@triton.jit
def _series(x, FIRST: tl.constexpr):
    """Taylor series 1 - x / ((f + 1)(f + 2)) (1 - x / ((f + 3)(f + 4)) (...)) with f = FIRST.

    For x = a^2 it is cos(a) if f = 0 and sin(a) / a if f = 1. The error is at most 1e-14 for |a| up to pi / 4.
    """
    total = _double(1.0) + tl.zeros_like(x)
    for i in tl.static_range(7):
        total = _double(1.0) - total * x * _double(1.0 / ((FIRST + 13 - 2 * i) * (FIRST + 14 - 2 * i)))
    return total


@triton.jit
def _double(x: tl.constexpr):
    """The constant x in float64. A literal would be rounded to float32."""
    return tl.full([], x, tl.float64)


@triton.jit(do_not_specialize=["num_tokens"])
def _norm_and_rotate(
    q, k, q_weight, k_weight, cos_sin, q_out, k_out, stride_qt, stride_qh, stride_kt, stride_kh,
    stride_cos_sin, sin_offset, num_tokens, H, num_kv_heads, num_q_tiles, num_tiles, eps,
    D: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Normalize and rotate up to ROWS heads of one token, of q or of k."""
    pid = tl.program_id(0)
    token, tile = (pid // num_tiles).to(tl.int64), pid % num_tiles
    if cos_sin is not None:
        cos_sin += token % num_tokens * stride_cos_sin
    if k is None or tile < num_q_tiles:
        head = tile * ROWS + tl.arange(0, ROWS)
        q += token * stride_qt
        q_out += token * H * D
        _norm_and_rotate_heads(q, q_weight, cos_sin, q_out, head, H, stride_qh, sin_offset, eps, D, BLOCK)
    if k is not None and tile >= num_q_tiles:
        head = (tile - num_q_tiles) * ROWS + tl.arange(0, ROWS)
        k += token * stride_kt
        k_out += token * num_kv_heads * D
        _norm_and_rotate_heads(k, k_weight, cos_sin, k_out, head, num_kv_heads, stride_kh, sin_offset, eps, D, BLOCK)


@triton.jit
def _norm_and_rotate_heads(
    x, weight, cos_sin, out, head, num_heads, stride_h, sin_offset, eps, D: tl.constexpr, BLOCK: tl.constexpr
):
    """Normalize and rotate the heads `head` of one token's x [num_heads, D]. a and b are the two halves of a head."""
    half: tl.constexpr = (D + 1) // 2
    column = tl.arange(0, BLOCK)
    in_a, in_b = column < half, column < D - half
    valid = head[:, None] < num_heads
    dtype = out.dtype.element_ty
    offset = head.to(tl.int64)[:, None] * stride_h + column[None, :]
    a = tl.load(x + offset, valid & in_a[None, :], other=0.0).to(tl.float32)  # [ROWS, BLOCK]
    b = tl.load(x + offset + half, valid & in_b[None, :], other=0.0).to(tl.float32)
    if weight is not None:
        weight_a = tl.load(weight + column, in_a, other=0.0).to(tl.float32)[None, :]
        weight_b = tl.load(weight + column + half, in_b, other=0.0).to(tl.float32)[None, :]
        size = tl.rsqrt(tl.sum(a * a + b * b, 1) / D + eps)[:, None]
        a = ((a * size).to(dtype).to(tl.float32) * weight_a).to(dtype).to(tl.float32)
        b = ((b * size).to(dtype).to(tl.float32) * weight_b).to(dtype).to(tl.float32)
    if cos_sin is not None:
        cos = tl.load(cos_sin + column, in_a, other=0.0)[None, :]
        sin = tl.load(cos_sin + sin_offset + column, in_a, other=0.0)[None, :]
        rotated = a * cos - b * sin
        b = b * cos + a * sin
        a = rotated
    out += head[:, None] * D + column[None, :]
    tl.store(out, a.to(dtype), valid & in_a[None, :])
    tl.store(out + half, b.to(dtype), valid & in_b[None, :])
