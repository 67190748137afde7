"""Which implementation computes an operation: the PyTorch reference or the Triton kernels."""

import functools
import importlib.util
import os
from typing import Literal

import torch
from torch import Tensor

Backend = Literal["auto", "reference", "triton"]

KERNELS_VARIABLE = "SALA_KERNELS"
"""Environment variable. "reference": "auto" never selects Triton. Unset or "auto": as `use_triton` says."""


def use_triton(backend: Backend, *tensors: Tensor | None) -> bool:
    """Whether the Triton kernels compute an operation on these tensors.

    "auto" selects Triton for CUDA tensors. It selects the reference for CPU tensors, for float64, on platforms without
    Triton, where `KERNELS_VARIABLE` asks for it, and where a gradient is needed: the kernels have no backward pass.
    "triton" always selects Triton. It raises ValueError for float64, which no kernel computes, and for CPU tensors
    outside Triton's interpreter. The meta device counts as CUDA: launches there are recorded, and nothing is computed.
    """
    given = [x for x in tensors if x is not None]
    if backend == "reference":
        return False
    if backend not in ("auto", "triton"):
        raise ValueError(f"unknown backend {backend!r}; choose auto, reference or triton")
    double = any(x.dtype == torch.float64 for x in given)
    on_gpu = all(x.device.type in ("cuda", "meta") for x in given)
    if backend == "auto":
        wants_gradient = torch.is_grad_enabled() and any(x.requires_grad for x in given)
        return on_gpu and not double and not wants_gradient and has_triton() and not _reference_wanted()
    if double:
        raise ValueError("the Triton kernels do not compute float64; use backend='reference'")
    if not has_triton():
        raise ValueError("Triton is not installed (Linux: the extra sala-desktop[triton]); use backend='reference'")
    if not on_gpu and not interpreted():
        raise ValueError("the Triton kernels need CUDA tensors, or TRITON_INTERPRET=1 set before the program starts")
    return True


def auto_selects_triton(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether "auto" selects Triton for tensors of this dtype on this device, where no gradient is needed.

    Only then are 4-bit matrices multiplied as they are stored, and can a CUDA graph capture the operations: the
    reference implementations read positions on the host.
    """
    return device.type == "cuda" and dtype != torch.float64 and has_triton() and not _reference_wanted()


def _reference_wanted() -> bool:
    return os.environ.get(KERNELS_VARIABLE) == "reference"


@functools.cache
def has_triton() -> bool:
    """Whether Triton can be imported. PyPI has no Triton for macOS and Windows."""
    return importlib.util.find_spec("triton") is not None


def interpreted() -> bool:
    """Whether kernels run in Triton's interpreter, on CPU tensors. It is slow and serves tests."""
    return os.environ.get("TRITON_INTERPRET", "0") == "1"
