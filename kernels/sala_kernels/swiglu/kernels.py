"""Triton kernel of `sala_kernels.swiglu`. One program computes a part of one row."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from sala_kernels.launch import launch

_MAX_BLOCK = 2048  # numbers of a program


def swiglu(gate: Tensor, up: Tensor) -> Tensor:
    """Launch the kernel of `sala_kernels.swiglu.swiglu`."""
    F = gate.shape[-1]
    gates, ups = (x if x.stride(-1) == 1 else x.contiguous() for x in (gate.reshape(-1, F), up.reshape(-1, F)))
    out = torch.empty(gates.shape, dtype=gate.dtype, device=gate.device)
    block = min(_MAX_BLOCK, triton.next_power_of_2(F))
    num_blocks = triton.cdiv(F, block)
    launch(
        _activate,
        (gates.shape[0] * num_blocks,),
        num_warps=min(4, max(1, block // 512)),
        gate=gates,
        up=ups,
        out=out,
        stride_gate=gates.stride(0),
        stride_up=ups.stride(0),
        F=F,
        num_blocks=num_blocks,
        BLOCK=block,
    )
    return out.view(gate.shape)


@triton.jit
def _activate(gate, up, out, stride_gate, stride_up, F, num_blocks, BLOCK: tl.constexpr):
    pid = tl.program_id(0)
    row = (pid // num_blocks).to(tl.int64)
    column = pid % num_blocks * BLOCK + tl.arange(0, BLOCK)
    inside = column < F
    dtype = out.dtype.element_ty
    value = tl.load(gate + row * stride_gate + column, inside, other=0.0).to(tl.float32)
    activated = (value * tl.sigmoid(value)).to(dtype).to(tl.float32)
    result = activated * tl.load(up + row * stride_up + column, inside, other=0.0).to(tl.float32)
    tl.store(out + row * F + column, result.to(dtype), inside)
