"""Layer selection (HALO, arXiv:2601.22156): what replacing a single layer costs in recall and in language modeling."""

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
    """Measure the backbone unchanged (layer -1), then with the mixer of each layer replaced, one at a time.

    Args:
        teacher: the backbone; unchanged afterwards.
        aligned: its trained lightning mixers.
        rows: source of held-out rows.
        select: number, length and kinds of rows.
        training: `micro_rows` and `dtype`.
        device: to compute on.
        should_stop: called before each layer; ends the measurement early.
    """
    objective = NextToken(teacher).to(device)
    aligned.to(device)
    softmax_mixers = [layer.self_attn for layer in teacher.layers]
    for index in range(-1, len(softmax_mixers)):
        if should_stop():
            return
        if index >= 0:
            teacher.layers[index].self_attn = aligned.layers[index].self_attn
        sums = {kind: torch.zeros(4, device=device) for kind in (TEXT, *select.recall)}
        for kind, total in sums.items():
            size = training.micro_rows or select.rows
            for start in range(0, select.rows, size):
                samples = range(start, min(start + size, select.rows))
                batch = rows.batch(samples, select.length, {kind: 1.0}).to(device)
                with torch.autocast(device.type, torch.bfloat16, enabled=training.dtype == "bfloat16"):
                    total += objective(batch.ids, batch.weights, measure=True)
        if index >= 0:
            teacher.layers[index].self_attn = softmax_mixers[index]
        yield _measured(index, len(softmax_mixers), {kind: total.tolist() for kind, total in sums.items()})


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
    """Return s_i = (max R - R_i) / (max C - C_i + epsilon) for every layer i, with recall R and C = -loss in nats.

    The score is high for a layer whose replacement costs much recall and little loss.
    """
    layers = [one for one in measured if one.layer >= 0]
    best_recall, best_loss = max(one.recall for one in layers), min(one.loss for one in layers)
    return [
        Importance(
            layer=one.layer,
            loss=one.loss,
            recall=one.recall,
            recalled=one.recalled,
            score=(best_recall - one.recall) / (one.loss - best_loss + epsilon),
        )
        for one in layers
    ]


def report(measured: list[LayerMeasured], scored: list[Importance], layers: tuple[int, ...]) -> dict[str, object]:
    """Return the content of `importance.json`. Without measurements, `layers` is empty and `backbone` null."""
    backbone = [{"loss": one.loss, "recall": one.recall, "recalled": one.recalled} for one in measured if one.layer < 0]
    return {
        "softmax_layers": list(layers),
        "backbone": backbone[0] if backbone else None,
        "layers": list(map(asdict, scored)),
    }
