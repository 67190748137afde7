"""Fixtures for the tests of all operations: the device, one thread, uninitialized memory, and block layouts."""

import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # before Triton is imported: it decides when a kernel is defined

from sala_kernels import BlockLayout, has_triton
from sala_kernels.inspection.addresses import checked_addresses


@pytest.fixture(scope="session")
def device() -> torch.device:
    """Where the Triton kernels run: on the GPU, or on the CPU in Triton's interpreter."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@pytest.fixture
def poisoned() -> Iterator[None]:
    """Fill memory that torch allocates uninitialized with NaN, so that what a kernel fails to write is detected."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = True
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture(autouse=True)
def kernels_stay_within_their_arguments(device: torch.device) -> Iterator[None]:
    """Fail every test whose kernels access memory outside their tensors. Only the interpreter can tell."""
    if device.type != "cpu" or not has_triton():
        yield
        return
    with checked_addresses() as check:
        yield
    assert [str(stray) for stray in check.strays] == []


@pytest.fixture
def products_by_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the bits of a row of `tl.dot` independent of the other rows, as they are on a GPU.

    The interpreter multiplies by the installed BLAS. The order in which it sums a row depends on the number of rows and
    on the row's place among them. Sums in float64, rounded once, hide that.
    """
    if torch.cuda.is_available():
        return
    from triton.runtime.interpreter import InterpreterBuilder, TensorHandle

    def dot(_: Any, a: Any, b: Any, d: Any, *__: Any) -> Any:
        product = np.matmul(a.data, b.data, dtype=np.float64) + d.data
        return TensorHandle(product.astype(d.data.dtype), d.dtype.scalar)

    monkeypatch.setattr(InterpreterBuilder, "create_dot", dot)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Use one thread: for tensors this small, a second thread costs more time than it saves."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


LAYOUTS = {
    "released model's strides": BlockLayout(stride=16, block=64, init=1, local=2, slots=2),
    "stride 8": BlockLayout(stride=8, block=16, init=1, local=3, slots=2),
    "stride 4, two initial blocks": BlockLayout(stride=4, block=16, init=2, local=1, slots=3),
    "one window a block, no initial block": BlockLayout(stride=4, block=4, init=0, local=2, slots=4),
    "one window a block, one local block": BlockLayout(stride=8, block=8, init=0, local=1, slots=3),
    "no slots": BlockLayout(stride=4, block=8, init=1, local=2, slots=0),
}


@pytest.fixture(params=list(LAYOUTS.values()), ids=list(LAYOUTS))
def layout(request: pytest.FixtureRequest) -> BlockLayout:
    """Each layout in turn."""
    return request.param
