"""Triton kernel of `sala_kernels.rms_norm`. One program reads one row once and writes it once."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from sala_kernels.launch import launch


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Launch the kernel of `sala_kernels.rms_norm.rms_norm`."""
    rows = x.reshape(-1, x.shape[-1])
    out = torch.empty_like(rows)
    _launch(rows, None, weight, out, eps, 1.0)
    return out.view(x.shape)


def add_rms_norm(residual: Tensor, update: Tensor, weight: Tensor, eps: float, *, scale: float) -> Tensor:
    """Launch the kernel of `sala_kernels.rms_norm.add_rms_norm`. Raises ValueError if residual is not contiguous."""
    if not residual.is_contiguous():
        raise ValueError("residual must be contiguous: it is changed in place")
    rows = residual.view(-1, residual.shape[-1])
    out = torch.empty_like(rows)
    _launch(rows, update.reshape(rows.shape), weight, out, eps, scale)
    return out.view(residual.shape)


def _launch(rows: Tensor, update: Tensor | None, weight: Tensor, out: Tensor, eps: float, scale: float) -> None:
    N, D = rows.shape
    block = triton.next_power_of_2(D)
    launch(
        _norm_rows,
        (N,),
        num_warps=min(8, max(1, block // 512)),
        x=rows,
        update=update,
        weight=weight,
        out=out,
        stride_x=rows.stride(0),
        stride_update=0 if update is None else update.stride(0),
        eps=eps,
        scale=scale,
        D=D,
        BLOCK=block,
    )


@triton.jit
def _norm_rows(x, update, weight, out, stride_x, stride_update, eps, scale, D: tl.constexpr, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, BLOCK)
    inside = column < D
    value = tl.load(x + row * stride_x + column, inside, other=0.0).to(tl.float32)
    dtype = out.dtype.element_ty
    if update is not None:
        added = tl.load(update + row * stride_update + column, inside, other=0.0).to(tl.float32) * scale
        value = (value + added.to(dtype).to(tl.float32)).to(dtype).to(tl.float32)
        tl.store(x + row * stride_x + column, value.to(dtype), inside)
    mean = tl.sum(value * value) / D
    normed = (value * tl.rsqrt(mean + eps)).to(dtype).to(tl.float32)
    result = normed * tl.load(weight + column, inside, other=0.0).to(tl.float32)
    tl.store(out + row * D + column, result.to(dtype), inside)
