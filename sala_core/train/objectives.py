"""What is minimised: the next token, the teacher's distribution, or the teacher's hidden states.

Every objective is a module, so that it is compiled, replicated or sharded as one. Sums, not means, come out of it: the
loop divides by the weight of the whole step, however many processes and parts it is computed in.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from sala_core.model.config import SalaConfig
from sala_core.train.data.batches import AnswerPositions, num_scored
from sala_core.train.network.network import LightningMixer, Network
from sala_core.train.recipe import Phase

_LOGIT_TOKENS = 2048  # whose logits are held at once


class Objective(nn.Module):
    """A loss and what it trains. network: the model whose `sparse` and `recompute` the loop sets.

    every_token: whether all targets count alike, whatever the rows' weights say. wants_notes: whether it is to be given
    the rows' notes.
    """

    every_token = wants_notes = False
    network: Network

    def forward(
        self, ids: Tensor, weights: Tensor, notes: AnswerPositions | None = None, *, measure: bool = False
    ) -> Tensor:
        """ids [B, T + 1], weights [B, T]: the weighted sum of losses.

        measure: returns instead [4]: that sum, the weights' sum, and the weighted sums of the probability of the right
        token and of its being the likeliest (0 where nothing is predicted).
        """
        raise NotImplementedError

    def prepare(self, phase: Phase, sparse: bool) -> None:
        """Set what a phase has of its own, before each step. Raises TrainError."""
        self.network.sparse = sparse

    def trained(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Parameters that learn, by their checkpoint names."""
        yield from self.network.named_parameters()

    def remembered(self) -> dict[str, Tensor]:
        """What `forward` changes in place and checkpoints keep, parameters apart."""
        return {}

    def frozen(self) -> dict[str, Tensor]:
        """The rest of the result's tensors."""
        return {}

    @property
    def config(self) -> SalaConfig:
        """Of the result."""
        return self.network.config


class NextToken(Objective):
    """Cross-entropy of the next token. target_share: of each row, where the rest has no weight and is not computed."""

    def __init__(self, network: Network, target_share: float = 1.0) -> None:
        super().__init__()
        self.network, self.target_share = network, target_share

    def forward(
        self, ids: Tensor, weights: Tensor, notes: AnswerPositions | None = None, *, measure: bool = False
    ) -> Tensor:
        hidden = self.network(ids[:, :-1])
        if measure:
            return _measures(hidden, self.network.vocabulary, ids[:, 1:], weights)
        return self.next_token(hidden, ids, weights)

    def next_token(self, hidden: Tensor, ids: Tensor, weights: Tensor) -> Tensor:
        """The weighted sum of losses. hidden: [B, T, D], the network's."""
        hidden, right, weights = hidden.flatten(0, 1), ids[:, 1:].flatten(), weights.flatten()
        if self.target_share < 1:
            count = len(ids) * num_scored(ids.shape[1] - 1, self.target_share)
            scored = weights.topk(count, sorted=False).indices
            hidden, right, weights = hidden[scored], right[scored], weights[scored]
        total = hidden.new_zeros((), dtype=torch.float32)
        for part in _parts(weights):
            inputs = (hidden[part], self.network.vocabulary, right[part])
            total = total + (_recomputed(_cross_entropy, weights, *inputs) * weights[part]).sum()
        return total


class Distillation(Objective):
    """KL divergence from the teacher's next-token distribution."""

    def __init__(self, network: Network, teacher: Network) -> None:
        super().__init__()
        self.network, self.teacher = network, teacher.requires_grad_(False)

    def forward(
        self, ids: Tensor, weights: Tensor, notes: AnswerPositions | None = None, *, measure: bool = False
    ) -> Tensor:
        hidden = self.network(ids[:, :-1])
        if measure:
            return _measures(hidden, self.network.vocabulary, ids[:, 1:], weights)
        with torch.no_grad():
            wanted = self.teacher(ids[:, :-1])
        total = hidden.new_zeros((), dtype=torch.float32)
        for part in _parts(weights):
            student = (hidden.flatten(0, 1)[part], self.network.vocabulary)
            teacher = (wanted.flatten(0, 1)[part], self.teacher.vocabulary)
            total = total + (_recomputed(_divergence, weights, *student, *teacher) * weights.flatten()[part]).sum()
        return total


class Alignment(Objective):
    """Lightning mixers beside the teacher's: same input, the teacher's output to be reproduced, and it alone goes on.

    The mean squared error over layers and channels.
    """

    every_token = True

    def __init__(self, network: Network, teacher: Network) -> None:
        """network: all lightning; its other parts are the teacher's and do not learn."""
        super().__init__()
        self.teacher = teacher.requires_grad_(False)
        self.mixers = nn.ModuleList(layer.self_attn for layer in network.layers)
        self.result = network.config

    @property
    def network(self) -> Network:  # type: ignore[override]
        return self.teacher

    @property
    def config(self) -> SalaConfig:
        return self.result

    def trained(self) -> Iterator[tuple[str, nn.Parameter]]:
        for name, parameter in self.mixers.named_parameters():
            layer, rest = name.split(".", 1)
            yield f"model.layers.{layer}.self_attn.{rest}", parameter

    def frozen(self) -> dict[str, Tensor]:
        return {name: p for name, p in self.teacher.named_parameters() if ".self_attn." not in name}

    def forward(
        self, ids: Tensor, weights: Tensor, notes: AnswerPositions | None = None, *, measure: bool = False
    ) -> Tensor:
        seen: list[tuple[Tensor, Tensor]] = []
        with torch.no_grad():
            self.teacher(ids[:, :-1], lambda _, x, mixed: seen.append((x, mixed)))
        turns = self.teacher.turns(ids[:, :-1], {layer.head_dim for layer in self._mixers()})
        total = weights.new_zeros(())
        for mixer, (x, wanted) in zip(self._mixers(), seen, strict=True):
            made = mixer(x, turns[mixer.head_dim] if mixer.rotary else None, False)
            error = (made.float() - wanted.float()).square().mean(-1)
            total = total + (error * weights).sum() / len(seen)
        if measure:
            return torch.stack([total, weights.sum(), *weights.new_zeros(2)])
        return total

    def _mixers(self) -> list[LightningMixer]:
        return [mixer for mixer in self.mixers if isinstance(mixer, LightningMixer)]


def _parts(weights: Tensor) -> Iterator[slice]:
    for start in range(0, weights.numel(), _LOGIT_TOKENS):
        yield slice(start, start + _LOGIT_TOKENS)


def _recomputed(function: object, weights: Tensor, *inputs: Tensor) -> Tensor:
    """function(*inputs); its logits are made again in the backward pass where there are several parts of them."""
    assert callable(function)
    if weights.numel() <= _LOGIT_TOKENS:
        return function(*inputs)
    result = checkpoint(function, *inputs, use_reentrant=False)
    assert isinstance(result, Tensor)
    return result


def _cross_entropy(hidden: Tensor, vocabulary: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(F.linear(hidden, vocabulary).float(), targets, reduction="none")


def _divergence(hidden: Tensor, vocabulary: Tensor, teacher_hidden: Tensor, teacher_vocabulary: Tensor) -> Tensor:
    made = F.linear(hidden, vocabulary).float().log_softmax(-1)
    wanted = F.linear(teacher_hidden, teacher_vocabulary).float().log_softmax(-1)
    return F.kl_div(made, wanted, reduction="none", log_target=True).sum(-1)


def _measures(hidden: Tensor, vocabulary: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """As `Objective.forward` with measure."""
    sums = weights.new_zeros(4)
    for part in _parts(weights):
        logits = F.linear(hidden.flatten(0, 1)[part], vocabulary).float()
        right, weight = targets.flatten()[part], weights.flatten()[part]
        loss = F.cross_entropy(logits, right, reduction="none")
        hit = (logits.argmax(-1) == right).float()
        sums += torch.stack([(loss * weight).sum(), weight.sum(), ((-loss).exp() * weight).sum(), (hit * weight).sum()])
    return sums
