"""Inputs on which the rotary operations are compared, and their workloads in the released model."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch
from torch import Tensor

from sala_kernels.backend import Backend
from sala_kernels.inspection.cases import FLOAT32, Comparison, Numbers, Workload, at_position
from sala_kernels.rotary import apply_rotary, qk_norm_rotary, rotary_cos_sin

_HEADS, _DIM = 32, 128


def comparisons() -> Iterator[Comparison]:
    """Any number of heads, sizes that are not powers of two, the norm and the rotation together and each alone."""
    for shape in [(1, 1, 2), (3, 5, 24), (2, 4, 3, 16), (2, 3, 128)]:
        yield Comparison(name=f"apply_rotary {list(shape)}", run=partial(_rotate, shape=shape))
    for T, H, kv_heads, d in [(1, 1, 1, 2), (3, 5, 5, 24), (4, 24, 3, 16), (2, 4, 6, 256), (2, 32, 32, 128)]:
        sizes = f"T {T}, heads {H} and {kv_heads} of {d}"
        for normed, rotated in ((True, True), (True, False), (False, True)):
            name = f"qk_norm_rotary {sizes}, norm {normed}, rotary {rotated}"
            run = partial(_norm_and_rotate, T=T, H=H, kv_heads=kv_heads, d=d, normed=normed, rotated=rotated)
            yield Comparison(name=name, run=run)
    run = partial(_norm_and_rotate, T=3, H=2, kv_heads=2, d=7, normed=True, rotated=False)
    yield Comparison(name="qk_norm_rotary odd size", run=run)

    for position, T, d, known in [
        (0, 1, 2, True),
        (1 << 20, 16, 128, False),
        (3, 300, 24, True),
        (1 << 21, 1, 64, False),
    ]:
        name = f"rotary_cos_sin {T} from {position}{'' if known else ', a tensor,'} on, size {d}"
        yield Comparison(
            name=name, run=partial(_angles, position=position, T=T, d=d, known=known), limit=1e-7, bf16_limit=None
        )


def workloads() -> Iterator[Workload]:
    """q and k of a lightning layer, and the angles' cosines and sines.

    Bytes of q and k: both read and written in bf16, cosines and sines read in float32. Those are written once, by about
    20 operations in float64 each.
    """
    for name, T in (("decode", 1), ("prefill 8,192", 8192)):
        yield Workload(
            name=name,
            prepare=partial(_prepare, T=T),
            num_bytes=T * (2 * 2 * _HEADS * _DIM * 2 + _DIM * 4) + 2 * _DIM * 2,
            num_flops=T * 2 * _HEADS * _DIM * 7,
        )
    for name, T in (("1", 1), ("16", 16), ("8,192", 8192)):
        yield Workload(
            name=f"angles of {name}",
            prepare=partial(_prepare_angles, T=T),
            num_bytes=T * _DIM * 4,
            num_flops=T * _DIM * 20,
        )


def _rotate(
    backend: Backend, device: torch.device, numbers: Numbers = FLOAT32, *, shape: tuple[int, ...]
) -> Sequence[Tensor]:
    generator = torch.Generator().manual_seed(sum(shape))
    x = numbers.rows(torch.randn(shape, generator=generator).to(device))
    cos_sin = numbers.wide(rotary_cos_sin(1 << 20, shape[-3] + 1, shape[-1], 10000.0, device))[:, 1:]
    return [apply_rotary(x, cos_sin, backend=backend)]


def _norm_and_rotate(
    backend: Backend,
    device: torch.device,
    numbers: Numbers = FLOAT32,
    *,
    T: int,
    H: int,
    kv_heads: int,
    d: int,
    normed: bool,
    rotated: bool,
) -> Sequence[Tensor]:
    generator = torch.Generator().manual_seed(T + 3 * H + 5 * kv_heads + 7 * d)
    both = numbers.rows(torch.randn(T, H + kv_heads, d, generator=generator).to(device))  # q and k are strided
    q_weight, k_weight = numbers.rows(torch.randn(2, d, generator=generator).to(device)) if normed else (None, None)
    cos_sin = numbers.wide(rotary_cos_sin(1000, T, d, 10000.0, device)) if rotated else None
    return qk_norm_rotary(both[:, :H], both[:, H:], q_weight, k_weight, cos_sin, eps=1e-6, backend=backend)


def _angles(
    backend: Backend,
    device: torch.device,
    _numbers: Numbers = FLOAT32,
    *,
    position: int,
    T: int,
    d: int,
    known: bool,
) -> Sequence[Tensor]:
    """Computed in float64 and rounded to float32, whatever the model's dtype."""
    return [rotary_cos_sin(at_position(position, device, known=known), T, d, 10000.0, device, backend=backend)]


def _prepare_angles(device: torch.device, T: int) -> Callable[[], object]:
    position = at_position(2**20 - T, device, known=T > 16)
    return lambda: rotary_cos_sin(position, T, _DIM, 10000.0, device)


def _prepare(device: torch.device, T: int) -> Callable[[], object]:
    q, k = (torch.zeros(T, _HEADS, _DIM, dtype=torch.bfloat16, device=device) for _ in range(2))
    q_weight, k_weight = (torch.ones(_DIM, dtype=torch.bfloat16, device=device) for _ in range(2))
    cos_sin = torch.zeros(2, T, _DIM // 2, device=device)
    return lambda: qk_norm_rotary(q, k, q_weight, k_weight, cos_sin, eps=1e-6)
