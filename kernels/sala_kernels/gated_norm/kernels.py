"""Triton kernel of `sala_kernels.gated_norm`. One program reads one row once and writes it once."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from sala_kernels.launch import launch


def gated_norm(o: Tensor, gate: Tensor, weight: Tensor | None, *, eps: float) -> Tensor:
    """Launch the kernel of `sala_kernels.gated_norm.gated_norm`."""
    D = gate.shape[-1]
    rows, gates = (x if x.stride(-1) == 1 else x.contiguous() for x in (o.reshape(-1, D), gate.reshape(-1, D)))
    out = torch.empty(rows.shape, dtype=gate.dtype, device=gate.device)
    block = triton.next_power_of_2(D)
    launch(
        _gate_rows,
        (rows.shape[0],),
        num_warps=min(8, max(1, block // 512)),
        o=rows,
        gate=gates,
        weight=None if weight is None else weight.contiguous(),
        out=out,
        stride_o=rows.stride(0),
        stride_gate=gates.stride(0),
        eps=eps,
        D=D,
        BLOCK=block,
    )
    return out.view(gate.shape)


@triton.jit
def _gate_rows(o, gate, weight, out, stride_o, stride_gate, eps, D: tl.constexpr, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, BLOCK)
    inside = column < D
    dtype = out.dtype.element_ty
    value = tl.load(o + row * stride_o + column, inside, other=0.0).to(tl.float32)
    gate_value = tl.sigmoid(tl.load(gate + row * stride_gate + column, inside, other=0.0).to(tl.float32))
    if weight is not None:
        normed = (value * tl.rsqrt(tl.sum(value * value) / D + eps)).to(dtype).to(tl.float32)
        value = (normed * tl.load(weight + column, inside, other=0.0).to(tl.float32)).to(dtype).to(tl.float32)
    result = value * gate_value.to(dtype).to(tl.float32)
    tl.store(out + row * D + column, result.to(dtype), inside)
