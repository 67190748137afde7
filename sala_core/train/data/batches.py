"""Rows as tensors of fixed shapes: token ids, target weights, and the positions of answers."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from sala_core.train.data.tasks import MEMORY_TOKENS, Row

_QUERIES_PER_ROW = 64
_ROW_TOKENS_PER_QUESTION = 512
_QUESTION_TOKENS, _SPANS_PER_QUESTION = 40, 4  # at most
_ROW_TOKENS_PER_MEMORY = 16
_ANSWER_WEIGHT = 0.5  # targets of at least this weight belong to answers, not to plain text


class AnswerPositions(NamedTuple):
    """Where questions and answers stand in rows of T tokens: the supervision of the auxiliary losses.

    queries: [B, Q] int64, positions whose block selection is supervised.
    turn_starts: [B, Q] int64, start of the question's turn.
    gold: [B, Q, 2] int64, start and end of the token span that answers.
    valid: [B, Q] fp32, 1 for queries, 0 for unused slots.
    memory: [B, M] int64, document positions for `memory_loss`.
    beginnings: [B, M, MEMORY_TOKENS] int64, first tokens of the sentence at that position; -1 for none.
    documents: [B, T] fp32, 1 for the tokens of documents.
    questions: [B, S, Q] int64, positions of the tokens of questions that documents answer; -1 for unused slots.
    answers: [B, S, A, 2] int64, spans that answer a question; (0, 0) for unused slots.
    """

    queries: Tensor
    turn_starts: Tensor
    gold: Tensor
    valid: Tensor
    memory: Tensor
    beginnings: Tensor
    documents: Tensor
    questions: Tensor
    answers: Tensor


class Batch(NamedTuple):
    """Rows of a step.

    ids: [B, T + 1] int64.
    weights: [B, T] fp32, of the targets ids[:, 1:].
    positions: of the answers, if requested.
    """

    ids: Tensor
    weights: Tensor
    positions: AnswerPositions | None = None

    def rows(self, part: slice) -> Batch:
        """Return a slice of the rows."""
        positions = self.positions
        positions = None if positions is None else AnswerPositions(*(tensor[part] for tensor in positions))
        return Batch(self.ids[part], self.weights[part], positions)

    def to(self, device: torch.device) -> Batch:
        """Return the batch on a device."""
        positions = self.positions
        positions = None if positions is None else AnswerPositions(*(tensor.to(device) for tensor in positions))
        return Batch(self.ids.to(device), self.weights.to(device), positions)


def collate(rows: Sequence[Row], length: int) -> Batch:
    """Return a batch of rows, each cut to `length` + 1 ids, without answer positions."""
    ids = np.stack([np.asarray(row.ids[: length + 1], np.int64) for row in rows])
    weights = np.stack([np.asarray(row.weights[1 : length + 1], np.float32) for row in rows])
    return Batch(torch.from_numpy(ids), torch.from_numpy(weights))


def subsample_targets(weights: Tensor, share: float, seed: int) -> None:
    """Set all but a share of a row's weights [T] to 0: answers are kept first, then text at random. In place."""
    noise = torch.from_numpy(np.random.default_rng(seed).random(len(weights)))
    order = (weights > 0) + 4 * (weights >= _ANSWER_WEIGHT) + noise
    weights[order.argsort(descending=True)[num_scored(len(weights), share) :]] = 0


def num_scored(num_tokens: int, share: float) -> int:
    """Return how many targets of a row `subsample_targets` keeps."""
    return max(1, int(num_tokens * share))


def answer_positions(rows: Sequence[Row], length: int, seeds: Sequence[int]) -> AnswerPositions:
    """Return the answer positions of rows cut to `length` tokens.

    seeds: one for each row. A row with more queries, memory positions or questions than slots gets a random sample.
    """
    queries = np.zeros((len(rows), _QUERIES_PER_ROW, 5), np.int64)
    memory = np.full((len(rows), max(1, length // _ROW_TOKENS_PER_MEMORY), 1 + MEMORY_TOKENS), -1, np.int64)
    memory[..., 0] = 0
    documents = np.zeros((len(rows), length), np.float32)
    num_questions = max(1, length // _ROW_TOKENS_PER_QUESTION)
    questions = np.full((len(rows), num_questions, _QUESTION_TOKENS), -1, np.int64)
    answers = np.zeros((len(rows), num_questions, _SPANS_PER_QUESTION, 2), np.int64)
    for index, (row, seed) in enumerate(zip(rows, seeds, strict=True)):
        rng = random.Random(seed)
        _sample_into(queries[index], [(*query, 1) for query in row.queries if query[0] < length], rng)
        _sample_into(memory[index], [(position, *first) for position, first in row.memory if position < length], rng)
        for start, end in row.documents:
            documents[index, start:end] = 1
        turns = [turn for turn in row.turns if turn[1] <= length]
        for slot, (start, end, spans) in enumerate(rng.sample(turns, min(len(turns), num_questions))):
            tokens = np.unique(np.linspace(start, end - 1, min(end - start, _QUESTION_TOKENS)).astype(np.int64))
            questions[index, slot, : len(tokens)] = tokens
            answers[index, slot, : len(spans)] = spans[:_SPANS_PER_QUESTION]
    query_table, memory_table = torch.from_numpy(queries), torch.from_numpy(memory)
    return AnswerPositions(
        queries=query_table[..., 0],
        turn_starts=query_table[..., 3],
        gold=query_table[..., 1:3],
        valid=query_table[..., 4].float(),
        memory=memory_table[..., 0],
        beginnings=memory_table[..., 1:],
        documents=torch.from_numpy(documents),
        questions=torch.from_numpy(questions),
        answers=torch.from_numpy(answers),
    )


def _sample_into(table: np.ndarray, entries: Sequence[tuple[int, ...]], rng: random.Random) -> None:
    """Fill the first rows of `table` with entries, a random sample of them if there are too many. In place."""
    for slot, entry in enumerate(rng.sample(entries, min(len(entries), len(table)))):
        table[slot] = entry
