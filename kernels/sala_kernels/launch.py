"""Every kernel launch of this package goes through here, so that launches can be recorded instead of run."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

_INTERPRETER_CAPABILITY = 80


@dataclass(frozen=True, kw_only=True)
class Launch:
    """One launch that was recorded: the kernel, its grid, and every argument by name."""

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


def launch(kernel: Any, grid: Sequence[int], *, num_warps: int = 4, num_stages: int = 2, **arguments: Any) -> None:
    """Run `kernel` over `grid`, its arguments by name; nothing where the grid is empty. Tensors may be None."""
    recording = _recording.get()
    if recording is not None:
        recording.launches.append(
            Launch(kernel=kernel, grid=tuple(grid), arguments=arguments, num_warps=num_warps, num_stages=num_stages)
        )
    elif 0 not in grid:
        kernel[tuple(grid)](**arguments, num_warps=num_warps, num_stages=num_stages)


def capability(tensor: Tensor) -> int:
    """Compute capability of the tensor's card, 10 major + minor: what tile sizes are chosen by."""
    recording = _recording.get()
    if recording is not None:
        return recording.capability
    if tensor.device.type != "cuda":
        return _INTERPRETER_CAPABILITY
    major, minor = torch.cuda.get_device_capability(tensor.device)
    return 10 * major + minor


@contextmanager
def recorded(card_capability: int) -> Iterator[list[Launch]]:
    """Within, launches are added to the list that is yielded, as for a card of that capability, and do not run."""
    launches: list[Launch] = []
    token = _recording.set(_Recording(capability=card_capability, launches=launches))
    try:
        yield launches
    finally:
        _recording.reset(token)
