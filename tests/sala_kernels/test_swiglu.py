"""SwiGLU, compared with its formula."""

import math

import pytest
import torch
from sala_kernels import swiglu

pytestmark = pytest.mark.usefixtures("poisoned")


def test_it_is_the_formula():
    generator = torch.Generator().manual_seed(0)
    gate, up = torch.randn(2, 50, generator=generator, dtype=torch.float64)
    expected = [float(g) / (1 + math.exp(-float(g))) * float(u) for g, u in zip(gate, up, strict=True)]
    assert swiglu(gate, up).tolist() == pytest.approx(expected, rel=1e-12)


def test_float16_is_rounded_as_in_the_reference(device):
    generator = torch.Generator().manual_seed(1)
    gate, up = torch.randn(2, 4, 512, generator=generator).to(device, torch.float16)
    found, expected = (swiglu(gate, up, backend=b) for b in ("triton", "reference"))
    assert float((found == expected).float().mean()) > 0.99  # the last bit of an exponential may decide a rounding


def test_extreme_gates_stay_finite(device):
    gate = torch.tensor([[-1000.0, -90.0, 0.0, 90.0, 1000.0]], device=device)
    found = swiglu(gate, torch.full_like(gate, 2.0), backend="triton")
    torch.testing.assert_close(found, swiglu(gate, torch.full_like(gate, 2.0), backend="reference"))


def test_columns_may_be_strided(device):
    gate, up = torch.randn(2, 30, 4, generator=torch.Generator().manual_seed(2)).to(device).transpose(1, 2)
    torch.testing.assert_close(swiglu(gate, up, backend="triton"), swiglu(gate, up, backend="reference"))


def test_gate_and_up_of_different_strides(device):
    gate, up = torch.randn(2, 3, 9, generator=torch.Generator().manual_seed(3)).to(device)[:, :, 1:6]
    gate = gate.contiguous()
    torch.testing.assert_close(swiglu(gate, up, backend="triton"), swiglu(gate, up, backend="reference"))


def test_rows_beyond_two_to_the_31_elements(device):
    torch.utils.deterministic.fill_uninitialized_memory = False
    vast = torch.empty(2**31 + 64, dtype=torch.float16, device=device)  # a CPU allocates only pages that are touched
    torch.utils.deterministic.fill_uninitialized_memory = True
    near = torch.arange(48, dtype=torch.float16, device=device).view(3, 16) / 16
    far = vast.as_strided((3, 16), (2**30, 1))
    far.copy_(near)
    assert torch.equal(swiglu(far, far, backend="triton"), swiglu(near, near, backend="triton"))


def test_arguments_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="gate is"):
        swiglu(torch.randn(2, 3), torch.randn(3, 2))
    with pytest.raises(ValueError, match="gate is"):
        swiglu(torch.randn(2, 3), torch.randn(2, 3).half())
