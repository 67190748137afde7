"""Rotary embedding, compared with the multiplication of complex numbers."""

import math

import pytest
import torch
from sala_kernels import apply_rotary, rotary_cos_sin


def rotated(x, position, theta):
    """x: [T, H, d]. Dimensions i and i + d/2 are one complex number, rotated by the angle position / theta^(2i/d)."""
    T, _, d = x.shape
    z = torch.complex(x[..., : d // 2].double(), x[..., d // 2 :].double())
    for t in range(T):
        for i in range(d // 2):
            angle = (position + t) / theta ** (2 * i / d)
            z[t, :, i] *= complex(math.cos(angle), math.sin(angle))
    return torch.cat([z.real, z.imag], -1)


@pytest.mark.parametrize("dim", [2, 6, 32])
@pytest.mark.parametrize("position", [0, 1, 4095, 1 << 20])
def test_it_rotates_complex_numbers_precisely_even_at_a_million(dim, position):
    torch.manual_seed(dim)
    x = torch.randn(5, 3, dim)
    out = apply_rotary(x, rotary_cos_sin(position, 5, dim, 10000.0, "cpu"))
    torch.testing.assert_close(out.double(), rotated(x, position, 10000.0), rtol=0, atol=1e-6)


def test_position_zero_changes_nothing():
    x = torch.randn(1, 2, 8)
    assert torch.equal(apply_rotary(x, rotary_cos_sin(0, 1, 8, 10000.0, "cpu")), x)


def test_products_depend_only_on_the_distance():
    torch.manual_seed(0)
    q, k = torch.randn(1, 1, 16), torch.randn(1, 1, 16)

    def product(i: int, j: int) -> float:
        a, b = (apply_rotary(x, rotary_cos_sin(at, 1, 16, 10000.0, "cpu")) for x, at in ((q, i), (k, j)))
        return float((a * b).sum())

    assert product(1000, 990) == pytest.approx(product(10, 0), abs=1e-5)
    assert product(11, 0) != pytest.approx(product(10, 0), abs=1e-3)


def test_a_row_does_not_depend_on_the_number_of_rows():
    whole = rotary_cos_sin(500, 20, 8, 1e6, "cpu")
    assert torch.equal(whole[:, 7:8], rotary_cos_sin(507, 1, 8, 1e6, "cpu"))


def test_bfloat16_is_rotated_in_float32_and_rounded_once():
    torch.manual_seed(0)
    x = torch.randn(4, 2, 8).bfloat16()
    cos_sin = rotary_cos_sin(100, 4, 8, 10000.0, "cpu")
    out = apply_rotary(x, cos_sin)
    assert out.dtype == torch.bfloat16
    assert torch.equal(out, apply_rotary(x.float(), cos_sin).bfloat16())
