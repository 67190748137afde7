"""The emulation of bfloat16 in Triton's interpreter, against torch's bfloat16 and plain arithmetic."""

import numpy as np
import pytest
import torch
import triton
import triton.language as tl
from sala_kernels.inspection.bf16_interpreter import emulated_bf16, rounded, widened
from torch import Tensor
from triton.runtime.interpreter import InterpreterBuilder, ReduceScanOpInterface

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="kernels run on the GPU, not in the interpreter")


@triton.jit
def _casts(wide, narrow, back, half, integer, N: tl.constexpr):
    at = tl.arange(0, N)
    x = tl.load(wide + at)
    y = x.to(tl.bfloat16)
    tl.store(narrow + at, y)
    tl.store(back + at, y.to(tl.float32))
    tl.store(half + at, y.to(tl.float16))
    tl.store(integer + at, tl.where(tl.abs(y.to(tl.float32)) < 1e9, y, 0.0).to(tl.int32))


@triton.jit
def _arithmetic(a, b, out, N: tl.constexpr):
    at = tl.arange(0, N)
    x, y = tl.load(a + at), tl.load(b + at)
    tl.store(out + at, x + y)
    tl.store(out + N + at, x - y)
    tl.store(out + 2 * N + at, x * y)
    tl.store(out + 3 * N + at, x * 3.0)
    tl.store(out + 4 * N + at, -x)
    tl.store(out + 5 * N + at, tl.where(x < y, x, y))
    tl.store(out + 6 * N + at, tl.maximum(x, y))
    tl.store(out + 7 * N + at, tl.minimum(x, y, propagate_nan=tl.PropagateNan.ALL))
    tl.store(out + 8 * N + at, tl.fma(x, y, x))
    tl.store(out + 9 * N + at, tl.full([N], 1.00390625, tl.bfloat16))  # 1 + 2^-8: a tie, to even


@triton.jit
def _product(a, b, out, M: tl.constexpr, N: tl.constexpr, K: tl.constexpr):
    row, column, inner = tl.arange(0, M), tl.arange(0, N), tl.arange(0, K)
    x = tl.load(a + row[:, None] * K + inner[None, :])
    y = tl.load(b + column[:, None] * K + inner[None, :])
    tl.store(out + row[:, None] * N + column[None, :], tl.dot(x, tl.trans(y)))


@triton.jit
def _sum(a, out, N: tl.constexpr):
    tl.store(out, tl.sum(tl.load(a + tl.arange(0, N)), 0))


@triton.jit
def _add_atomically(a, N: tl.constexpr):
    tl.atomic_add(a + tl.arange(0, N), tl.load(a + tl.arange(0, N)))


def random_bits(count: int) -> Tensor:
    """Random bit patterns of float32: all exponents, infinities, NaN and subnormal numbers among them."""
    bits = torch.randint(-(2**31), 2**31, (count,), generator=torch.Generator().manual_seed(0)).to(torch.int32)
    special = [0, 1, 0x7FFF, 0x8000, 0x8001, 0x7F7FFFFF, 0x7F800000, 0x7F800001, 0x7FC00000, 0x007FFFFF, 0x00800000]
    special += [0x3F808000, 0x3F818000, 0x3F808001, 0x3F807FFF]  # ties at 1 + 2^-8 and 1 + 3 * 2^-8, and beside one
    bits[: len(special)] = torch.tensor(special, dtype=torch.int32)
    bits[len(special) : 2 * len(special)] = bits[: len(special)] | -(2**31)
    return bits.view(torch.float32)


def same(found: Tensor, expected: Tensor) -> bool:
    """Whether all bits are equal, except those of NaN."""
    nan = expected.isnan()
    integers = {2: torch.int16, 4: torch.int32}[expected.element_size()]
    found_bits, expected_bits = found.view(integers)[~nan], expected.view(integers)[~nan]
    return bool(torch.equal(found.isnan(), nan) and torch.equal(found_bits, expected_bits))


def test_rounding_is_that_of_torch_for_all_kinds_of_numbers():
    wide = random_bits(1 << 20)
    found = torch.from_numpy(rounded(wide.numpy()).view(np.int16)).view(torch.bfloat16)
    assert same(found, wide.bfloat16())


def test_ties_go_to_even():
    values = np.array([1 + 2**-8, 1 + 3 * 2**-8, -1 - 2**-8, 2**-133 * 0.5, 2**-133 * 1.5], dtype=np.float32)
    assert widened(rounded(values)).tolist() == [1.0, 1 + 2**-6, -1.0, 0.0, 2**-132]


def test_every_bfloat16_number_survives_widening_and_rounding():
    bits = np.arange(1 << 16, dtype=np.uint16)
    number = ~np.isnan(widened(bits))
    assert np.array_equal(rounded(widened(bits))[number], bits[number])
    assert np.isnan(widened(rounded(widened(bits)))[~number]).all()


@pytest.mark.parametrize("shape", [(), (1,), (3, 1, 4)])
def test_shapes_and_views_are_kept(shape):
    values = np.broadcast_to(np.float32(1.5), shape)
    assert rounded(values).shape == shape
    assert np.array_equal(widened(rounded(values)), values)
    assert np.array_equal(
        widened(rounded(np.arange(12, dtype=np.float32).reshape(3, 4).T)), np.arange(12).reshape(3, 4).T
    )


def test_casts_in_a_kernel_are_those_of_torch():
    wide = random_bits(4096)
    narrow, half = torch.empty(4096, dtype=torch.bfloat16), torch.empty(4096, dtype=torch.float16)
    back, integer = torch.empty(4096), torch.empty(4096, dtype=torch.int32)
    with emulated_bf16(), np.errstate(all="ignore"):
        _casts[(1,)](wide, narrow, back, half, integer, 4096)
    expected = wide.bfloat16()
    assert same(narrow, expected)
    assert same(back, expected.float())
    ordinary = expected.float().abs().log2() > -14  # below, the interpreter's own float16 differs from the hardware's
    ordinary &= expected.float().abs() < 65504
    assert same(half[ordinary], expected.half()[ordinary])
    small = expected.float().abs() < 1e9
    assert torch.equal(integer[small], expected[small].float().int())


def test_arithmetic_in_a_kernel_is_that_of_torch():
    N = 4096
    a, b = random_bits(2 * N).bfloat16().view(2, N)
    b[::3] = a[::3] * 1.25  # neighbors, so that sums cancel
    out = torch.empty(10, N, dtype=torch.bfloat16)
    with emulated_bf16(), np.errstate(all="ignore"):
        _arithmetic[(1,)](a, b, out, N)
    x, y = a.double(), b.double()
    assert same(out[0], a + b)
    assert same(out[1], a - b)
    assert same(out[2], a * b)
    assert same(out[3], a * 3.0)
    assert same(out[4][a != 0], -a[a != 0])
    assert same(out[5], torch.where(x < y, a, b))
    assert same(out[6][x != y], torch.fmax(a.float(), b.float()).bfloat16()[x != y])  # the number, if one is NaN
    assert same(out[7][x != y], torch.minimum(a, b)[x != y])
    fused = (x * y + x).float().bfloat16()
    assert same(out[8], fused)
    assert (out[9] == 1.0).all()


def test_a_product_has_float32_sums_of_exact_products():
    generator = torch.Generator().manual_seed(1)
    a, b = (torch.randn(n, 256, generator=generator).bfloat16() for n in (16, 32))
    out = torch.empty(16, 32)
    with emulated_bf16():
        _product[(1,)](a, b, out, 16, 32, 256)
    torch.testing.assert_close(out.double(), a.double() @ b.double().T, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("kernel", "arguments"), [(_sum, 2), (_add_atomically, 1)])
def test_what_is_not_emulated_is_refused(kernel, arguments):
    tensors = [torch.ones(16, dtype=torch.bfloat16) for _ in range(arguments)]
    with emulated_bf16(), pytest.raises(Exception, match="bfloat16 is not emulated"):
        kernel[(1,)](*tensors, 16)


def test_afterwards_the_interpreter_is_as_before():
    before = dict(vars(InterpreterBuilder)), dict(vars(ReduceScanOpInterface))
    with emulated_bf16():
        assert dict(vars(InterpreterBuilder)) != before[0]
    assert (dict(vars(InterpreterBuilder)), dict(vars(ReduceScanOpInterface))) == before
    with pytest.raises(ZeroDivisionError), emulated_bf16():
        _ = 1 // 0
    assert (dict(vars(InterpreterBuilder)), dict(vars(ReduceScanOpInterface))) == before
