"""Inputs on which the lightning attention operations are compared, and their workloads in the released model."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch
from torch import Tensor

from sala_kernels.backend import Backend
from sala_kernels.inspection.cases import (
    BF16_LIMIT,
    FLOAT32,
    Comparison,
    Numbers,
    Workload,
    at_position,
    in_float16,
)
from sala_kernels.lightning_attention import (
    lightning_advance,
    lightning_attention,
    lightning_decode,
    lightning_log_decay,
    lightning_verify,
)
from sala_kernels.rotary import rotary_cos_sin

TENSOR_CORE_KERNELS = frozenset({"_sum_segments", "_attend"})

_HEADS, _DIM = 32, 128
_LAYERS = 24
_STATE_BYTES = 4 * _HEADS * _DIM * _DIM
_PREPARED_LIMIT = 2 * BF16_LIMIT  # q and k are rounded up to three times each before their product, then the output


def comparisons() -> Iterator[Comparison]:
    """Lengths around the ends of blocks (16 tokens in float32) and segments (256), K != V, shared heads of k and v."""
    for T in (1, 2, 15, 16, 17, 255, 256, 257, 600):
        yield Comparison(name=f"prefill T {T}", run=partial(_prefill, B=1, T=T, H=2, kv_heads=2, K=16, V=16))
    for B, T, H, kv_heads, K, V in [
        (2, 40, 3, 3, 24, 10),
        (1, 50, 4, 2, 16, 40),
        (1, 33, 3, 1, 5, 3),
        (1, 20, 1, 1, 1, 1),
        (1, 20, 1, 1, 128, 128),
        (1, 20, 1, 1, 200, 16),
        (1, 1500, 1, 1, 16, 16),
        (2, 520, 3, 1, 16, 20),
    ]:
        name = f"prefill B {B}, T {T}, heads {H} and {kv_heads}, K {K}, V {V}"
        yield Comparison(name=name, run=partial(_prefill, B=B, T=T, H=H, kv_heads=kv_heads, K=K, V=V))
    for slope in (0.0, 1e-5, 40.0):
        run = partial(_prefill, B=1, T=300, H=1, kv_heads=1, K=16, V=16, slope=slope)
        yield Comparison(name=f"prefill, decay exp(-{slope:g}) a token", run=run)
    yield Comparison(
        name="prefill in float16",
        run=in_float16(partial(_prefill, B=1, T=300, H=2, kv_heads=1, K=24, V=20)),
        limit=1e-3,
        bf16_limit=None,
    )
    run = partial(_prefill, B=1, T=300, H=3, kv_heads=3, K=_DIM, V=_DIM, of_model=True)
    yield Comparison(name="prefill T 300, three of the model's heads", run=run)
    for B, H, kv_heads, K, V in [
        (1, 1, 1, 1, 1),
        (2, 3, 3, 24, 10),
        (1, 4, 2, 16, 40),
        (3, 5, 1, 7, 33),
        (1, 2, 2, 256, 16),
        (1, 3, 3, _DIM, _DIM),
    ]:
        for normed, rotated in ((False, False), (True, True), (True, False), (False, True)):
            if rotated and K % 2:
                continue
            name = f"decode B {B}, heads {H} and {kv_heads}, K {K}, V {V}, norm {normed}, rotary {rotated}"
            run = partial(_decode, B=B, H=H, kv_heads=kv_heads, K=K, V=V, normed=normed, rotated=rotated)
            yield Comparison(name=name, run=run, bf16_limit=_PREPARED_LIMIT if normed or rotated else BF16_LIMIT)

    for T, H, kv_heads, K, V, prepared in [
        (1, 2, 2, 16, 16, True),
        (16, 3, 1, 24, 10, True),
        (5, 4, 2, 7, 33, False),
        (3, 2, 1, 128, 20, True),
        (4, 3, 3, _DIM, _DIM, True),
    ]:
        name = f"verify T {T}, heads {H} and {kv_heads}, K {K}, V {V}, norm and rotary {prepared}"
        run = partial(_verify, T=T, H=H, kv_heads=kv_heads, K=K, V=V, prepared=prepared)
        yield Comparison(name=name, run=run, bf16_limit=_PREPARED_LIMIT if prepared else BF16_LIMIT)
        for count, known in ((0, False), (1, True), (T, False)):
            name = f"advance by {count}{'' if known else ', a tensor,'} of {T}, heads {H} and {kv_heads}, K {K}, V {V}"
            run = partial(_advance, count=count, T=T, H=H, kv_heads=kv_heads, K=K, V=V, known=known)
            yield Comparison(name=name, run=run)


def workloads() -> Iterator[Workload]:
    """Work of each operation. It does not depend on the position.

    Prefill reads q, k and v and writes o in bf16, and reads and writes the state. Its FLOPs are those of the recurrence
    over blocks of 64 tokens: two products with the state, and two causal products within the block. Decode reads and
    writes the state. Verifying reads it. Advancing reads and writes the states of all layers.
    """
    for T in (1024, 8192, 65536, 131072):
        yield Workload(
            name=f"prefill {T:,}",
            prepare=partial(_prepare_prefill, T=T),
            num_bytes=4 * 2 * T * _HEADS * _DIM + 2 * _STATE_BYTES,
            num_flops=T * _HEADS * _DIM * (4 * _DIM + 2 * 64),
        )
    yield Workload(
        name="decode",
        prepare=_prepare_decode,
        num_bytes=2 * _STATE_BYTES + 4 * 2 * _HEADS * _DIM,
        num_flops=_HEADS * _DIM * (5 * _DIM + 14),
    )
    for T in (2, 16):
        yield Workload(
            name=f"verify {T}",
            prepare=partial(_prepare_verify, T=T),
            num_bytes=_STATE_BYTES + 5 * 2 * T * _HEADS * _DIM,
            num_flops=T * _HEADS * _DIM * (5 * _DIM + 14),
        )
        yield Workload(
            name=f"advance {_LAYERS} layers by {T}",
            prepare=partial(_prepare_advance, T=T),
            num_bytes=_LAYERS * (2 * _STATE_BYTES + 2 * 2 * T * _HEADS * _DIM),
            num_flops=_LAYERS * T * _HEADS * _DIM * 3 * _DIM,
        )


def _random_inputs(
    B: int, T: int, H: int, kv_heads: int, K: int, V: int, device: torch.device, numbers: Numbers
) -> tuple[Tensor, ...]:
    """Random q, k and v as views of one tensor, as a fused projection returns them, and a state."""
    generator = torch.Generator().manual_seed(B + 3 * T + 5 * H + 7 * kv_heads + 11 * K + 13 * V)
    sizes = [H * K, kv_heads * K, kv_heads * V]
    q, k, v = numbers.rows(torch.randn(B, T, sum(sizes), generator=generator).to(device)).split(sizes, -1)
    state = numbers.wide(torch.randn(B, H, K, V, generator=generator).to(device))
    return q.unflatten(-1, (H, K)), k.unflatten(-1, (kv_heads, K)), v.unflatten(-1, (kv_heads, V)), state


def _prefill(
    backend: Backend,
    device: torch.device,
    numbers: Numbers = FLOAT32,
    *,
    B: int,
    T: int,
    H: int,
    kv_heads: int,
    K: int,
    V: int,
    slope: float | None = None,
    of_model: bool = False,
) -> Sequence[Tensor]:
    q, k, v, state = _random_inputs(B, T, H, kv_heads, K, V, device, numbers)
    decay = lightning_log_decay(H, device) if slope is None else torch.full((H,), -slope, device=device)
    if of_model:  # its fastest and its slowest decay, and one between them
        decay = lightning_log_decay(_HEADS, device)[[0, _HEADS // 2 - 1, _HEADS - 1]]
    return lightning_attention(q, k, v, state, numbers.wide(decay), scale=K**-0.5, backend=backend)


def _decode(
    backend: Backend,
    device: torch.device,
    numbers: Numbers = FLOAT32,
    *,
    B: int,
    H: int,
    kv_heads: int,
    K: int,
    V: int,
    normed: bool,
    rotated: bool,
) -> Sequence[Tensor]:
    q, k, v, state = _random_inputs(B, 1, H, kv_heads, K, V, device, numbers)
    weights = numbers.rows(torch.linspace(-1, 2, 2 * K, device=device).view(2, K)) if normed else (None, None)
    cos_sin = numbers.wide(rotary_cos_sin(1 << 21, B, K, 10000.0, device)) if rotated else None
    o = lightning_decode(
        q[:, 0],
        k[:, 0],
        v[:, 0],
        state,
        numbers.wide(lightning_log_decay(H, device)),
        scale=K**-0.5,
        q_norm=weights[0],
        k_norm=weights[1],
        eps=1e-6,
        cos_sin=cos_sin,
        backend=backend,
    )
    return [o, state]


def _verify(
    backend: Backend,
    device: torch.device,
    numbers: Numbers = FLOAT32,
    *,
    T: int,
    H: int,
    kv_heads: int,
    K: int,
    V: int,
    prepared: bool,
) -> Sequence[Tensor]:
    q, k, v, state = _random_inputs(1, T, H, kv_heads, K, V, device, numbers)
    weights = numbers.rows(torch.linspace(-1, 2, 2 * K, device=device).view(2, K)) if prepared else (None, None)
    o, k_ready = lightning_verify(
        q[0],
        k[0],
        v[0],
        state[0],
        numbers.wide(lightning_log_decay(H, device)),
        scale=K**-0.5,
        q_norm=weights[0],
        k_norm=weights[1],
        eps=1e-6,
        cos_sin=numbers.wide(rotary_cos_sin(1 << 21, T, K, 10000.0, device)) if prepared else None,
        backend=backend,
    )
    return [o, k_ready, state]


def _advance(
    backend: Backend,
    device: torch.device,
    numbers: Numbers = FLOAT32,
    *,
    count: int,
    T: int,
    H: int,
    kv_heads: int,
    K: int,
    V: int,
    known: bool,
) -> Sequence[Tensor]:
    """Advance the states of two layers."""
    _, ks, vs, states = _random_inputs(2, T, H, kv_heads, K, V, device, numbers)
    taken = at_position(count, device, known=known)
    lightning_advance(states, ks, vs, numbers.wide(lightning_log_decay(H, device)), taken, backend=backend)
    return [states]


def _prepare_prefill(device: torch.device, T: int) -> Callable[[], object]:
    q, k, v = (torch.zeros(1, T, _HEADS, _DIM, dtype=torch.bfloat16, device=device) for _ in range(3))
    state = torch.zeros(1, _HEADS, _DIM, _DIM, device=device)
    decay = torch.full((_HEADS,), -0.1, device=device)
    return lambda: lightning_attention(q, k, v, state, decay, scale=_DIM**-0.5)


def _prepare_decode(device: torch.device) -> Callable[[], object]:
    q, k, v = (torch.zeros(1, _HEADS, _DIM, dtype=torch.bfloat16, device=device) for _ in range(3))
    q_norm, k_norm = (torch.ones(_DIM, dtype=torch.bfloat16, device=device) for _ in range(2))
    state = torch.zeros(1, _HEADS, _DIM, _DIM, device=device)
    decay = torch.full((_HEADS,), -0.1, device=device)
    cos_sin = torch.zeros(2, 1, _DIM // 2, device=device)
    return lambda: lightning_decode(
        q, k, v, state, decay, scale=_DIM**-0.5, q_norm=q_norm, k_norm=k_norm, eps=1e-6, cos_sin=cos_sin
    )


def _prepare_verify(device: torch.device, T: int) -> Callable[[], object]:
    q, k, v = (torch.zeros(T, _HEADS, _DIM, dtype=torch.bfloat16, device=device) for _ in range(3))
    q_norm, k_norm = (torch.ones(_DIM, dtype=torch.bfloat16, device=device) for _ in range(2))
    state = torch.zeros(_HEADS, _DIM, _DIM, device=device)
    decay = torch.full((_HEADS,), -0.1, device=device)
    cos_sin = torch.zeros(2, T, _DIM // 2, device=device)
    return lambda: lightning_verify(
        q, k, v, state, decay, scale=_DIM**-0.5, q_norm=q_norm, k_norm=k_norm, eps=1e-6, cos_sin=cos_sin
    )


def _prepare_advance(device: torch.device, T: int) -> Callable[[], object]:
    ks, vs = (torch.zeros(_LAYERS, T, _HEADS, _DIM, dtype=torch.bfloat16, device=device) for _ in range(2))
    states = torch.zeros(_LAYERS, _HEADS, _DIM, _DIM, device=device)
    decay = torch.full((_HEADS,), -0.1, device=device)
    count = at_position(T, device, known=False)
    return lambda: lightning_advance(states, ks, vs, decay, count)
