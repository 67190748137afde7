"""Inputs on which `choose_blocks` is compared, and its workloads in the released model."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from sala_kernels.backend import Backend
from sala_kernels.block_choice import choose_blocks
from sala_kernels.blocks import BlockLayout
from sala_kernels.inspection.cases import FLOAT32, Comparison, Numbers, Workload, at_position

_MODEL = BlockLayout(stride=16, block=64, init=1, local=33, slots=62)
_KV_HEADS = 2
_VALUES = (0.0, 1e-40, 1e-3, 0.5, 0.5000001, 1.0, 7.0, float("inf"), float("-inf"))  # few, so that there are ties


@dataclass(frozen=True, kw_only=True)
class _Case:
    """Random scores of T queries at `position`. Of three neighboring scores two are equal, or all have few values."""

    T: int
    position: int
    layout: BlockLayout
    few_values: bool = False
    columns: int = 0  # scored blocks after the last query's own; negative: fewer
    known: bool = True  # whether the host knows the position
    padded: bool = False  # whether rows are views of longer ones, as those of `block_scores` are

    @property
    def name(self) -> str:
        sizes = f"init {self.layout.init}, local {self.layout.local}, slots {self.layout.slots}"
        place = self.position if self.known else f"a tensor of {self.position}"
        rows = ", padded rows" if self.padded else ""
        return f"T {self.T} at {place}, {sizes}{rows}" + (", few values" if self.few_values else "")


def comparisons() -> Iterator[Comparison]:
    """No candidates, fewer than slots and more; positions at the edges of blocks; rows in registers and in chunks."""
    small = BlockLayout(stride=4, block=4, init=1, local=2, slots=3)
    cases = [
        _Case(T=3, position=0, layout=small),
        _Case(T=9, position=11, layout=small),
        _Case(T=6, position=20, layout=small, columns=5),
        _Case(T=2, position=4 * 127 - 1, layout=small, few_values=True),
        _Case(T=2, position=4 * 130 - 1, layout=small, columns=-3),
        _Case(T=2, position=1, layout=small, columns=40, known=False),
        _Case(T=16, position=11, layout=small, columns=5, known=False),
        _Case(T=1, position=64 * 200, layout=_MODEL, few_values=True, columns=700, known=False),
        _Case(T=1, position=64 * 500, layout=_MODEL, columns=33_000, known=False),
        _Case(T=3, position=64 * 95, layout=_MODEL),
        _Case(T=3, position=64 * 98, layout=_MODEL, columns=-40, padded=True),
        _Case(T=2, position=64 * 33_000, layout=_MODEL, columns=-40, padded=True),
        _Case(T=2, position=64 * 96 - 1, layout=_MODEL),
        _Case(T=2, position=64 * 1024 - 1, layout=_MODEL, few_values=True),
        _Case(T=2, position=64 * 1300 - 1, layout=_MODEL),
        _Case(T=1, position=64 * 16_384 - 1, layout=_MODEL),
        _Case(T=1, position=64 * 33_000, layout=_MODEL),
        _Case(T=1, position=64 * 33_000, layout=_MODEL, few_values=True),
        _Case(T=2, position=300, layout=BlockLayout(stride=4, block=4, init=0, local=1, slots=64), few_values=True),
        _Case(T=2, position=300, layout=BlockLayout(stride=4, block=4, init=0, local=1, slots=0)),
    ]
    for case in cases:
        yield Comparison(name=case.name, run=partial(_run, case=case), bf16_limit=None)  # scores are float32


def workloads() -> Iterator[Workload]:
    """A slice of queries and a decoded token, after 64K and 1M tokens.

    Bytes: the scores read, the choice written. FLOPs: one comparison for each candidate.
    """
    for length, n in (("64K", 65_536), ("1M", 1_048_576)):
        for name, T, known in (
            ("decode", 1, True),
            ("decode at a tensor", 1, False),
            ("16 tokens at a tensor", 16, False),
            ("slice of 1,024", 1024, True),
            ("prefill 8,192", 8192, True),
        ):
            candidates = sum(_MODEL.num_candidates(i // _MODEL.block) for i in range(n - T, n))
            yield Workload(
                name=f"{name} at {length}",
                prepare=partial(_prepare, T=T, n=n, known=known),
                num_bytes=_KV_HEADS * (4 * candidates + 8 * T * _MODEL.slots),
                num_flops=_KV_HEADS * candidates,
            )


def _run(backend: Backend, device: torch.device, _numbers: Numbers = FLOAT32, *, case: _Case) -> Sequence[Tensor]:
    generator = torch.Generator().manual_seed(case.position)
    columns = (case.position + case.T - 1) // case.layout.block + 1 + case.columns
    if case.few_values:
        scores = torch.tensor(_VALUES)[torch.randint(len(_VALUES), (2, case.T, columns), generator=generator)]
    else:
        scores = torch.rand(2, case.T, columns, generator=generator).exp2()
        scores[..., 1::3] = scores[..., : scores[..., 1::3].shape[-1] * 3 : 3]
    if case.padded:
        rows = torch.full((2, case.T, -(-columns // 32) * 32), torch.nan)
        rows[..., :columns] = scores
        scores = rows[..., :columns]
    position = at_position(case.position, device, known=case.known)
    return [choose_blocks(scores.to(device), position=position, layout=case.layout, backend=backend)]


def _prepare(device: torch.device, T: int, n: int, known: bool) -> Callable[[], object]:
    generator = torch.Generator(device).manual_seed(0) if device.type == "cuda" else None
    scores = torch.rand(_KV_HEADS, T, n // _MODEL.block, device=device, generator=generator)
    position = at_position(n - T, device, known=known)
    return lambda: choose_blocks(scores, position=position, layout=_MODEL)
