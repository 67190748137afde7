"""RMSNorm, compared with its formula."""

import pytest
import torch
from sala_kernels import rms_norm


@pytest.mark.parametrize("shape", [(1,), (7,), (3, 1), (2, 5, 16)])
def test_it_is_the_formula(shape):
    torch.manual_seed(0)
    x, weight = torch.randn(shape, dtype=torch.float64), torch.randn(shape[-1], dtype=torch.float64)
    expected = torch.empty_like(x)
    for row, out in zip(x.reshape(-1, shape[-1]), expected.view(-1, shape[-1]), strict=True):
        out[:] = row / (sum(value * value for value in row) / len(row) + 1e-3) ** 0.5 * weight
    torch.testing.assert_close(rms_norm(x, weight, 1e-3), expected, rtol=1e-12, atol=1e-12)


def test_zeros_stay_zeros():
    assert torch.equal(rms_norm(torch.zeros(2, 4), torch.ones(4), 1e-6), torch.zeros(2, 4))


def test_the_mean_of_bfloat16_is_taken_in_float32():
    """A sum of 4,096 equal squares in bfloat16 would stop growing at 256."""
    x = torch.ones(4096, dtype=torch.bfloat16) * 3
    out = rms_norm(x, torch.ones(4096, dtype=torch.bfloat16), 1e-6)
    assert out.dtype == torch.bfloat16
    assert torch.equal(out, torch.ones_like(x))


def test_scaling_the_input_changes_nothing():
    torch.manual_seed(0)
    x, weight = torch.randn(3, 8), torch.randn(8)
    torch.testing.assert_close(rms_norm(x * 1000, weight, 0.0), rms_norm(x, weight, 0.0))
