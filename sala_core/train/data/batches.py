"""Rows as tensors of fixed shapes: token ids, weights of the targets, and notes of where the answers stand."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from sala_core.train.data.tasks import MEMORY_TOKENS, Row

_QUERIES_A_ROW = 64
_TURN_EVERY, _TOKENS_A_TURN, _SPANS_A_TURN = 512, 40, 4  # tokens of a row for each turn whose looking is taught
_MEMORY_EVERY = 16  # tokens of a row for each position whose sentence is to be told
_ANSWER_WEIGHT = 0.5  # and more: what is not mere text


class AnswerPositions(NamedTuple):
    """What the makers of rows know about them.

    queries [B, Q] int64: positions whose choice of blocks is taught; first [B, Q]: where their turn starts; gold
    [B, Q, 2]: the token span that answers; known [B, Q] fp32: 1 where there is a query. held [B, M] int64: positions of
    text; beginnings [B, M, MEMORY_TOKENS]: first tokens of the sentences that they stand in, -1 where there is none.
    documents [B, T] fp32: 1 for their own tokens. asking [B, S, Q] int64: positions of questions that documents answer,
    -1 where there is none; answers [B, S, A, 2]: the spans that answer, empty ones where there are fewer.
    """

    queries: Tensor
    first: Tensor
    gold: Tensor
    known: Tensor
    held: Tensor
    beginnings: Tensor
    documents: Tensor
    asking: Tensor
    answers: Tensor


class Batch(NamedTuple):
    """ids [B, T + 1] int64; weights [B, T] fp32 of the targets ids[:, 1:]; notes where they were asked for."""

    ids: Tensor
    weights: Tensor
    notes: AnswerPositions | None = None

    def rows(self, part: slice) -> Batch:
        """Some of the rows."""
        notes = None if self.notes is None else AnswerPositions(*(tensor[part] for tensor in self.notes))
        return Batch(self.ids[part], self.weights[part], notes)

    def to(self, device: torch.device) -> Batch:
        """The same on a device."""
        notes = None if self.notes is None else AnswerPositions(*(tensor.to(device) for tensor in self.notes))
        return Batch(self.ids.to(device), self.weights.to(device), notes)


def collate(rows: Sequence[Row], length: int) -> Batch:
    """Rows cut to `length` + 1 ids, without notes."""
    ids = np.stack([np.asarray(row.ids[: length + 1], np.int64) for row in rows])
    weights = np.stack([np.asarray(row.weights[1 : length + 1], np.float32) for row in rows])
    return Batch(torch.from_numpy(ids), torch.from_numpy(weights))


def subsample_targets(weights: Tensor, share: float, seed: int) -> None:
    """Keep the weights [T] of a share of a row's targets, answers first, then text at random. In place."""
    noise = torch.from_numpy(np.random.default_rng(seed).random(len(weights)))
    order = (weights > 0) + 4 * (weights >= _ANSWER_WEIGHT) + noise
    weights[order.argsort(descending=True)[num_scored(len(weights), share) :]] = 0


def num_scored(num_tokens: int, share: float) -> int:
    """How many targets `thin` keeps of a row's."""
    return max(1, int(num_tokens * share))


def take_notes(rows: Sequence[Row], length: int, seeds: Sequence[int]) -> AnswerPositions:
    """Notes of rows cut to `length`; which ones, where there are more than have room, each row's seed decides."""
    queries = np.zeros((len(rows), _QUERIES_A_ROW, 5), np.int64)
    memory = np.full((len(rows), max(1, length // _MEMORY_EVERY), 1 + MEMORY_TOKENS), -1, np.int64)
    memory[..., 0] = 0
    documents = np.zeros((len(rows), length), np.float32)
    num_turns = max(1, length // _TURN_EVERY)
    asking = np.full((len(rows), num_turns, _TOKENS_A_TURN), -1, np.int64)
    answers = np.zeros((len(rows), num_turns, _SPANS_A_TURN, 2), np.int64)
    for index, (row, seed) in enumerate(zip(rows, seeds, strict=True)):
        rng = random.Random(seed)
        _fill(queries[index], [(*query, 1) for query in row.queries if query[0] < length], rng)
        _fill(memory[index], [(position, *first) for position, first in row.memory if position < length], rng)
        for start, end in row.documents:
            documents[index, start:end] = 1
        turns = [turn for turn in row.turns if turn[1] <= length]
        for slot, (start, end, spans) in enumerate(rng.sample(turns, min(len(turns), num_turns))):
            tokens = np.unique(np.linspace(start, end - 1, min(end - start, _TOKENS_A_TURN)).astype(np.int64))
            asking[index, slot, : len(tokens)] = tokens
            answers[index, slot, : len(spans)] = spans[:_SPANS_A_TURN]
    taught, told = torch.from_numpy(queries), torch.from_numpy(memory)
    return AnswerPositions(
        queries=taught[..., 0],
        first=taught[..., 3],
        gold=taught[..., 1:3],
        known=taught[..., 4].float(),
        held=told[..., 0],
        beginnings=told[..., 1:],
        documents=torch.from_numpy(documents),
        asking=torch.from_numpy(asking),
        answers=torch.from_numpy(answers),
    )


def _fill(table: np.ndarray, found: Sequence[tuple[int, ...]], rng: random.Random) -> None:
    for slot, one in enumerate(rng.sample(found, min(len(found), len(table)))):
        table[slot] = one
