"""Muon for the matrices and Adam for the rest, or AdamW for all, with learning rates by muP; state by names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import cos, pi
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from sala_core.errors import TrainError
from sala_core.train.network.network import is_inner_matrix
from sala_core.train.recipe import Phase, Training


class Optimizers:
    """Updates named parameters; the rate is given at every step."""

    def __init__(self, named: Iterable[tuple[str, nn.Parameter]], training: Training, width_factor: float) -> None:
        """width_factor: hidden size / dim_model_base, which Adam's rate of inner matrices is divided by (muP)."""
        self._named = dict(named)
        inner = [p for name, p in self._named.items() if is_inner_matrix(name, p)]
        outer = [p for name, p in self._named.items() if not is_inner_matrix(name, p)]
        adam: list[dict[str, Any]] = [{"params": outer, "weight_decay": 0.0, "factor": 1.0}]
        self._optimizers: list[torch.optim.Optimizer] = []
        if training.optimizer == "muon" and inner:
            matrices = [{"params": inner, "factor": training.muon_ratio}]
            self._optimizers.append(torch.optim.Muon(matrices, weight_decay=training.weight_decay))
        elif inner:
            adam.append({"params": inner, "weight_decay": training.weight_decay, "factor": 1 / width_factor})
        adam = [group for group in adam if group["params"]]
        if adam:
            self._optimizers.append(torch.optim.AdamW(adam, betas=training.betas))

    def step(self, rate: float) -> None:
        """Apply the gradients, then drop them."""
        for optimizer in self._optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate * group["factor"]
            optimizer.step()
            optimizer.zero_grad()

    def state(self) -> dict[str, Tensor]:
        """What the optimizers remember, as `parameter/part`, whole, on the CPU. Every process must call it."""
        states = {p: part for optimizer in self._optimizers for p, part in optimizer.state.items()}
        return {
            f"{name}/{key}": gather(value)
            for name, parameter in self._named.items()
            for key, value in sorted(states.get(parameter, {}).items())
        }

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Remember what `state` returned. Raises TrainError where it was of other parameters."""
        owner = {p: o for o in self._optimizers for group in o.param_groups for p in group["params"]}
        for name, value in tensors.items():
            parameter_name, key = name.rsplit("/", 1)
            parameter = self._named.get(parameter_name)
            if parameter is None:
                raise TrainError(f"the checkpoint's optimizer knows {parameter_name}, which is not trained here")
            fitted = shard_like(value, parameter) if value.shape == parameter.shape else value
            owner[parameter].state[parameter][key] = fitted


def gather(tensor: Tensor) -> Tensor:
    """A copy of a tensor on the CPU, put together from all processes where it is sharded."""
    tensor = tensor.detach()
    return (tensor.full_tensor() if isinstance(tensor, DTensor) else tensor).cpu().clone()


def shard_like(tensor: Tensor, like: Tensor) -> Tensor:
    """A tensor on the device of `like`, and sharded as it is."""
    if isinstance(like, DTensor):
        return distribute_tensor(tensor.to(like.device), like.device_mesh, like.placements)
    return tensor.to(like.device)


def rate_at(phase: Phase, step: int) -> float:
    """The learning rate of a phase's step, from 0."""
    first = phase.learning_rate
    last = first if phase.final_learning_rate is None else phase.final_learning_rate
    if step < phase.warmup_steps:
        return first * (step + 1) / (phase.warmup_steps + 1)
    share = (step - phase.warmup_steps) / max(1, phase.steps - 1 - phase.warmup_steps)
    match phase.schedule:
        case "linear":
            return first + (last - first) * share
        case "cosine":
            return last + (first - last) * (1 + cos(pi * share)) / 2
        case "exponential":
            return float(first * (last / first) ** share)
    return first
