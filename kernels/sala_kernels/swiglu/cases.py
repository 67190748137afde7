"""Inputs on which `swiglu` is compared, and its workloads in the released model."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch
from torch import Tensor

from sala_kernels.backend import Backend
from sala_kernels.inspection.cases import BF16_LIMIT, FLOAT32, Comparison, Numbers, Workload
from sala_kernels.swiglu import swiglu

_INTERMEDIATE = 16384


def comparisons() -> Iterator[Comparison]:
    """gate and up as two tensors, and as the halves of one."""
    for shape in [(1, 1), (3, 7), (2, 3, 100), (5, 2048), (2, 2100), (1, 16384)]:
        for halves in (False, True):
            name = f"{list(shape)}" + ", halves of one tensor" * halves
            # a single number is off by up to 2^-8 at each of two roundings
            limit = 2**-7 if shape == (1, 1) else BF16_LIMIT
            yield Comparison(name=name, run=partial(_run, shape=shape, halves=halves), bf16_limit=limit)


def workloads() -> Iterator[Workload]:
    """Bytes: gate and up read, the result written, in bf16. FLOPs: an exponential counts as one."""
    for name, T in (("decode", 1), ("prefill 8,192", 8192)):
        yield Workload(
            name=name, prepare=partial(_prepare, T=T), num_bytes=6 * T * _INTERMEDIATE, num_flops=5 * T * _INTERMEDIATE
        )


def _run(
    backend: Backend, device: torch.device, numbers: Numbers = FLOAT32, *, shape: tuple[int, ...], halves: bool
) -> Sequence[Tensor]:
    generator = torch.Generator().manual_seed(sum(shape))
    both = numbers.rows((4 * torch.randn(*shape[:-1], 2 * shape[-1], generator=generator)).to(device))
    gate, up = both.chunk(2, -1)
    if not halves:
        gate, up = gate.contiguous(), up.contiguous()
    return [swiglu(gate, up, backend=backend)]


def _prepare(device: torch.device, T: int) -> Callable[[], object]:
    both = torch.zeros(T, 2 * _INTERMEDIATE, dtype=torch.bfloat16, device=device)
    gate, up = both.chunk(2, -1)
    return lambda: swiglu(gate, up)
