"""Inputs on which `append_rows` is compared, and its workloads in the released model."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch
from torch import Tensor

from sala_kernels.backend import Backend
from sala_kernels.inspection.cases import FLOAT32, Comparison, Numbers, Workload, at_position
from sala_kernels.kv_append import append_rows
from sala_kernels.kv_quantization import Kind, QuantizedRows

_HEADS, _DIM = 2, 128
_KINDS: tuple[Kind | None, ...] = (None, "int8", "fp8")


def comparisons() -> Iterator[Comparison]:
    """One token and several, d != dv, sizes that are not powers of two, both kinds of position, a partly full cache."""
    pairs: list[tuple[Kind | None, Kind | None]]
    pairs = [(None, None), ("int8", "int8"), ("fp8", "fp8"), ("int8", None), (None, "fp8")]
    for kinds in pairs:
        for T, heads, d, dv, known in [(1, 2, 128, 128, False), (5, 3, 24, 40, False), (37, 1, 5, 250, True)]:
            name = f"{T} tokens, {heads} heads of {d} and {dv}, {kinds[0] or 'plain'} and {kinds[1] or 'plain'}"
            run = partial(_append, T=T, heads=heads, sizes=(d, dv), kinds=kinds, known=known)
            yield Comparison(name=name, run=run, bf16_limit=0.0)  # copied, or quantized in float32


def workloads() -> Iterator[Workload]:
    """The new rows of one layer at a position that only the device knows.

    Bytes: rows read in bf16 and written, with scales if quantized. FLOPs: two comparisons, a division and a rounding
    for each quantized number.
    """
    for length, n in (("64K", 2**16), ("1M", 2**20)):
        for T in (1, 16):
            for kind in _KINDS:
                rows = 2 * _HEADS * T
                yield Workload(
                    name=f"{T} at {length} {kind or 'bf16'}",
                    prepare=partial(_prepare, T=T, n=n, kind=kind),
                    num_bytes=rows * (2 * _DIM + (2 * _DIM if kind is None else _DIM + 4)),
                    num_flops=0 if kind is None else 4 * rows * _DIM,
                )


def _cache(
    heads: int, capacity: int, d: int, kind: Kind | None, dtype: torch.dtype, device: torch.device
) -> Tensor | QuantizedRows:
    """Rows of a cache, filled with one value."""
    if kind is None:
        return torch.full((heads, capacity, d), 7.0, dtype=dtype, device=device)
    rows = QuantizedRows.empty((heads, capacity, d), kind, device)
    rows.data.fill_(7)
    rows.scale.fill_(7.0)
    return rows


def _append(
    backend: Backend,
    device: torch.device,
    numbers: Numbers = FLOAT32,
    *,
    T: int,
    heads: int,
    sizes: tuple[int, int],
    kinds: tuple[Kind | None, Kind | None],
    known: bool,
) -> Sequence[Tensor]:
    """k and v are views of one tensor, as a fused projection returns them."""
    generator = torch.Generator().manual_seed(T + sum(sizes))
    both = numbers.rows(torch.randn(T, heads, sum(sizes), generator=generator).to(device) * 3)
    both[T // 2] = 0
    k, v = both.split(sizes, -1)
    caches = [_cache(heads, T + 9, x.shape[2], kind, x.dtype, device) for x, kind in zip((k, v), kinds, strict=True)]
    append_rows(k, v, caches[0], caches[1], position=at_position(4, device, known=known), backend=backend)
    return [part for x in caches for part in ((x.data, x.scale) if isinstance(x, QuantizedRows) else (x,))]


def _prepare(device: torch.device, T: int, n: int, kind: Kind | None) -> Callable[[], object]:
    k, v = (torch.zeros(T, _HEADS, _DIM, dtype=torch.bfloat16, device=device) for _ in range(2))
    keys, values = (_cache(_HEADS, n, _DIM, kind, torch.bfloat16, device) for _ in range(2))
    position = at_position(n - T, device, known=False)
    return lambda: append_rows(k, v, keys, values, position=position)
