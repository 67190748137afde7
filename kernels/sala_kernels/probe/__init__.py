"""A kernel that adds numbers: whether Triton can compile, load and launch code here at all."""

import torch
from torch import Tensor

__all__ = ["probe"]

_COUNT = 100  # not a multiple of the kernel's block: its mask is tested too


def probe(device: torch.device) -> Tensor:
    """Launch the kernel on `device`. Returns [100] float32, which are 0, 2, 4, ... 198 if Triton works.

    The first launch of a process makes Triton compile and load a module in C, for which it needs a C compiler and
    `Python.h` unless its cache has the module. Raises RuntimeError for Triton's own errors, and what its build raises.
    """
    from triton.errors import TritonError

    from sala_kernels.probe import kernels

    try:
        return kernels.double(torch.arange(_COUNT, dtype=torch.float32, device=device))
    except TritonError as error:
        raise RuntimeError(str(error)) from error
