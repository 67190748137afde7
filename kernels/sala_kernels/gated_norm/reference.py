"""The definition of `sala_kernels.gated_norm` in PyTorch."""

import torch
from torch import Tensor

from sala_kernels.rms_norm.reference import rms_norm


def gated_norm(o: Tensor, gate: Tensor, weight: Tensor | None, *, eps: float) -> Tensor:
    """The definition of `sala_kernels.gated_norm.gated_norm`.

    Args:
        o, gate, weight, eps: as there.
    """
    o = o.reshape(gate.shape)
    if weight is not None:
        o = rms_norm(o, weight, eps)
    return torch.sigmoid(gate).mul_(o)
