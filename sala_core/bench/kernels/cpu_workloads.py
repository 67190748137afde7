"""Workloads of the embedded model on a CPU: the operations of one layer for a chunk of prefill and for one token.

Inputs are random float32 at the shapes of `assets/embedded`. Bytes and FLOPs are counted as in the kernels' `cases.py`.
The variable names of the inputs matter: `baselines` finds the inputs by them.
"""

from collections.abc import Callable, Iterator
from functools import partial

import torch
from sala_kernels import (
    BlockLayout,
    add_rms_norm,
    block_attention,
    block_scores,
    choose_blocks,
    compress_keys_into,
    gated_norm,
    lightning_attention,
    lightning_decode,
    lightning_log_decay,
    num_windows,
    qk_norm_rotary,
    rotary_cos_sin,
    swiglu,
)
from sala_kernels.inspection.cases import Workload
from torch import Tensor

from sala_core.bench.sizes import sala_config
from sala_core.model.config import SalaConfig
from sala_core.model.forward import block_layout
from sala_core.text.lengths import length_name

_CHUNK = 1024
_LENGTHS = (1 << 14, 1 << 18)
_SCORED_QUERIES = 64  # queries scored at once, as in the model on a CPU
_ITEM_BYTES = 4

Call = Callable[[], object]


def cpu_workloads() -> Iterator[tuple[str, Workload]]:
    """(operation, workload) pairs, decoding after prefill."""
    config = sala_config("embedded")
    for T, what in ((_CHUNK, f"chunk of {_CHUNK:,}"), (1, "decode")):
        yield from _elementwise(config, T, what)
        yield from _lightning(config, T, what)
    for n in _LENGTHS:
        for T, what in ((_CHUNK, f"chunk of {_CHUNK:,}"), (1, "decode")):
            yield from _sparse(config, n, T, f"{what} at {length_name(n)}")


def _work(name: str, prepare: Callable[[], Call], num_numbers: int, num_flops: int) -> Workload:
    num_bytes = _ITEM_BYTES * num_numbers
    return Workload(name=name, prepare=lambda _device: prepare(), num_bytes=num_bytes, num_flops=num_flops)


def _elementwise(config: SalaConfig, T: int, what: str) -> Iterator[tuple[str, Workload]]:
    D, F = config.hidden_size, config.intermediate_size
    H, d = config.lightning_nh, config.lightning_head_dim
    yield "rms_norm", _work(what, partial(_norm, T, D), D * (4 * T + 1), 6 * T * D)
    yield "rotary", _work(what, partial(_rotary, T, H, d), T * (4 * H * d + d), 14 * T * H * d)
    yield "gated_norm", _work(what, partial(_gate, T, H, d), H * d * (3 * T + 1), 8 * T * H * d)
    yield "swiglu", _work(what, partial(_swiglu, T, F), 3 * T * F, 5 * T * F)


def _lightning(config: SalaConfig, T: int, what: str) -> Iterator[tuple[str, Workload]]:
    H, d = config.lightning_nh, config.lightning_head_dim
    flops = T * H * d * (4 * d + 2 * 64) if T > 1 else H * d * (5 * d + 14)
    prepare = partial(_lightning_chunk, T, H, d) if T > 1 else partial(_lightning_step, H, d)
    yield "lightning_attention", _work(what, prepare, 4 * T * H * d + 2 * H * d * d, flops)


def _sparse(config: SalaConfig, n: int, T: int, what: str) -> Iterator[tuple[str, Workload]]:
    layout, sparse = block_layout(config.sparse_config), config.sparse_config
    H, kv_heads, d = config.num_attention_heads, config.num_key_value_heads, config.head_dim
    size, stride = sparse.kernel_size, sparse.kernel_stride
    if T > 1:
        keys = T + size - stride
        yield (
            "key_compression",
            _work(what, partial(_compress, kv_heads, d, n, T, size, stride), kv_heads * d * (keys + T // stride), 0),
        )
    scored = min(T, _SCORED_QUERIES)
    n1, n2 = num_windows(n, size, stride), num_windows(n, sparse.coarse_size, sparse.coarse_stride)
    numbers = d * (scored * H + kv_heads * (n1 + n2)) + kv_heads * scored * (n // layout.block)
    name = what if T == 1 else f"{_SCORED_QUERIES} queries at {length_name(n)}"
    yield (
        "block_scores",
        _work(name, partial(_score, layout, H, kv_heads, d, n, scored), numbers, 2 * d * H * scored * (n1 + n2)),
    )
    blocks = n // layout.block
    numbers = kv_heads * scored * (blocks + 2 * layout.slots)
    yield (
        "block_choice",
        _work(name, partial(_choose, layout, kv_heads, n, scored, blocks), numbers, kv_heads * scored * blocks),
    )
    attended = T * min(n, layout.max_blocks * layout.block)
    numbers = 2 * T * H * d + 2 * kv_heads * d * min(n, attended)
    yield (
        "block_attention",
        _work(what, partial(_attend, layout, H, kv_heads, d, n, T), numbers, 4 * H * d * attended),
    )


def _norm(T: int, D: int) -> Call:
    residual, update, weight = torch.randn(T, D), torch.randn(T, D), torch.randn(D)
    return lambda: add_rms_norm(residual, update, weight, 1e-6, scale=1e-3)


def _rotary(T: int, H: int, d: int) -> Call:
    q, k, q_weight, k_weight = torch.randn(T, H, d), torch.randn(T, H, d), torch.randn(d), torch.randn(d)
    cos_sin = rotary_cos_sin(1000, T, d, 10000.0, "cpu")
    return lambda: qk_norm_rotary(q, k, q_weight, k_weight, cos_sin, eps=1e-6)


def _gate(T: int, H: int, d: int) -> Call:
    o, gate, weight = torch.randn(T, H, d), torch.randn(T, H * d), torch.randn(H * d)
    return lambda: gated_norm(o, gate, weight, eps=1e-6)


def _swiglu(T: int, F: int) -> Call:
    gate, up = torch.randn(T, F), torch.randn(T, F)
    return lambda: swiglu(gate, up)


def _lightning_chunk(T: int, H: int, d: int) -> Call:
    q, k, v = (torch.randn(1, T, H, d) for _ in range(3))
    state, decay = torch.randn(1, H, d, d), lightning_log_decay(H, "cpu")
    return lambda: lightning_attention(q, k, v, state, decay, scale=d**-0.5)


def _lightning_step(H: int, d: int) -> Call:
    q, k, v = (torch.randn(1, H, d) for _ in range(3))
    weights = torch.ones(2, d)
    state, decay = torch.randn(1, H, d, d), lightning_log_decay(H, "cpu")
    cos_sin = rotary_cos_sin(1000, 1, d, 10000.0, "cpu")
    return lambda: lightning_decode(
        q, k, v, state, decay, scale=d**-0.5, q_norm=weights[0], k_norm=weights[1], cos_sin=cos_sin
    )


def _compress(kv_heads: int, d: int, n: int, T: int, size: int, stride: int) -> Call:
    keys = torch.randn(kv_heads, n, d)
    count = T // stride
    first = num_windows(n, size, stride) - count
    out = torch.empty(kv_heads, count, d)
    return lambda: compress_keys_into(keys, out, first=first, size=size, stride=stride)


def _score(layout: BlockLayout, H: int, kv_heads: int, d: int, n: int, T: int) -> Call:
    q = torch.randn(T, H, d)
    pooled = [
        torch.randn(kv_heads, num_windows(n, size * layout.stride, size // 2 * layout.stride), d) for size in (2, 8)
    ]
    return lambda: block_scores(q, *pooled, position=n - T, scale=d**-0.5, layout=layout)


def _choose(layout: BlockLayout, kv_heads: int, n: int, T: int, blocks: int) -> Call:
    scores = torch.rand(kv_heads, T, blocks)
    return lambda: choose_blocks(scores, position=n - T, layout=layout)


def _attend(layout: BlockLayout, H: int, kv_heads: int, d: int, n: int, T: int) -> Call:
    q = torch.randn(T, H, d)
    rows: list[Tensor] = [torch.randn(kv_heads, n, d) for _ in range(2)]
    chosen = choose_blocks(torch.rand(kv_heads, T, n // layout.block), position=n - T, layout=layout)
    return lambda: block_attention(q, rows[0], rows[1], chosen, position=n - T, scale=d**-0.5, layout=layout)
