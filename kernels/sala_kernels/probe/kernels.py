"""The kernel of `sala_kernels.probe`."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from sala_kernels.launch import launch

_BLOCK = 64


def double(x: Tensor) -> Tensor:
    """x + x. x: [n] fp32, contiguous."""
    out = torch.empty_like(x)
    count = len(x)
    launch(_double, (triton.cdiv(count, _BLOCK),), num_warps=1, x=x, out=out, count=count, BLOCK=_BLOCK)
    return out


@triton.jit(do_not_specialize=["count"])
def _double(x, out, count, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    value = tl.load(x + at, at < count, other=0.0)
    tl.store(out + at, value + value, at < count)
