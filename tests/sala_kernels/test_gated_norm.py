"""The gated normalization, compared with the operations that it fuses."""

import math

import pytest
import torch
from sala_kernels import gated_norm, rms_norm

pytestmark = pytest.mark.usefixtures("poisoned")


def test_it_is_the_formula():
    generator = torch.Generator().manual_seed(0)
    o, gate, weight = (torch.randn(2, 12, generator=generator, dtype=torch.float64) for _ in range(3))
    found = gated_norm(o.view(2, 3, 4), gate, weight[0], eps=1e-3)
    for row in range(2):
        size = math.sqrt(sum(float(x) ** 2 for x in o[row]) / 12 + 1e-3)
        for i in range(12):
            expected = float(o[row, i]) / size * float(weight[0, i]) / (1 + math.exp(-float(gate[row, i])))
            assert float(found[row, i]) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_roundings_are_those_of_the_operations_one_after_the_other(dtype):
    generator = torch.Generator().manual_seed(1)
    o, gate = (torch.randn(3, 40, generator=generator).to(dtype) for _ in range(2))
    weight = torch.randn(40, generator=generator).to(dtype)
    normed = rms_norm(o, weight, 1e-6, backend="reference")
    assert torch.equal(gated_norm(o, gate, weight, eps=1e-6, backend="reference"), normed * torch.sigmoid(gate))
    assert torch.equal(gated_norm(o, gate, None, eps=1e-6, backend="reference"), o * torch.sigmoid(gate))


@pytest.mark.parametrize("normed", [True, False])
def test_float16_is_rounded_as_in_the_reference(device, normed):
    generator = torch.Generator().manual_seed(2)
    o, gate = (torch.randn(4, 256, generator=generator).to(device, torch.float16) for _ in range(2))
    weight = torch.randn(256, generator=generator).to(device, torch.float16) if normed else None
    found, expected = (gated_norm(o, gate, weight, eps=1e-6, backend=b) for b in ("triton", "reference"))
    assert float((found == expected).float().mean()) > 0.99  # the last bit of a float32 sum may decide a rounding


def test_extreme_gates_close_and_open(device):
    o = torch.tensor([[2.0, -3.0, 5.0, 7.0]], device=device)
    gate = torch.tensor([[-1000.0, 1000.0, -80.0, 0.0]], device=device)
    found = gated_norm(o, gate, None, eps=1e-6, backend="triton")
    torch.testing.assert_close(found, o * torch.sigmoid(gate))


def test_rows_may_be_strided_or_transposed(device):
    generator = torch.Generator().manual_seed(3)
    o = torch.randn(20, 3, generator=generator).to(device).T
    gate = torch.randn(3, 50, generator=generator).to(device)[:, 7:27]
    weight = torch.randn(40, generator=generator).to(device)[::2]
    found, expected = (gated_norm(o, gate, weight, eps=1e-6, backend=b) for b in ("triton", "reference"))
    torch.testing.assert_close(found, expected)


def test_rows_beyond_two_to_the_31_elements(device):
    torch.utils.deterministic.fill_uninitialized_memory = False
    vast = torch.empty(2**31 + 64, dtype=torch.float16, device=device)  # a CPU allocates only pages that are touched
    torch.utils.deterministic.fill_uninitialized_memory = True
    near = torch.arange(48, dtype=torch.float16, device=device).view(3, 16) / 16
    far = vast.as_strided((3, 16), (2**30, 1))
    far.copy_(near)
    expected = gated_norm(near, near, near[0], eps=1e-6, backend="triton")
    assert torch.equal(gated_norm(far, far, near[0], eps=1e-6, backend="triton"), expected)


def test_arguments_that_do_not_fit_are_refused():
    o, gate = torch.randn(3, 2, 4), torch.randn(3, 8)
    with pytest.raises(ValueError, match="does not fit"):
        gated_norm(o[:2], gate, None, eps=0.0)
    with pytest.raises(ValueError, match="weight"):
        gated_norm(o, gate, torch.ones(4), eps=0.0)
