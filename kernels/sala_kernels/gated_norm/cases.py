"""Inputs on which `gated_norm` is compared, and its workloads in the released model."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch
from torch import Tensor

from sala_kernels.backend import Backend
from sala_kernels.gated_norm import gated_norm
from sala_kernels.inspection.cases import FLOAT32, Comparison, Numbers, Workload

_HEADS, _DIM = 32, 128


def comparisons() -> Iterator[Comparison]:
    """Rows of odd lengths, o in heads, with and without the norm."""
    for T, H, d in [(1, 1, 1), (3, 3, 5), (2, 24, 16), (5, 4, 64), (2, 32, 128)]:
        for normed in (True, False):
            name = f"T {T}, {H} x {d}" + ("" if normed else ", gate alone")
            yield Comparison(name=name, run=partial(_run, T=T, H=H, d=d, normed=normed))


def workloads() -> Iterator[Workload]:
    """Both kinds of layer. Bytes: o and gate read, the result written, in bf16. FLOPs: an exponential counts as one."""
    D = _HEADS * _DIM
    for name, T in (("decode", 1), ("prefill 8,192", 8192)):
        yield Workload(
            name=f"lightning, {name}",
            prepare=partial(_prepare, T=T, normed=True),
            num_bytes=2 * D * (3 * T + 1),
            num_flops=8 * T * D,
        )
        yield Workload(
            name=f"sparse, {name}",
            prepare=partial(_prepare, T=T, normed=False),
            num_bytes=6 * D * T,
            num_flops=4 * T * D,
        )


def _run(
    backend: Backend, device: torch.device, numbers: Numbers = FLOAT32, *, T: int, H: int, d: int, normed: bool
) -> Sequence[Tensor]:
    generator = torch.Generator().manual_seed(T + 10 * H + d)
    o = numbers.rows(torch.randn(T, H, d, generator=generator).to(device))
    gate = numbers.rows((4 * torch.randn(T, 2 * H * d, generator=generator)).to(device))[:, : H * d]  # strided rows
    weight = numbers.rows(torch.randn(H * d, generator=generator).to(device)) if normed else None
    return [gated_norm(o, gate, weight, eps=1e-6, backend=backend)]


def _prepare(device: torch.device, T: int, normed: bool) -> Callable[[], object]:
    o = torch.zeros(T, _HEADS, _DIM, dtype=torch.bfloat16, device=device)
    gate = torch.zeros(T, _HEADS * _DIM, dtype=torch.bfloat16, device=device)
    weight = torch.ones(_HEADS * _DIM, dtype=torch.bfloat16, device=device) if normed else None
    return lambda: gated_norm(o, gate, weight, eps=1e-6)
