"""Batches by step number: one seed and step always give one batch: resuming needs no saved position."""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sala_core.train.tasks import Row, TaskMaker

QUERIES_A_ROW = 32
_MIN_OVERLAP_TOKENS = 12


@dataclass(frozen=True, kw_only=True)
class Phase:
    """A stretch of training at one length; `mix` weighs the kinds of rows (methods of TaskMaker)."""

    name: str
    steps: int
    length: int
    rows: int
    mix: dict[str, float]
    rates: tuple[float, float]
    block_loss: float = 0.0
    memory_loss: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Batch:
    """ids [B, T + 1] int64; weights [B, T] of the targets ids[:, 1:].

    queries [B, Q] int64 positions whose chosen blocks are supervised, first [B, Q] the start of their turn,
    gold [B, Q, 2] the token span that answers, known [B, Q] 1.0 where a query is real. held [B, M] int64 positions of
    text, beginnings [B, M, 4] the first tokens of the sentences that they stand in, -1 where there is none to tell.
    """

    ids: Tensor
    weights: Tensor
    queries: Tensor
    first: Tensor
    gold: Tensor
    known: Tensor
    held: Tensor
    beginnings: Tensor


def make_batch(maker: TaskMaker, phase: Phase, seed: int, step: int) -> Batch:
    """The batch of global step `step`."""
    rng = random.Random(f"{seed}/{step}")
    names = list(phase.mix)
    rows = []
    for _ in range(phase.rows):
        task = rng.choices(names, weights=[phase.mix[name] for name in names])[0]
        rows.append(getattr(maker, task)(rng, phase.length))
    return collate(rows, phase.length, rng)


def collate(rows: list[Row], length: int, rng: random.Random) -> Batch:
    """Cut every row to `length` + 1 ids and draw at most QUERIES_A_ROW of its queries."""
    ids = torch.tensor([row.ids[: length + 1] for row in rows])
    weights = torch.tensor([row.weights[1 : length + 1] for row in rows])
    table = np.zeros((len(rows), QUERIES_A_ROW, 5), dtype=np.int64)
    for index, row in enumerate(rows):
        usable = [(*query, 1) for query in row.queries if query[0] < length]
        for slot, query in enumerate(rng.sample(usable, min(len(usable), QUERIES_A_ROW))):
            table[index, slot] = query
    fields = torch.from_numpy(table)
    memory = np.full((len(rows), length // 32, 5), -1, dtype=np.int64)
    memory[..., 0] = 0
    for index, row in enumerate(rows):
        held = [(position, *first) for position, first in row.memory if position < length]
        for slot, one in enumerate(rng.sample(held, min(len(held), length // 32))):
            memory[index, slot] = one
    notes = torch.from_numpy(memory)
    return Batch(
        held=notes[..., 0],
        beginnings=notes[..., 1:],
        ids=ids,
        weights=weights,
        queries=fields[..., 0],
        gold=fields[..., 1:3],
        first=fields[..., 3],
        known=fields[..., 4].float(),
    )


def window_targets(gold: Tensor, num_windows: int, stride: int, size: int) -> Tensor:
    """[B, Q, W] bool: pooled key windows that hold enough of the span gold [B, Q, 2] to count as a hit."""
    starts = torch.arange(num_windows) * stride
    overlap = torch.minimum(gold[..., 1:], starts + size) - torch.maximum(gold[..., :1], starts)
    needed = (gold[..., 1:] - gold[..., :1]).clamp(max=_MIN_OVERLAP_TOKENS)
    return (overlap >= needed) & (needed > 0)
