"""Inputs on which `kv_quantization` is compared, and its workloads in the released model."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch
from torch import Tensor

from sala_kernels.backend import Backend
from sala_kernels.inspection.cases import FLOAT32, Comparison, Numbers, Workload
from sala_kernels.kv_quantization import Kind, QuantizedRows, dequantize_rows, quantize_rows

_HEADS, _DIM = 2, 128
_KINDS: tuple[Kind, ...] = ("int8", "fp8")


def comparisons() -> Iterator[Comparison]:
    """Rows of odd lengths, large, tiny and zero, from a strided source into the middle of a cache."""
    for kind in _KINDS:
        for shape in [(1, 1, 16), (2, 37, 24), (3, 5, 128), (1, 3, 250)]:
            run = partial(_quantize, shape=shape, kind=kind)
            yield Comparison(name=f"quantize {list(shape)} {kind}", run=run, bf16_limit=0.0)  # computed in float32
            yield Comparison(name=f"dequantize {list(shape)} {kind}", run=partial(_dequantize, shape=shape, kind=kind))


def workloads() -> Iterator[Workload]:
    """Keys (or values) of one layer.

    Bytes: every row once in bf16 and once quantized, with its scale. FLOPs of a number: two comparisons, a division and
    a rounding to quantize it, one product to dequantize it.
    """
    for kind in _KINDS:
        for name, T in (("decode", 1), ("prefill 8,192", 8192)):
            num_bytes = _HEADS * T * (3 * _DIM + 4)
            yield Workload(
                name=f"quantize {name} {kind}",
                prepare=partial(_prepare_quantize, T=T, kind=kind),
                num_bytes=num_bytes,
                num_flops=4 * _HEADS * T * _DIM,
            )
        yield Workload(
            name=f"dequantize 8,192 {kind}",
            prepare=partial(_prepare_dequantize, T=8192, kind=kind),
            num_bytes=_HEADS * 8192 * (3 * _DIM + 4),
            num_flops=_HEADS * 8192 * _DIM,
        )


def _rows(device: torch.device, shape: tuple[int, int, int]) -> Tensor:
    """Rows [heads, n, d] as the model computes them: a view of [n, heads, d]."""
    heads, n, d = shape
    generator = torch.Generator().manual_seed(sum(shape))
    x = torch.randn(n, heads, d, generator=generator) * torch.randn(n, heads, 1, generator=generator).exp() ** 3
    x[0] = 0
    x[n // 2] *= 1e-33
    return x.to(device).transpose(0, 1)


def _quantize(
    backend: Backend, device: torch.device, numbers: Numbers = FLOAT32, *, shape: tuple[int, int, int], kind: Kind
) -> Sequence[Tensor]:
    heads, n, d = shape
    cache = QuantizedRows.empty((heads, n + 5, d), kind, device)
    cache.data.fill_(3)
    cache.scale.fill_(-1.0)
    x = numbers.rows(_rows(device, shape).transpose(0, 1)).transpose(0, 1)
    quantize_rows(x, kind, out=cache.tokens(2, n + 2), backend=backend)
    return [cache.data, cache.scale]


def _dequantize(
    backend: Backend, device: torch.device, numbers: Numbers = FLOAT32, *, shape: tuple[int, int, int], kind: Kind
) -> Sequence[Tensor]:
    rows = quantize_rows(_rows(device, shape), kind, backend="reference")
    return [dequantize_rows(rows.tokens(0, shape[1]), numbers.row_dtype, backend=backend)]


def _prepare_quantize(device: torch.device, T: int, kind: Kind) -> Callable[[], object]:
    x = torch.empty(T, _HEADS, _DIM, dtype=torch.bfloat16, device=device).normal_().transpose(0, 1)
    cache = QuantizedRows.empty((_HEADS, 2**16, _DIM), kind, device)
    return lambda: quantize_rows(x, kind, out=cache.tokens(2**16 - T, 2**16))


def _prepare_dequantize(device: torch.device, T: int, kind: Kind) -> Callable[[], object]:
    x = torch.empty(_HEADS, T, _DIM, dtype=torch.bfloat16, device=device).normal_()
    rows = quantize_rows(x, kind, backend="reference")
    return lambda: dequantize_rows(rows, torch.bfloat16)
