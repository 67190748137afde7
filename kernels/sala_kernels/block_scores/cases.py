"""Inputs on which `block_scores` is compared, and its workloads in the released model."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from sala_kernels.backend import Backend
from sala_kernels.block_scores import block_scores
from sala_kernels.blocks import BlockLayout
from sala_kernels.inspection.cases import FLOAT32, Comparison, Numbers, Workload, at_position
from sala_kernels.key_compression import num_windows

TENSOR_CORE_KERNELS = frozenset({"_few_coarse_sums", "_few_score_blocks", "_coarse_sums", "_score_blocks"})

_MODEL = BlockLayout(stride=16, block=64, init=1, local=33, slots=62)
_H, _KV_HEADS, _D = 32, 2, 128


@dataclass(frozen=True, kw_only=True)
class _Case:
    """Random q, K1 and K2 for T queries at `position`. Rows of K1 and K2 that no query sees are NaN."""

    T: int
    position: int
    heads: int = 4
    kv_heads: int = 2
    d: int = 16
    stride: int = 4
    block: int = 16
    spread: float = 1.0  # factor of the keys
    known: bool = True  # whether the host knows the position
    spare: int = 5  # rows without a window

    @property
    def name(self) -> str:
        G = self.heads // self.kv_heads
        size = f"block {self.block}/{self.stride}, d {self.d}, keys x {self.spread:g}"
        place = f"{self.position}" if self.known else f"a tensor of {self.position}, {self.spare} rows to spare"
        return f"T {self.T} at {place}, {self.kv_heads} x {G} heads, {size}"


def comparisons() -> Iterator[Comparison]:
    """Few queries and many; one to eight windows a block; no window, no coarse window; positions around tile edges."""
    cases = [
        _Case(T=1, position=7),
        _Case(T=1, position=30),
        _Case(T=1, position=1500, heads=16, kv_heads=1, d=128),
        _Case(T=1, position=5_003, heads=6),
        _Case(T=3, position=29, heads=5, kv_heads=5, d=20),
        _Case(T=5, position=1061, heads=48, kv_heads=1, stride=2),
        _Case(T=16, position=0, block=4),
        _Case(T=13, position=290, heads=3, kv_heads=1, block=8),
        _Case(T=7, position=613, block=32, spread=40.0),
        _Case(T=2, position=333, block=12),
        _Case(T=1, position=3, known=False),
        _Case(T=1, position=500, heads=16, kv_heads=1, d=32, known=False, spare=900),
        _Case(T=16, position=29, heads=5, kv_heads=5, d=20, known=False, spare=70),
        _Case(T=3, position=1061, heads=48, kv_heads=1, stride=2, known=False),
        _Case(T=17, position=0, heads=2, kv_heads=1),
        _Case(T=70, position=0, heads=6, d=24),
        _Case(T=67, position=1030, heads=3, kv_heads=1, block=8),
        _Case(T=33, position=700, heads=16, kv_heads=1, block=4, d=40),
        _Case(T=20, position=3_400, block=32, heads=2),
        _Case(T=40, position=777, block=12, spread=40.0),
        _Case(T=18, position=4_500, heads=1, kv_heads=1, stride=1, block=8),
        _Case(T=2, position=5_000, heads=32, d=128, stride=16, block=64, known=False),
        _Case(T=40, position=5_000, heads=32, d=128, stride=16, block=64),
    ]
    for case in cases:
        # bfloat16 products are exact in float32, and nothing is rounded after them
        limit = 1e-5 if case.spread == 1 else 1e-4  # relative to the exponents, which grow with the keys
        yield Comparison(name=case.name, run=partial(_run, case=case), limit=limit, bf16_limit=10 * limit)


def workloads() -> Iterator[Workload]:
    """A slice of queries (the scores of 8,192 queries take 1 GB at 1M) and a decoded token, after 64K and 1M tokens.

    Bytes: the queries and the pooled keys read once, the scores written. FLOPs: 2 d for each query head and fine or
    coarse window that it sees.
    """
    for length, n in (("64K", 65_536), ("1M", 1_048_576)):
        for name, T, known in (
            ("decode", 1, True),
            ("decode at a tensor", 1, False),
            ("16 tokens at a tensor", 16, False),
            ("slice of 1,024", 1024, True),
            ("prefill 8,192", 8192, True),
        ):
            position = n - T
            n1, n2 = num_windows(n, 32, 16), num_windows(n, 128, 64)
            windows = sum(num_windows(t + 1, 32, 16) + num_windows(t + 1, 128, 64) for t in range(position, n))
            yield Workload(
                name=f"{name} at {length}",
                prepare=partial(_prepare, T=T, position=position, n1=n1, n2=n2, known=known),
                num_bytes=2 * _D * (T * _H + _KV_HEADS * (n1 + n2)) + 4 * _KV_HEADS * T * (n // 64),
                num_flops=2 * _D * _H * windows,
            )


def _run(backend: Backend, device: torch.device, numbers: Numbers = FLOAT32, *, case: _Case) -> Sequence[Tensor]:
    generator = torch.Generator().manual_seed(case.position + case.T)
    n = case.position + case.T
    n1, n2 = num_windows(n, 2 * case.stride, case.stride), num_windows(n, 8 * case.stride, 4 * case.stride)
    q = numbers.rows(torch.randn(case.heads, case.T + 3, case.d + 1, generator=generator).to(device))
    q = q[:, 1 : case.T + 1, : case.d].transpose(0, 1)
    pooled = []
    for count in (n1, n2):
        rows = torch.full((case.kv_heads, count + case.spare, case.d), torch.nan)
        rows[:, :count] = case.spread * torch.randn(case.kv_heads, count, case.d, generator=generator)
        pooled.append(numbers.rows(rows.to(device)))
    layout = BlockLayout(stride=case.stride, block=case.block, init=1, local=1, slots=1)
    scale = case.d**-0.5
    position = at_position(case.position, device, known=case.known)
    return [block_scores(q, *pooled, position=position, scale=scale, layout=layout, backend=backend)]


def _prepare(device: torch.device, T: int, position: int, n1: int, n2: int, known: bool) -> Callable[[], object]:
    q = torch.zeros(T, _H, _D, dtype=torch.bfloat16, device=device)
    k1, k2 = (torch.zeros(_KV_HEADS, n, _D, dtype=torch.bfloat16, device=device) for n in (n1, n2))
    at = at_position(position, device, known=known)
    return lambda: block_scores(q, k1, k2, position=at, scale=_D**-0.5, layout=_MODEL)
