"""Inputs on which `compress_keys` is compared, and its workloads in the released model."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from sala_kernels.backend import Backend
from sala_kernels.inspection.cases import (
    FLOAT32,
    ONE_BF16_ROUNDING,
    Comparison,
    Numbers,
    Workload,
    at_position,
)
from sala_kernels.key_compression import compress_keys, compress_keys_into, compress_new_keys, num_windows
from sala_kernels.kv_quantization import Kind, QuantizedRows, quantize_rows

_KV_HEADS, _D = 2, 128
_KINDS: tuple[Kind | None, ...] = (None, "int8", "fp8")


def comparisons() -> Iterator[Comparison]:
    """The model's two window sizes and odd ones; keys and outputs are views of larger buffers."""
    compared = partial(Comparison, bf16_limit=ONE_BF16_ROUNDING)
    for n, d, size, stride in [
        (300, 16, 32, 16),
        (330, 20, 128, 64),
        (29, 5, 8, 4),
        (21, 1, 6, 2),
        (5, 130, 1, 1),
        (300, 128, 32, 16),
    ]:
        name = f"{size}/{stride} over {n} keys, d {d}"
        yield compared(name=name, run=partial(_whole, n=n, d=d, size=size, stride=stride))
    for first, count in [(0, 1), (3, 9), (7, 1)]:
        yield compared(name=f"windows {first} to {first + count}", run=partial(_into, first=first, count=count))
    for kind in _KINDS:
        if kind:
            yield compared(name=f"windows 3 to 12 of {kind}", run=partial(_into, first=3, count=9, kind=kind))
        for position, T in [(0, 16), (6, 1), (7, 1), (31, 16), (38, 2)]:
            name = f"windows that {T} tokens from {position} on complete, {kind or 'plain'}"
            yield compared(name=name, run=partial(_new, position=position, T=T, kind=kind))
        name = f"windows that 16 tokens of the model complete, {kind or 'plain'}"
        yield compared(name=name, run=partial(_new, position=60, T=16, kind=kind, d=_D, stride=16))
    yield compared(name="windows that 40 tokens complete", run=partial(_new, position=5, T=40, kind=None, known=True))


def workloads() -> Iterator[Workload]:
    """The windows that a prefill chunk completes, and the one that every `stride`-th decoded token completes.

    At a position that only the device knows, one window is counted. Bytes: the keys of the windows read once, the
    windows written. FLOPs: one addition for each number of a key, then the additions of strips.
    """
    for name, size, stride in (("fine", 32, 16), ("coarse", 128, 64)):
        for kind in _KINDS:
            for what, T in (("prefill 8,192", 8192), ("decode", stride)):
                count = T // stride
                keys = T + size - stride
                yield Workload(
                    name=f"{what}, {name} {kind or 'bf16'}",
                    prepare=partial(_prepare, count=count, size=size, stride=stride, kind=kind),
                    num_bytes=_KV_HEADS * (_row_bytes(kind) * keys + 2 * _D * count),
                    num_flops=_KV_HEADS * _D * (keys + count * (size // stride)),
                )
            for length, n in (("64K", 2**16), ("1M", 2**20)):
                for T in (1, 16):
                    yield Workload(
                        name=f"{T} at {length}, {name} {kind or 'bf16'}",
                        prepare=partial(_prepare_new, T=T, n=n, size=size, stride=stride, kind=kind),
                        num_bytes=_KV_HEADS * (_row_bytes(kind) * size + 2 * _D),
                        num_flops=_KV_HEADS * _D * (size + size // stride),
                    )


def _whole(
    backend: Backend, device: torch.device, numbers: Numbers = FLOAT32, *, n: int, d: int, size: int, stride: int
) -> Sequence[Tensor]:
    buffer = numbers.rows(torch.randn(3, n + 7, d + 3, generator=torch.Generator().manual_seed(n)).to(device))
    return [compress_keys(buffer[:, 2 : n + 2, :d], size=size, stride=stride, backend=backend)]


def _row_bytes(kind: Kind | None) -> int:
    """Bytes of one key."""
    return 2 * _D if kind is None else _D + 4


def _keys(x: Tensor, kind: Kind | None) -> Tensor | QuantizedRows:
    """x, or its rows quantized."""
    return x if kind is None else quantize_rows(x, kind, backend="reference")


def _into(
    backend: Backend,
    device: torch.device,
    numbers: Numbers = FLOAT32,
    *,
    first: int,
    count: int,
    kind: Kind | None = None,
) -> Sequence[Tensor]:
    generator = torch.Generator().manual_seed(first)
    keys = numbers.rows(torch.randn(60, 2, 24, generator=generator).to(device)).transpose(0, 1)
    cache = torch.full((2, 16, 24), 7.0, dtype=numbers.row_dtype, device=device)
    rows = cache[:, 2 : 2 + count]
    compress_keys_into(_keys(keys, kind), rows, first=first, size=8, stride=4, backend=backend)
    return [cache]


def _new(
    backend: Backend,
    device: torch.device,
    numbers: Numbers = FLOAT32,
    *,
    position: int,
    T: int,
    kind: Kind | None,
    known: bool = False,
    d: int = 24,
    stride: int = 4,
) -> Sequence[Tensor]:
    """There are more keys than tokens, and more rows than windows. A window has two strides."""
    generator = torch.Generator().manual_seed(position)
    keys = numbers.rows(torch.randn(15 * stride, 2, d, generator=generator).to(device)).transpose(0, 1)
    cache = torch.full((2, 16, d), 7.0, dtype=numbers.row_dtype, device=device)
    at = at_position(position, device, known=known)
    shape: dict[str, Any] = {"num_tokens": T, "size": 2 * stride, "stride": stride}
    compress_new_keys(_keys(keys, kind), cache, position=at, **shape, backend=backend)
    return [cache]


def _prepare(device: torch.device, count: int, size: int, stride: int, kind: Kind | None) -> Callable[[], object]:
    first = 1_048_576 // stride - count
    n = (first + count - 1) * stride + size
    keys = _keys(torch.zeros(_KV_HEADS, n, _D, dtype=torch.bfloat16, device=device), kind)
    rows = torch.zeros(_KV_HEADS, num_windows(n, size, stride), _D, dtype=torch.bfloat16, device=device)[:, first:]
    return lambda: compress_keys_into(keys, rows, first=first, size=size, stride=stride)


def _prepare_new(
    device: torch.device, T: int, n: int, size: int, stride: int, kind: Kind | None
) -> Callable[[], object]:
    keys = _keys(torch.zeros(_KV_HEADS, n, _D, dtype=torch.bfloat16, device=device), kind)
    rows = torch.zeros(_KV_HEADS, num_windows(n, size, stride), _D, dtype=torch.bfloat16, device=device)
    position = at_position(n - T, device, known=False)
    return lambda: compress_new_keys(keys, rows, position=position, num_tokens=T, size=size, stride=stride)
