"""Inputs on which `rms_norm` is compared, and its workloads in the released model."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch
from torch import Tensor

from sala_kernels.backend import Backend
from sala_kernels.inspection.cases import FLOAT32, Comparison, Numbers, Workload
from sala_kernels.rms_norm import add_rms_norm, rms_norm

_HIDDEN = 4096


def comparisons() -> Iterator[Comparison]:
    """Rows of odd lengths, contiguous or not."""
    for shape in [(1, 1), (3, 7), (5, 64), (2, 3, 100), (2, 4096)]:
        yield Comparison(name=f"rms_norm {list(shape)}", run=partial(_norm, shape=shape))
        yield Comparison(name=f"add_rms_norm {list(shape)}", run=partial(_add, shape=shape))


def workloads() -> Iterator[Workload]:
    """`add_rms_norm` in bf16, as before each half of a layer."""
    for name, T in (("decode", 1), ("prefill 8,192", 8192)):
        yield Workload(
            name=name, prepare=partial(_prepare, T=T), num_bytes=2 * _HIDDEN * (4 * T + 1), num_flops=6 * T * _HIDDEN
        )


def _norm(
    backend: Backend, device: torch.device, numbers: Numbers = FLOAT32, *, shape: tuple[int, ...]
) -> Sequence[Tensor]:
    generator = torch.Generator().manual_seed(sum(shape))
    x = numbers.rows(torch.randn(*shape[:-1], 2 * shape[-1], generator=generator).to(device))
    x = x[..., : shape[-1]]  # strided rows
    weight = numbers.rows(torch.randn(shape[-1], generator=generator).to(device))
    return [rms_norm(x, weight, 1e-6, backend=backend)]


def _add(
    backend: Backend, device: torch.device, numbers: Numbers = FLOAT32, *, shape: tuple[int, ...]
) -> Sequence[Tensor]:
    generator = torch.Generator().manual_seed(sum(shape))
    residual, update, weight = (
        numbers.rows(torch.randn(size, generator=generator).to(device)) for size in (shape, shape, shape[-1:])
    )
    return [add_rms_norm(residual, update, weight, 1e-6, scale=0.25, backend=backend), residual]


def _prepare(device: torch.device, T: int) -> Callable[[], object]:
    residual, update = (torch.zeros(T, _HIDDEN, dtype=torch.bfloat16, device=device) for _ in range(2))
    weight = torch.ones(_HIDDEN, dtype=torch.bfloat16, device=device)
    return lambda: add_rms_norm(residual, update, weight, 1e-6, scale=0.25)
