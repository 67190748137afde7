"""The definition of `sala_kernels.swiglu` in PyTorch."""

from torch import Tensor
from torch.nn.functional import silu


def swiglu(gate: Tensor, up: Tensor) -> Tensor:
    """The definition of `sala_kernels.swiglu.swiglu`."""
    return silu(gate).mul_(up)
