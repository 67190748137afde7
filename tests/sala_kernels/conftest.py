"""What the tests of all operations share: one thread, and the layouts of blocks that they try."""

from collections.abc import Iterator

import pytest
import torch
from sala_kernels import BlockLayout


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Tensors here are small: a second thread costs more than it gives."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


LAYOUTS = {
    "released model's strides": BlockLayout(stride=16, block=64, init=1, local=2, slots=2),
    "stride 8": BlockLayout(stride=8, block=16, init=1, local=3, slots=2),
    "stride 4, two first blocks": BlockLayout(stride=4, block=16, init=2, local=1, slots=3),
    "one window a block, no first block": BlockLayout(stride=4, block=4, init=0, local=2, slots=4),
    "one window a block, its own alone local": BlockLayout(stride=8, block=8, init=0, local=1, slots=3),
    "no slots": BlockLayout(stride=4, block=8, init=1, local=2, slots=0),
}


@pytest.fixture(params=list(LAYOUTS.values()), ids=list(LAYOUTS))
def layout(request: pytest.FixtureRequest) -> BlockLayout:
    """Each layout in turn."""
    return request.param
