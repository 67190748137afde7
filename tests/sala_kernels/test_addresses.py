"""The check of addresses: it finds each kind of access outside a launch's tensors, and says where it is."""

import pytest
import torch

pytest.importorskip("triton")

import triton
import triton.language as tl
from sala_kernels.inspection.addresses import StrayAccess, checked_addresses
from sala_kernels.launch import launch
from sala_kernels.positions.kernels import load_scalar

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="addresses are checked in the interpreter alone")


@triton.jit
def _copy(x, out, start, n, SIZE: tl.constexpr):
    """Copy x[start : n] to out, with SIZE lanes."""
    at = start + tl.arange(0, SIZE)
    tl.store(out + at, tl.load(x + at, at < n, other=7.0), at < n)


@triton.jit
def _load_all(x, SIZE: tl.constexpr):
    return tl.load(x + tl.arange(0, SIZE))


@triton.jit
def _copy_unmasked_load(x, out, n, SIZE: tl.constexpr):
    at = tl.arange(0, SIZE)
    tl.store(out + at, _load_all(x, SIZE), at < n)


@triton.jit
def _count(x, n, SIZE: tl.constexpr):
    at = tl.arange(0, SIZE)
    tl.atomic_add(x + at, 1.0, at < n)


@triton.jit
def _swap(x, at):
    tl.atomic_cas(x + at, 0, 1)


@triton.jit
def _read_scalar(x, out):
    tl.store(out, load_scalar(x))


def strays(kernel, **arguments) -> list[StrayAccess]:
    """What a check finds in a launch of one program."""
    with checked_addresses() as check:
        launch(kernel, (1,), **arguments)
    assert check.num_launches == 1
    assert check.num_accesses > 0
    return check.strays


def test_accesses_within_the_tensors_are_counted_and_allowed():
    x, out = torch.arange(8.0), torch.zeros(8)
    with checked_addresses() as check:
        launch(_copy, (1,), x=x, out=out, start=3, n=8, SIZE=16)
    assert check.strays == []
    assert check.num_accesses == 2 * 5
    assert out.tolist() == [0, 0, 0, 3, 4, 5, 6, 7]


def test_a_load_that_lacks_a_mask_is_found_with_its_line_and_distance():
    memory = torch.full((64,), 5.0)
    x, out = memory[:10], torch.zeros(32)
    (found,) = strays(_copy_unmasked_load, x=x, out=out, n=10, SIZE=32)
    assert (found.kernel, found.access, found.argument) == ("_copy_unmasked_load", "load", "x")
    assert found.code == "return tl.load(x + tl.arange(0, SIZE))"
    assert found.file == __file__
    assert (found.num_accesses, found.num_bytes, found.in_storage) == (22, 22 * 4, True)
    assert "load accesses inside a storage, outside its view, up to 88 bytes from x" in str(found)
    assert f"test_addresses.py:{found.line}: return" in str(found)


def test_accesses_outside_every_tensor_are_found_and_do_not_touch_memory():
    x, out = torch.ones(16), torch.zeros(16)
    load, store = strays(_copy, x=x, out=out, start=-3, n=8, SIZE=16)
    assert (load.access, load.argument, load.num_bytes, load.num_accesses) == ("load", "x", 12, 3)
    assert (store.access, store.argument, store.num_bytes, store.num_accesses) == ("store", "out", 12, 3)
    assert not load.in_storage
    assert not store.in_storage
    assert out.tolist() == [1] * 8 + [0] * 8


def test_atomic_operations_are_checked():
    (found,) = strays(_count, x=torch.zeros(6), n=7, SIZE=8)
    assert (found.access, found.num_bytes, found.num_accesses) == ("atomic", 4, 1)
    (found,) = strays(_swap, x=torch.zeros(1, dtype=torch.int32), at=2)
    assert (found.access, found.num_bytes) == ("atomic", 8)


def test_the_gaps_of_a_view_do_not_belong_to_it():
    rows = torch.zeros(2, 100)[:, :10]
    (found,) = strays(_copy_unmasked_load, x=rows, out=torch.zeros(16), n=10, SIZE=16)
    assert (found.num_accesses, found.num_bytes, found.in_storage) == (6, 0, True)
    assert "in a gap of x" in str(found)
    transposed = torch.zeros(4, 4).T
    assert strays(_copy_unmasked_load, x=transposed, out=torch.zeros(16), n=16, SIZE=16) == []


def test_one_line_is_reported_once_for_all_its_launches():
    with checked_addresses() as check:
        for size in (16, 64, 32):
            launch(_copy_unmasked_load, (2,), x=torch.zeros(10), out=torch.zeros(10), n=10, SIZE=size)
    (found,) = check.strays
    assert found.num_accesses == 2 * (6 + 54 + 22)
    assert found.num_bytes == 54 * 4


def test_scalars_behind_a_pointer_are_checked():
    (found,) = strays(_read_scalar, x=torch.zeros(4, dtype=torch.int64)[4:], out=torch.zeros(1, dtype=torch.int32))
    assert (found.kernel, found.code) == ("_read_scalar", "return tl.load(x).to(tl.int32)")
