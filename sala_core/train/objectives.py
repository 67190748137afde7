"""The losses of the stages: next-token cross-entropy, distillation from the teacher, alignment of mixers.

Every objective is a module, so that it is compiled, replicated or sharded as a whole. It returns a sum of losses, not a
mean: the loop divides by the sum of weights of the whole step, which several processes and micro-batches may share.
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

_LOGIT_TOKENS = 2048  # whose logits are in memory at once


class Objective(nn.Module):
    """A loss and the parameters that it trains.

    network: the model whose `sparse` and `recompute` the loop sets.
    every_token: weight all targets equally and ignore the weights of the rows.
    needs_positions: `forward` needs `AnswerPositions`.
    """

    every_token = needs_positions = False
    network: Network

    def forward(
        self, ids: Tensor, weights: Tensor, positions: AnswerPositions | None = None, *, measure: bool = False
    ) -> Tensor:
        """Return the weighted sum of losses, a scalar; with `measure` a vector of four sums.

        Args:
            ids: [B, T + 1] int64: inputs and, shifted by one, targets.
            weights: [B, T] fp32, of the targets ids[:, 1:].
            positions: where the answers stand, if `needs_positions`.
            measure: return instead the sum of losses, the sum of weights, and the weighted sums of the target's
                probability and of top-1 accuracy (0 where no token is predicted), [4].
        """
        raise NotImplementedError

    def prepare(self, phase: Phase, sparse: bool) -> None:
        """Apply the settings of a phase; called before each step. Raises TrainError."""
        self.network.sparse = sparse

    def trained_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Parameters that are trained, by their checkpoint names."""
        yield from self.network.named_parameters()

    def saved_buffers(self) -> dict[str, Tensor]:
        """Tensors other than parameters that `forward` changes in place and that checkpoints keep, by name."""
        return {}

    def frozen_tensors(self) -> dict[str, Tensor]:
        """Tensors of the resulting model that are not trained, by name."""
        return {}

    @property
    def config(self) -> SalaConfig:
        """Config of the resulting model."""
        return self.network.config


class NextToken(Objective):
    """Cross-entropy of the next token.

    target_share: share of each row's targets that have a weight. Logits of the others are not computed.
    """

    def __init__(self, network: Network, target_share: float = 1.0) -> None:
        super().__init__()
        self.network, self.target_share = network, target_share

    def forward(
        self, ids: Tensor, weights: Tensor, positions: AnswerPositions | None = None, *, measure: bool = False
    ) -> Tensor:
        """As `Objective.forward`.

        Args:
            ids, weights, positions, measure: as for `Objective.forward`.
        """
        hidden = self.network(ids[:, :-1])
        if measure:
            return _measures(hidden, self.network.vocabulary, ids[:, 1:], weights)
        return self.next_token(hidden, ids, weights)

    def next_token(self, hidden: Tensor, ids: Tensor, weights: Tensor) -> Tensor:
        """Weighted sum of losses. hidden: [B, T, D], output of the network; ids: [B, T + 1]; weights: [B, T]."""
        hidden, targets, weights = hidden.flatten(0, 1), ids[:, 1:].flatten(), weights.flatten()
        if self.target_share < 1:
            count = len(ids) * num_scored(ids.shape[1] - 1, self.target_share)
            scored = weights.topk(count, sorted=False).indices
            hidden, targets, weights = hidden[scored], targets[scored], weights[scored]
        total = hidden.new_zeros((), dtype=torch.float32)
        for part in _parts(weights):
            inputs = (hidden[part], self.network.vocabulary, targets[part])
            total = total + (_recomputed(_cross_entropy, weights, *inputs) * weights[part]).sum()
        return total


class Distillation(Objective):
    """KL divergence from the teacher's next-token distribution."""

    def __init__(self, network: Network, teacher: Network) -> None:
        super().__init__()
        self.network, self.teacher = network, teacher.requires_grad_(False)

    def forward(
        self, ids: Tensor, weights: Tensor, positions: AnswerPositions | None = None, *, measure: bool = False
    ) -> Tensor:
        """As `Objective.forward`.

        Args:
            ids, weights, positions, measure: as for `Objective.forward`.
        """
        hidden = self.network(ids[:, :-1])
        if measure:
            return _measures(hidden, self.network.vocabulary, ids[:, 1:], weights)
        with torch.no_grad():
            teacher_hidden = self.teacher(ids[:, :-1])
        total = hidden.new_zeros((), dtype=torch.float32)
        for part in _parts(weights):
            student = (hidden.flatten(0, 1)[part], self.network.vocabulary)
            teacher = (teacher_hidden.flatten(0, 1)[part], self.teacher.vocabulary)
            total = total + (_recomputed(_divergence, weights, *student, *teacher) * weights.flatten()[part]).sum()
        return total


class Alignment(Objective):
    """Train lightning mixers to reproduce the softmax mixers of a teacher, layer by layer.

    Each lightning mixer gets the input of the teacher's mixer; the next layer gets the teacher's output. The loss is
    the mean squared error over layers and channels.
    """

    every_token = True

    def __init__(self, network: Network, teacher: Network) -> None:
        """network: lightning attention in all layers. Only its mixers are used; all else is the teacher's."""
        super().__init__()
        self.teacher = teacher.requires_grad_(False)
        self.mixers = nn.ModuleList(layer.self_attn for layer in network.layers)
        self.student_config = network.config

    @property
    def network(self) -> Network:  # type: ignore[override]
        return self.teacher

    @property
    def config(self) -> SalaConfig:
        return self.student_config

    def trained_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        for name, parameter in self.mixers.named_parameters():
            layer, rest = name.split(".", 1)
            yield f"model.layers.{layer}.self_attn.{rest}", parameter

    def frozen_tensors(self) -> dict[str, Tensor]:
        return {name: p for name, p in self.teacher.named_parameters() if ".self_attn." not in name}

    def forward(
        self, ids: Tensor, weights: Tensor, positions: AnswerPositions | None = None, *, measure: bool = False
    ) -> Tensor:
        """As `Objective.forward`.

        Args:
            ids, weights, positions, measure: as for `Objective.forward`.
        """
        recorded: list[tuple[Tensor, Tensor]] = []
        with torch.no_grad():
            self.teacher(ids[:, :-1], lambda _, x, mixed: recorded.append((x, mixed)))
        cos_sin = self.teacher.cos_sin(ids[:, :-1], {mixer.head_dim for mixer in self._mixers()})
        total = weights.new_zeros(())
        for mixer, (x, target) in zip(self._mixers(), recorded, strict=True):
            output = mixer(x, cos_sin[mixer.head_dim] if mixer.rotary else None, False)
            error = (output.float() - target.float()).square().mean(-1)
            total = total + (error * weights).sum() / len(recorded)
        if measure:
            return torch.stack([total, weights.sum(), *weights.new_zeros(2)])
        return total

    def _mixers(self) -> list[LightningMixer]:
        return [mixer for mixer in self.mixers if isinstance(mixer, LightningMixer)]


def _parts(weights: Tensor) -> Iterator[slice]:
    for start in range(0, weights.numel(), _LOGIT_TOKENS):
        yield slice(start, start + _LOGIT_TOKENS)


def _recomputed(function: object, weights: Tensor, *inputs: Tensor) -> Tensor:
    """function(*inputs). If the tokens come in several parts, their logits are recomputed in the backward pass."""
    assert callable(function)
    if weights.numel() <= _LOGIT_TOKENS:
        return function(*inputs)
    result = checkpoint(function, *inputs, use_reentrant=False)
    assert isinstance(result, Tensor)
    return result


def _cross_entropy(hidden: Tensor, vocabulary: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(F.linear(hidden, vocabulary).float(), targets, reduction="none")


def _divergence(hidden: Tensor, vocabulary: Tensor, teacher_hidden: Tensor, teacher_vocabulary: Tensor) -> Tensor:
    student = F.linear(hidden, vocabulary).float().log_softmax(-1)
    teacher = F.linear(teacher_hidden, teacher_vocabulary).float().log_softmax(-1)
    return F.kl_div(student, teacher, reduction="none", log_target=True).sum(-1)


def _measures(hidden: Tensor, vocabulary: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """The four sums of `Objective.forward` with `measure`. hidden: [B, T, D]; targets, weights: [B, T]."""
    sums = weights.new_zeros(4)
    for part in _parts(weights):
        logits = F.linear(hidden.flatten(0, 1)[part], vocabulary).float()
        target, weight = targets.flatten()[part], weights.flatten()[part]
        loss = F.cross_entropy(logits, target, reduction="none")
        hit = (logits.argmax(-1) == target).float()
        sums += torch.stack([(loss * weight).sum(), weight.sum(), ((-loss).exp() * weight).sum(), (hit * weight).sum()])
    return sums
