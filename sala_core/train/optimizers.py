"""Muon for the matrices of layers and AdamW for the rest, or AdamW for all. Learning rates follow muP."""

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
    """The optimizers of all trained parameters. Each step gets its learning rate."""

    def __init__(self, named: Iterable[tuple[str, nn.Parameter]], training: Training, width_factor: float) -> None:
        """width_factor: hidden size / dim_model_base. AdamW's rate for matrices of layers is divided by it (muP)."""
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
        """Update the parameters in place and clear the gradients. rate: the phase's learning rate."""
        for optimizer in self._optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate * group["factor"]
            optimizer.step()
            optimizer.zero_grad()

    def state(self) -> dict[str, Tensor]:
        """Return the optimizer states, gathered on the CPU, by `PARAMETER/KEY`. All processes must call it together."""
        states = {p: state for optimizer in self._optimizers for p, state in optimizer.state.items()}
        return {
            f"{name}/{key}": gather(value)
            for name, parameter in self._named.items()
            for key, value in sorted(states.get(parameter, {}).items())
        }

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore the states that `state` returned. Raises TrainError for a parameter that is not trained here."""
        owner = {p: o for o in self._optimizers for group in o.param_groups for p in group["params"]}
        for name, value in tensors.items():
            parameter_name, key = name.rsplit("/", 1)
            parameter = self._named.get(parameter_name)
            if parameter is None:
                raise TrainError(f"the checkpoint has optimizer states of {parameter_name}, which is not trained")
            is_sharded = value.shape == parameter.shape
            owner[parameter].state[parameter][key] = shard_like(value, parameter) if is_sharded else value


def gather(tensor: Tensor) -> Tensor:
    """Return a copy on the CPU. A sharded tensor is gathered from all processes."""
    tensor = tensor.detach()
    return (tensor.full_tensor() if isinstance(tensor, DTensor) else tensor).cpu().clone()


def shard_like(tensor: Tensor, like: Tensor) -> Tensor:
    """Return `tensor` on the device and with the sharding of `like`."""
    if isinstance(like, DTensor):
        return distribute_tensor(tensor.to(like.device), like.device_mesh, like.placements)
    return tensor.to(like.device)


def rate_at(phase: Phase, step: int) -> float:
    """Return the learning rate of step `step` (from 0) of a phase."""
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
