"""How a model does beyond the length it was trained at: loss on held-out text and recall, length by length."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from sala_core.train.data.rows import Rows
from sala_core.train.network.network import Network
from sala_core.train.objectives import NextToken


@dataclass(frozen=True, kw_only=True)
class LengthScore:
    """One kind of rows at one length. loss: nats per weighted token; recall, recalled as of `events.Measured`."""

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
    """Score `network` on about `tokens` tokens (two rows at least) of every kind and length, on its own device.

    sparse: whether blocks are chosen; while all fit, both are the same and it is measured once.
    """
    objective = NextToken(network)
    device = network.vocabulary.device
    layout = network.config.sparse_config
    for length in lengths:
        all_fit = length <= layout.num_selected_blocks * layout.block_size
        for network.sparse in sparse[:1] if all_fit else sparse:
            for kind in kinds:
                count, found = max(2, tokens // length), torch.zeros(4, device=device)
                for sample in range(count):
                    batch = rows.batch([sample], length, {kind: 1.0}).to(device)
                    found += objective(batch.ids, batch.weights, measure=True)
                loss, weight, probability, hits = found.tolist()
                yield LengthScore(
                    kind=kind,
                    length=length,
                    sparse=network.sparse,
                    rows=count,
                    loss=loss / weight,
                    recall=probability / weight,
                    recalled=hits / weight,
                )
