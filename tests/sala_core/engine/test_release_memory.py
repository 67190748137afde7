"""What kept a process growing: lists of compiled matrix products without a bound, and freed memory that was held."""

import ctypes
import os
import subprocess
import sys

import psutil
import pytest

from sala_core.engine.release_memory import release_memory

GLIBC = hasattr(ctypes.CDLL(None), "malloc_trim") if os.name == "posix" else False
_GROWTH = """
import sala_core, psutil, torch
from sala_core.engine.release_memory import release_memory
torch.set_num_threads(1)
weight, sizes = torch.randn(512, 256).bfloat16(), []
for n in range(2, 402):
    torch.nn.functional.linear(torch.randn(n, 256).bfloat16(), weight)
    if n in (201, 401):
        release_memory()
        sizes.append(psutil.Process().memory_info().rss)
print((sizes[1] - sizes[0]) / 200)
"""


def test_the_lists_of_compiled_products_are_bounded_before_torch_loads():
    code = "import sala_core, os, sys; print('torch' in sys.modules, *(os.environ[name] for name in sys.argv[1:]))"
    names = ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY")
    environment = {name: value for name, value in os.environ.items() if name not in names}
    found = subprocess.run(
        [sys.executable, "-c", code, *names], env=environment, capture_output=True, text=True, check=True
    )
    assert found.stdout.split() == ["False", "64", "64"]


@pytest.mark.skipif(sys.platform != "linux", reason="resident memory of other systems counts otherwise")
def test_products_of_ever_new_shapes_leave_little_behind():
    """Without the bound each shape leaves some 600 KB of compiled code where oneDNN computes bfloat16."""
    found = subprocess.run([sys.executable, "-c", _GROWTH], capture_output=True, text=True, check=True)
    assert float(found.stdout) < 100_000


@pytest.mark.skipif(not GLIBC, reason="only glibc holds freed memory, and returns it when asked")
def test_freed_memory_goes_back_to_the_system():
    blocks = [bytes(60_000) for _ in range(1000)]
    kept = blocks[::100]
    full = psutil.Process().memory_info().rss
    del blocks
    assert release_memory()
    assert psutil.Process().memory_info().rss < full - 30_000_000
    assert len(kept) == 10
