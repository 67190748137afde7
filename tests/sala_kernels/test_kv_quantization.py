"""Quantized keys and values: every fp8 code, every kind of rounding, and where they are written."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sala_kernels.kv_quantization import QuantizedRows, dequantize_rows, quantize_rows

BACKENDS = ["reference", "triton"]
KINDS = ["int8", "fp8"]


def fp8_codes():
    """All finite e4m3 numbers as bits, [254]."""
    codes = torch.arange(256, dtype=torch.int32).to(torch.uint8)
    return codes[(codes & 0x7F) != 0x7F]


@pytest.mark.parametrize("backend", BACKENDS)
def test_every_fp8_code_is_read_as_torch_reads_it(backend, device):
    codes = fp8_codes()
    rows = QuantizedRows(data=codes[None, :, None].expand(1, -1, 16).contiguous(), scale=torch.full((1, 254), 0.75))
    rows = QuantizedRows(data=rows.data.to(device), scale=rows.scale.to(device))
    expected = codes.view(torch.float8_e4m3fn).float() * 0.75
    assert torch.equal(dequantize_rows(rows, backend=backend).cpu()[0, :, 7], expected)


@pytest.mark.parametrize("backend", BACKENDS)
def test_fp8_rounds_to_the_nearest_ties_to_even(backend, device):
    """Every number, every midpoint of two neighbors, and the floats next to it. A 448 in each row makes its scale 1."""
    numbers = fp8_codes().view(torch.float8_e4m3fn).float().unique()
    middles = (numbers[1:] + numbers[:-1]) / 2
    beside = [middles.nextafter(torch.full_like(middles, side)) for side in (torch.inf, -torch.inf)]
    values = torch.cat([numbers, middles, *beside, torch.tensor([-0.0, 1e-20, -1e-20])])
    x = torch.full((1, len(values), 16), 448.0)
    x[0, :, 3] = values
    rows = quantize_rows(x.to(device), "fp8", backend=backend)
    assert torch.equal(rows.scale.cpu(), torch.ones(1, len(values)))
    assert torch.equal(rows.data.cpu()[0, :, 3], values.to(torch.float8_e4m3fn).view(torch.uint8))


@pytest.mark.parametrize("backend", BACKENDS)
def test_int8_rounds_to_the_nearest_ties_to_even(backend, device):
    values = torch.tensor([0.5, 1.5, 2.5, -0.5, -1.5, 126.5, 0.49999997, 0.50000006, -127.0, -126.5, 0.0])
    expected = torch.tensor([0, 2, 2, 0, -2, 126, 0, 1, -127, -126, 0], dtype=torch.int8)
    x = torch.full((1, len(values), 16), 127.0)
    x[0, :, 5] = values
    rows = quantize_rows(x.to(device), "int8", backend=backend)
    assert torch.equal(rows.scale.cpu(), torch.ones(1, len(values)))
    assert torch.equal(rows.data.cpu()[0, :, 5], expected)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("kind", KINDS)
def test_rows_of_zeros_stay_zeros(backend, kind, device):
    rows = quantize_rows(torch.zeros(2, 3, 16, device=device), kind, backend=backend)
    assert torch.equal(dequantize_rows(rows, backend=backend), torch.zeros(2, 3, 16, device=device))


@pytest.mark.parametrize("kind", KINDS)
@given(exponent=st.integers(-60, 60), seed=st.integers(0, 2**31))
@settings(max_examples=30, deadline=None)
def test_the_error_is_at_most_half_a_step(kind, exponent, seed):
    x = (
        torch.randn(1, 8, 16, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).float()
        * 2.0**exponent
    )
    rows = quantize_rows(x, kind)
    error = (dequantize_rows(rows) - x).abs()
    scale = rows.scale[..., None]
    half_step = scale / 2 if kind == "int8" else torch.maximum(x.abs() / 16, scale * 2.0**-10)
    assert bool((error <= half_step * (1 + 1e-5)).all())


@pytest.mark.parametrize("kind", KINDS)
def test_half_precision_is_quantized_as_its_float32_values(kind, device):
    x = torch.randn(1, 9, 40, generator=torch.Generator().manual_seed(1)).half().to(device)
    found, expected = quantize_rows(x, kind, backend="triton"), quantize_rows(x.float(), kind, backend="reference")
    assert torch.equal(found.data, expected.data)
    assert torch.equal(found.scale, expected.scale)


def test_wrong_kinds_shapes_and_strides_are_refused(device):
    x = torch.zeros(1, 4, 16, device=device)
    with pytest.raises(ValueError, match="int4"):
        quantize_rows(x, "int4")
    with pytest.raises(ValueError, match="do not fit"):
        quantize_rows(x, "int8", out=QuantizedRows.empty((1, 5, 16), "int8", device))
    with pytest.raises(ValueError, match="do not fit"):
        quantize_rows(x, "int8", out=QuantizedRows.empty((1, 4, 16), "fp8", device))
    with pytest.raises(ValueError, match="contiguous"):
        quantize_rows(x.transpose(1, 2), "int8", backend="triton")
    with pytest.raises(ValueError, match="one scale"):
        QuantizedRows(data=torch.zeros(1, 4, 16, dtype=torch.int8), scale=torch.zeros(1, 3))
    with pytest.raises(ValueError, match="int8 or uint8"):
        QuantizedRows(data=torch.zeros(1, 4, 16), scale=torch.zeros(1, 4))


def test_a_cache_is_copied_and_counted():
    rows = quantize_rows(torch.randn(2, 6, 16), "fp8")
    grown = QuantizedRows.empty((2, 9, 16), "fp8", torch.device("cpu"))
    grown.tokens(0, 6).copy_(rows)
    assert torch.equal(dequantize_rows(grown.tokens(2, 5)), dequantize_rows(rows.tokens(2, 5)))
    assert rows.num_bytes == 2 * 6 * (16 + 4)
