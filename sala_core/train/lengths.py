"""Length extrapolation: loss on held-out text and recall at lengths beyond the training length."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from sala_core.train.data.rows import Rows
from sala_core.train.network.network import Network
from sala_core.train.objectives import NextToken


@dataclass(frozen=True, kw_only=True)
class LengthScore:
    """One kind of rows at one length. loss: nats per weighted token; recall, recalled: as in `events.Measured`."""

    kind: str
    length: int
    sparse: bool
    rows: int
    loss: float
    recall: float
    recalled: float


@torch.no_grad()
def measure_lengths(
    network: Network,
    rows: Rows,
    lengths: Sequence[int],
    kinds: Sequence[str],
    *,
    tokens: int,
    sparse: Sequence[bool] = (False, True),
) -> Iterator[LengthScore]:
    """Measure `network` on its own device; yield a score for each length, value of `sparse` and kind of rows.

    Args:
        network: the model; its attribute `sparse` is changed.
        rows: source of held-out rows.
        lengths: tokens of a row.
        kinds: of rows.
        tokens: total tokens of a measurement, about; at least two rows are measured.
        sparse: with and without block selection. Lengths whose blocks are all selected are measured once.
    """
    objective = NextToken(network)
    device = network.vocabulary.device
    layout = network.config.sparse_config
    for length in lengths:
        selects_all = length <= layout.num_selected_blocks * layout.block_size
        for network.sparse in sparse[:1] if selects_all else sparse:
            for kind in kinds:
                count, sums = max(2, tokens // length), torch.zeros(4, device=device)
                for sample in range(count):
                    batch = rows.batch([sample], length, {kind: 1.0}).to(device)
                    sums += objective(batch.ids, batch.weights, measure=True)
                loss, weight, probability, hits = sums.tolist()
                yield LengthScore(
                    kind=kind,
                    length=length,
                    sparse=network.sparse,
                    rows=count,
                    loss=loss / weight,
                    recall=probability / weight,
                    recalled=hits / weight,
                )
