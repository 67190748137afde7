"""Layer selection (HALO, arXiv:2601.22156): what recall and language modelling lose when one layer alone is swapped."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass

import torch

from sala_core.train.data.rows import TEXT, Rows
from sala_core.train.events import LayerMeasured
from sala_core.train.network.network import Network
from sala_core.train.objectives import NextToken
from sala_core.train.recipe import Select, Training


@torch.no_grad()
def measure_layers(
    teacher: Network,
    aligned: Network,
    rows: Rows,
    select: Select,
    training: Training,
    device: torch.device,
    should_stop: Callable[[], bool],
) -> Iterator[LayerMeasured]:
    """The backbone as it is (layer -1), then with each layer's mixer replaced alone. Ends early where asked to."""
    objective = NextToken(teacher).to(device)
    aligned.to(device)
    own = [layer.self_attn for layer in teacher.layers]
    for index in range(-1, len(own)):
        if should_stop():
            return
        if index >= 0:
            teacher.layers[index].self_attn = aligned.layers[index].self_attn
        sums = {kind: torch.zeros(4, device=device) for kind in (TEXT, *select.recall)}
        for kind, found in sums.items():
            size = training.micro_rows or select.rows
            for start in range(0, select.rows, size):
                samples = range(start, min(start + size, select.rows))
                batch = rows.batch(samples, select.length, {kind: 1.0}).to(device)
                with torch.autocast(device.type, torch.bfloat16, enabled=training.dtype == "bfloat16"):
                    found += objective(batch.ids, batch.weights, measure=True)
        if index >= 0:
            teacher.layers[index].self_attn = own[index]
        yield _measured(index, len(own), {kind: found.tolist() for kind, found in sums.items()})


def _measured(index: int, num_layers: int, sums: dict[str, list[float]]) -> LayerMeasured:
    text = sums.pop(TEXT)
    shares = [(probability / weight, hits / weight) for _, weight, probability, hits in sums.values()]
    return LayerMeasured(
        layer=index,
        num_layers=num_layers,
        loss=text[0] / text[1],
        recall=sum(share for share, _ in shares) / len(shares),
        recalled=sum(share for _, share in shares) / len(shares),
    )


@dataclass(frozen=True, kw_only=True)
class Importance:
    """One layer's measurements and its score."""

    layer: int
    loss: float
    recall: float
    recalled: float
    score: float


def importances(measured: list[LayerMeasured], epsilon: float) -> list[Importance]:
    """s_i = (max R - R_i) / (max C - C_i + epsilon), with R the recall and C the negative loss in nats.

    A layer scores high whose swap harms recall much and the rest little.
    """
    layers = [found for found in measured if found.layer >= 0]
    best_recall, best_loss = max(found.recall for found in layers), min(found.loss for found in layers)
    return [
        Importance(
            layer=found.layer,
            loss=found.loss,
            recall=found.recall,
            recalled=found.recalled,
            score=(best_recall - found.recall) / (found.loss - best_loss + epsilon),
        )
        for found in layers
    ]


def report(measured: list[LayerMeasured], scored: list[Importance], layers: tuple[int, ...]) -> dict[str, object]:
    """What is written beside the model; no layers where the placement goes by no scores."""
    whole = [
        {"loss": found.loss, "recall": found.recall, "recalled": found.recalled}
        for found in measured
        if found.layer < 0
    ]
    return {
        "softmax_layers": list(layers),
        "backbone": whole[0] if whole else None,
        "layers": list(map(asdict, scored)),
    }
