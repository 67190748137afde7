"""Kernel launches. All of them go through `launch`, so that they can be recorded instead of run."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Launch:
    """A recorded launch: the kernel, its grid, and every argument by name."""

    kernel: Any  # triton.JITFunction
    grid: tuple[int, ...]
    arguments: dict[str, Any]
    num_warps: int
    num_stages: int


@dataclass(frozen=True, kw_only=True)
class _Recording:
    capability: int
    launches: list[Launch]


_recording: ContextVar[_Recording | None] = ContextVar("recording", default=None)
_interpreted_card: ContextVar[int] = ContextVar("interpreted_card", default=80)


def launch(kernel: Any, grid: Sequence[int], *, num_warps: int = 4, num_stages: int = 2, **arguments: Any) -> None:
    """Run a kernel, or record the launch within `recorded`. An empty grid runs nothing.

    Args:
        kernel: a function under `@triton.jit`.
        grid: programs along each of up to three axes.
        num_warps: warps of a program.
        num_stages: depth of the compiler's software pipeline.
        arguments: the kernel's arguments by name. A tensor may be None.
    """
    recording = _recording.get()
    if recording is not None:
        recording.launches.append(
            Launch(kernel=kernel, grid=tuple(grid), arguments=arguments, num_warps=num_warps, num_stages=num_stages)
        )
    elif 0 not in grid:
        kernel[tuple(grid)](**arguments, num_warps=num_warps, num_stages=num_stages)


def capability(tensor: Tensor) -> int:
    """Compute capability of the tensor's GPU as 10 * major + minor. Tile sizes depend on it."""
    recording = _recording.get()
    if recording is not None:
        return recording.capability
    if tensor.device.type != "cuda":
        return _interpreted_card.get()
    major, minor = torch.cuda.get_device_capability(tensor.device)
    return 10 * major + minor


@contextmanager
def recorded(card_capability: int) -> Iterator[list[Launch]]:
    """Record launches as for a GPU of compute capability `card_capability` instead of running them. Yields the list."""
    launches: list[Launch] = []
    token = _recording.set(_Recording(capability=card_capability, launches=launches))
    try:
        yield launches
    finally:
        _recording.reset(token)


@contextmanager
def as_card(card_capability: int) -> Iterator[None]:
    """Let kernels in Triton's interpreter be launched as on a GPU of compute capability `card_capability`.

    Outside, they are launched as on 80. A CUDA tensor keeps the capability of its own GPU.
    """
    token = _interpreted_card.set(card_capability)
    try:
        yield
    finally:
        _interpreted_card.reset(token)
