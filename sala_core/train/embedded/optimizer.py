"""Muon for the matrices (Jordan 2024: orthogonalised momentum), Adam for embedding and norms."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


def orthogonalise(update: Tensor, steps: int = 5) -> Tensor:
    """Newton-Schulz iteration towards the nearest orthogonal matrix; update: [N, rows, columns]."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = update.bfloat16()
    wide = x.shape[-2] > x.shape[-1]
    if wide:
        x = x.mT
    x = x / (x.flatten(1).norm(dim=1)[:, None, None] + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.mT if wide else x).float()


class Optimizer:
    """Two rules under one learning-rate factor.

    Matrices of one shape are stacked, so that each step runs few large products instead of many small ones.
    """

    def __init__(self, network: nn.Module, *, matrix_lr: float, adam_lr: float, weight_decay: float) -> None:
        self.matrix_lr, self.adam_lr, self.weight_decay = matrix_lr, adam_lr, weight_decay
        self.groups: dict[tuple[int, ...], list[nn.Parameter]] = {}
        self.others: list[nn.Parameter] = []
        for name, parameter in network.named_parameters():
            if parameter.ndim == 2 and "embed_tokens" not in name:
                self.groups.setdefault(tuple(parameter.shape), []).append(parameter)
            else:
                self.others.append(parameter)
        self.momentum = [torch.zeros(len(group), *shape) for shape, group in self.groups.items()]
        self.first = [torch.zeros_like(parameter) for parameter in self.others]
        self.second = [torch.zeros_like(parameter) for parameter in self.others]
        self.steps = 0

    @torch.no_grad()
    def step(self, factor: float) -> None:
        """Apply the gradients with both learning rates times `factor`, then clear them."""
        self.steps += 1
        for momentum, group in zip(self.momentum, self.groups.values(), strict=True):
            gradient = torch.stack([_gradient(parameter) for parameter in group])
            momentum.lerp_(gradient, 0.05)
            update = orthogonalise(gradient.lerp(momentum, 0.95))
            rows, columns = update.shape[1:]
            rate = self.matrix_lr * factor
            update = update * max(1.0, rows / columns) ** 0.5
            for parameter, change in zip(group, update, strict=True):
                parameter.mul_(1 - rate * self.weight_decay).add_(change, alpha=-rate)
        for parameter, first, second in zip(self.others, self.first, self.second, strict=True):
            gradient = _gradient(parameter)
            first.lerp_(gradient, 0.1)
            second.lerp_(gradient.square(), 0.02)
            mean = first / (1 - 0.9**self.steps)
            scale = (second / (1 - 0.98**self.steps)).sqrt_().add_(1e-9)
            parameter.addcdiv_(mean, scale, value=-self.adam_lr * factor)
        for parameter in [*self.others, *(p for group in self.groups.values() for p in group)]:
            parameter.grad = None

    def state_dict(self) -> dict[str, Any]:
        return {"momentum": self.momentum, "first": self.first, "second": self.second, "steps": self.steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue exactly; the network must have the shapes it had when the state was taken."""
        for own, saved in (
            (self.momentum, state["momentum"]),
            (self.first, state["first"]),
            (self.second, state["second"]),
        ):
            for target, source in zip(own, saved, strict=True):
                target.copy_(source)
        self.steps = int(state["steps"])


def _gradient(parameter: nn.Parameter) -> Tensor:
    assert parameter.grad is not None
    return parameter.grad
