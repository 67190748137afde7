"""What an operation's `cases.py` contains: small inputs to compare on, and full-size workloads to compile and count."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sala_kernels.backend import Backend
from sala_kernels.positions import Position


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Random inputs on which the Triton kernels must agree with the reference.

    Attributes:
        name: of the comparison.
        run: computes the operation with a backend on a device, on inputs that a fixed seed determines. Returns every
            tensor that the operation returns or changes.
        limit: largest relative root-mean-square error in float32 that passes.
    """

    name: str
    run: Callable[[Backend, torch.device], Sequence[Tensor]]
    limit: float = 1e-5

    def error(self, device: torch.device) -> float:
        """The largest relative RMS error over the outputs; infinite if shapes, dtypes, NaNs or integers differ."""
        found, expected = self.run("triton", device), self.run("reference", device)
        assert len(found) == len(expected)
        return max((relative_error(f, e) for f, e in zip(found, expected, strict=True)), default=0.0)


@dataclass(frozen=True, kw_only=True)
class Workload:
    """One call of an operation at the released model's shapes.

    Attributes:
        name: for example "prefill 8,192 at 1M" or "decode at 64K".
        prepare: allocates inputs on a device and returns the call to time. On the meta device, launches are recorded.
        num_bytes: bytes that the call must read and write at least.
        num_flops: multiplications plus additions.
    """

    name: str
    prepare: Callable[[torch.device], Callable[[], object]]
    num_bytes: int
    num_flops: int


def at_position(position: int, device: torch.device, *, known: bool) -> Position:
    """The position as a number if the host is to know it (`known`), else as a tensor on the device."""
    return position if known else torch.full((1,), position, dtype=torch.int64, device=device)


def relative_error(found: Tensor, expected: Tensor) -> float:
    """RMS of the difference divided by RMS of `expected`, in float64; 0 or infinity for integers and booleans."""
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
