"""What an operation's `cases.py` contains: small inputs to compare on, and full-size workloads to compile and count.

If some of its kernels have to multiply on tensor cores in bfloat16, it also names them: `TENSOR_CORE_KERNELS`, a
frozenset of functions' names.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sala_kernels.positions import Position

ONE_BF16_ROUNDING = 2.5e-3
"""Limit of results that are rounded to bfloat16 once. A rounding is off by at most 2^-8, by 1.7e-3 in the RMS."""

BF16_LIMIT = 5e-3
"""Limit of the relative RMS error in bfloat16. Up to five independent roundings stay below it (1.7e-3 times the root of
their number): operands of a second product, normalized numbers before their weight, results."""


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """How a comparison gives its random numbers to an operation.

    Attributes:
        dtype: to which activations, weights, keys and values are rounded.
        exact: give all numbers in float64, those that are rounded to `dtype` too. The reference then computes in
            float64.
    """

    dtype: torch.dtype = torch.float32
    exact: bool = False

    @property
    def row_dtype(self) -> torch.dtype:
        """The dtype in which rows are given."""
        return torch.float64 if self.exact else self.dtype

    def rows(self, x: Tensor) -> Tensor:
        """Activations, weights, keys or values: x of any float dtype, rounded to `dtype`."""
        return x.to(self.dtype).to(self.row_dtype)

    def wide(self, x: Tensor) -> Tensor:
        """An argument that stays float32 whatever the dtype of rows: a state, decays, angles."""
        return x.double() if self.exact else x


FLOAT32 = Numbers()


Run = Callable[..., Sequence[Tensor]]


def in_float16(run: Run) -> Run:
    """`run` of a `Comparison`, always in float16."""
    return lambda backend, device: run(backend, device, Numbers(dtype=torch.float16))


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Random inputs on which the Triton kernels must agree with the reference.

    Attributes:
        name: of the comparison.
        run: computes the operation with a backend on a device, on inputs that a fixed seed determines, given as the
            third argument says (default: in float32). Returns every tensor that the operation returns or changes.
        limit: largest relative root-mean-square error in float32 that passes.
        bf16_limit: the same in bfloat16, against the reference in float64; None if there is no bfloat16 to compare.
    """

    name: str
    run: Run
    limit: float = 1e-5
    bf16_limit: float | None = BF16_LIMIT

    def error(self, device: torch.device, dtype: torch.dtype = torch.float32) -> float:
        """The largest relative RMS error over the outputs; infinite if shapes, dtypes, NaNs or integers differ.

        In float32 the reference computes in float32 too. In another dtype it computes in float64 from the same numbers,
        and each output of the kernels has this dtype or float32.
        """
        if dtype == torch.float32:
            found, expected = self.run("triton", device), self.run("reference", device)
        else:
            found = self.run("triton", device, Numbers(dtype=dtype))
            expected = self.run("reference", device, Numbers(dtype=dtype, exact=True))
            found = [x.double() if x.dtype in (dtype, torch.float32) else x for x in found]
            expected = [x.double() if x.is_floating_point() else x for x in expected]
        assert len(found) == len(expected)
        return max((relative_error(f, e) for f, e in zip(found, expected, strict=True)), default=0.0)

    def limit_in(self, dtype: torch.dtype) -> float | None:
        """The largest error that passes in a dtype, or None if the comparison has no such dtype."""
        return self.limit if dtype == torch.float32 else self.bf16_limit


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
