"""Fits the ranking of sentences and its confidence on questions, and measures both on texts that were left out."""

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from sala_core.finder.confidence import SIGNS, signs
from sala_core.finder.features import NAMES, Floats
from sala_core.finder.ranking import Linear, partner, spread
from sala_core.train.finding.examples import Example

NUM_FOLDS = 4

_STEPS, _RATE, _RANKING_DECAY, _CONFIDENCE_DECAY = 200, 0.04, 1e-3, 2e-3
_MADE_WEIGHT = 0.3  # of a question that was made of a sentence, in the confidence
_MASK = -1e9


@dataclass(frozen=True, kw_only=True)
class Judged:
    """What the finder made of a question: the signs of its best sentence, and what is right."""

    example: Example
    signs: Floats
    is_right: bool
    right_place: bool
    in_five: bool
    bm25_in_five: bool
    are_answers_hidden: bool


def fit_ranking(examples: Sequence[Example]) -> Linear:
    """Fit a ranking so that the sentences that answer, and their neighbors, have the most of a softmax over all."""
    usable = [each for each in examples if each.near.any() and not each.is_made]
    values = np.concatenate([each.features for each in usable])
    mean, scale = values.mean(0), values.std(0) + 1e-6
    longest = max(len(each.features) for each in usable)
    padded = torch.zeros(len(usable), longest, len(NAMES))
    present, near, answers = (torch.full((len(usable), longest), _MASK) for _ in range(3))
    for i, each in enumerate(usable):
        n = len(each.features)
        padded[i, :n] = torch.from_numpy((each.features - mean) / scale)
        present[i, :n] = 0
        near[i, :n][torch.from_numpy(each.near)] = 0
        answers[i, :n][torch.from_numpy(each.answers)] = 0
    has_exact = (answers > -1).any(1)

    def loss(weights: torch.Tensor, _bias: torch.Tensor) -> torch.Tensor:
        scores = padded @ weights
        total = torch.logsumexp(scores + present, 1)
        place = torch.logsumexp(scores + near, 1) - total
        exact = (torch.logsumexp(scores + answers, 1) - total)[has_exact]
        return -(place.mean() + exact.mean()) / 2 + _RANKING_DECAY * weights.square().sum()

    weights, _ = _minimize(loss, len(NAMES))
    return Linear(mean=mean, scale=scale, weights=weights, bias=0.0)


def fit_confidence(judged: Sequence[Judged]) -> Linear:
    """Fit the chance that the best sentence is right: a logistic regression on its signs."""
    values = np.stack([each.signs for each in judged])
    mean, scale = values.mean(0), values.std(0) + 1e-6
    inputs = torch.from_numpy((values - mean) / scale)
    right = torch.tensor([float(each.is_right) for each in judged])
    shares = torch.tensor([_MADE_WEIGHT if each.example.is_made else 1.0 for each in judged])

    def loss(weights: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        logits = inputs @ weights + bias
        losses = torch.nn.functional.binary_cross_entropy_with_logits(logits, right, reduction="none")
        return (losses * shares).mean() + _CONFIDENCE_DECAY * weights.square().sum()

    weights, bias = _minimize(loss, len(SIGNS))
    return Linear(mean=mean, scale=scale, weights=weights, bias=bias)


def judge(ranking: Linear, example: Example, *, hide_answers: bool = False) -> Judged | None:
    """Rank the candidates of a question. hide_answers: as if the text did not have them, so that none is right.

    None if there are no candidates.
    """
    kept = ~example.near if hide_answers else np.ones(len(example.rows), bool)
    features, rows = example.features[kept], example.rows[kept]
    if not len(rows):
        return None
    scores = ranking(features)
    best = _spread(scores, rows)
    by_words = _spread(features[:, NAMES.index("bm25")], rows)
    answers, near = example.answers[kept], example.near[kept]
    at = {int(row): i for i, row in enumerate(rows)}
    beside = [at[row] for row in (int(rows[best[0]]) - 1, int(rows[best[0]]) + 1) if row in at]
    joined = partner(scores, example.starts[kept], example.ends[kept], best[0], beside)
    return Judged(
        example=example,
        signs=signs(features, scores, best[:2], example.in_text),
        is_right=bool(answers[best[0]] or (joined is not None and answers[joined])),
        right_place=bool(near[best[0]]),
        in_five=bool(near[best].any()),
        bm25_in_five=bool(near[by_words].any()),
        are_answers_hidden=hide_answers,
    )


def cross_validated(examples: Sequence[Example]) -> list[Judged]:
    """Judge every question with a ranking that was fitted on the questions about other texts.

    Each question with an answer counts twice: as it is, and with its answers hidden.
    """
    judged = []
    for fold in range(NUM_FOLDS):
        ranking = fit_ranking([each for each in examples if fold_of(each) != fold])
        for each in examples:
            if fold_of(each) == fold:
                judged += [judge(ranking, each), judge(ranking, each, hide_answers=True) if each.has_answer else None]
    return [each for each in judged if each is not None]


def fold_of(example: Example) -> int:
    """The part of the questions that a question belongs to; all of one text are in one."""
    return zlib.crc32(example.text.encode()) % NUM_FOLDS


def probability(confidence: Linear, judged: Sequence[Judged]) -> Floats:
    """[len(judged)] the confidence of each."""
    if not judged:
        return np.zeros(0, np.float32)
    logits = confidence(np.stack([each.signs for each in judged]))
    return (1 / (1 + np.exp(-logits))).astype(np.float32)


def threshold(values: Floats, judged: Sequence[Judged], precision: float, *, least: int = 20) -> float:
    """The lowest confidence from which on enough answers are right; 1 if there is none.

    Args:
        values: [len(judged)] their confidence.
        judged: the answers.
        precision: the share that has to be right.
        least: of how many answers at least.
    """
    order = np.argsort(-values, kind="stable")
    right = np.array([judged[i].is_right for i in order], np.float64)
    shares = np.cumsum(right) / np.arange(1, len(right) + 1)
    good = np.nonzero((shares >= precision) & (np.arange(1, len(right) + 1) >= least))[0]
    return float(values[order[good[-1]]]) if len(good) else 1.0


def _spread(scores: Floats, rows: np.ndarray) -> list[int]:
    """Indices of the five best candidates that are no neighbors."""
    by_row = np.full(int(rows.max()) + 1, -np.inf, np.float32)
    by_row[rows] = scores
    at = {int(row): i for i, row in enumerate(rows)}
    return [at[row] for row in spread(by_row, 5)]


def _minimize(loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], size: int) -> tuple[Floats, float]:
    weights, bias = torch.zeros(size, requires_grad=True), torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.Adam([weights, bias], lr=_RATE)
    for _ in range(_STEPS):
        optimizer.zero_grad()
        value = loss(weights, bias)
        value.backward()
        optimizer.step()
    return weights.detach().numpy(), float(bias.detach())
