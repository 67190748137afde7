"""What `compress_keys` is compared on, and its work in the released model."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch
from torch import Tensor

from sala_kernels.backend import Backend
from sala_kernels.inspection.cases import Comparison, Workload
from sala_kernels.key_compression import compress_keys, compress_keys_into, num_windows

_KV_HEADS, _D = 2, 128


def comparisons() -> Iterator[Comparison]:
    """Both of the model's windows and odd ones; keys and targets inside larger buffers."""
    for n, d, size, stride in [(300, 16, 32, 16), (330, 20, 128, 64), (29, 5, 8, 4), (21, 1, 6, 2), (5, 130, 1, 1)]:
        name = f"{size}/{stride} over {n} keys, d {d}"
        yield Comparison(name=name, run=partial(_whole, n=n, d=d, size=size, stride=stride))
    for first, count in [(0, 1), (3, 9), (7, 1)]:
        yield Comparison(name=f"windows {first} to {first + count}", run=partial(_into, first=first, count=count))


def workloads() -> Iterator[Workload]:
    """The windows that a chunk completes, and the two (one fine, one coarse) that every 64th decoded token does.

    Bytes: the keys under the windows read once, the windows written. FLOPs: one addition a key and element, then the
    sums of strips.
    """
    for name, size, stride in (("fine", 32, 16), ("coarse", 128, 64)):
        for what, T in (("prefill 8,192", 8192), ("decode", stride)):
            count = T // stride
            keys = T + size - stride
            yield Workload(
                name=f"{what}, {name}",
                prepare=partial(_prepare, count=count, size=size, stride=stride),
                num_bytes=2 * _KV_HEADS * _D * (keys + count),
                num_flops=_KV_HEADS * _D * (keys + count * (size // stride)),
            )


def _whole(backend: Backend, device: torch.device, n: int, d: int, size: int, stride: int) -> Sequence[Tensor]:
    buffer = torch.randn(3, n + 7, d + 3, generator=torch.Generator().manual_seed(n)).to(device)
    return [compress_keys(buffer[:, 2 : n + 2, :d], size=size, stride=stride, backend=backend)]


def _into(backend: Backend, device: torch.device, first: int, count: int) -> Sequence[Tensor]:
    generator = torch.Generator().manual_seed(first)
    keys = torch.randn(60, 2, 24, generator=generator).to(device).transpose(0, 1)
    cache = torch.full((2, 16, 24), 7.0, device=device)
    compress_keys_into(keys, cache[:, 2 : 2 + count], first=first, size=8, stride=4, backend=backend)
    return [cache]


def _prepare(device: torch.device, count: int, size: int, stride: int) -> Callable[[], object]:
    first = 1_048_576 // stride - count
    n = (first + count - 1) * stride + size
    keys = torch.zeros(_KV_HEADS, n, _D, dtype=torch.bfloat16, device=device)
    rows = torch.zeros(_KV_HEADS, num_windows(n, size, stride), _D, dtype=torch.bfloat16, device=device)[:, first:]
    return lambda: compress_keys_into(keys, rows, first=first, size=size, stride=stride)
