"""What every operation's `cases.py` says of it: small inputs to compare on, and full-size work to compile and count."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sala_kernels.backend import Backend
from sala_kernels.positions import Position


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Random inputs on which the Triton kernels must agree with the reference.

    run: computes the operation on fixed inputs (made anew from a fixed seed at each call) on the given backend and
    device; returns every tensor that the operation makes or changes.
    limit: largest root-mean-square error relative to the reference that passes, in float32.
    """

    name: str
    run: Callable[[Backend, torch.device], Sequence[Tensor]]
    limit: float = 1e-5

    def error(self, device: torch.device) -> float:
        """The largest relative RMS error over the outputs; infinite where shapes, dtypes, NaNs or integers differ."""
        found, expected = self.run("triton", device), self.run("reference", device)
        assert len(found) == len(expected)
        return max((relative_error(f, e) for f, e in zip(found, expected, strict=True)), default=0.0)


@dataclass(frozen=True, kw_only=True)
class Workload:
    """One operation at the released model's shapes.

    prepare: allocates inputs on a device and returns the call to time; on the meta device the call records launches.
    num_bytes: what must be read and written at least; num_flops: multiplications and additions counted apart.
    """

    name: str  # "prefill 8,192 at 1M", "decode at 64K"
    prepare: Callable[[torch.device], Callable[[], object]]
    num_bytes: int
    num_flops: int


def at_position(position: int, device: torch.device, *, known: bool) -> Position:
    """A position as the host knows it, or as a tensor that only the device knows."""
    return position if known else torch.full((1,), position, dtype=torch.int64, device=device)


def relative_error(found: Tensor, expected: Tensor) -> float:
    """RMS of the difference over RMS of `expected`, in float64; 0 or infinity for integers and booleans."""
    if found.shape != expected.shape or found.dtype != expected.dtype:
        return float("inf")
    if not expected.is_floating_point():
        return 0.0 if torch.equal(found, expected) else float("inf")
    found, expected = found.double(), expected.double()
    finite = expected.isfinite()
    if not torch.equal(found.isfinite(), finite) or not torch.equal(found[~finite], expected[~finite]):
        return float("inf")
    difference = (found - expected)[finite].square().sum().sqrt()
    size = expected[finite].square().sum().sqrt()
    return float(difference / size) if size > 0 else float(difference)
