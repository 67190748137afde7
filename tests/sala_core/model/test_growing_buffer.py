"""Growing buffers: rows are stored exactly, moved rarely, and quantized as `quantize_rows` quantizes them."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sala_kernels import QuantizedRows, quantize_rows

from sala_core.model.growing_buffer import GrowingBuffer

pytestmark = pytest.mark.usefixtures("one_thread")


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 900), max_size=10))
def test_a_growing_buffer_holds_what_was_appended(lengths):
    buffer = GrowingBuffer(2, 3, torch.float32, torch.device("cpu"))
    pieces = [torch.empty(2, 0, 3)]
    for i, length in enumerate(lengths):
        pieces.append(torch.full((2, length, 3), float(i)))
        buffer.append(pieces[-1])
        assert buffer.length == sum(lengths[: i + 1])
        assert buffer.num_bytes == buffer.length * 2 * 3 * 4
    assert torch.equal(buffer.rows, torch.cat(pieces, 1))
    assert torch.equal(buffer.clone().rows, buffer.rows)


def test_growing_copies_rarely_and_wastes_little_memory():
    buffer = GrowingBuffer(1, 1, torch.float32, torch.device("cpu"))
    capacities = []
    for _ in range(60):
        buffer.append(torch.zeros(1, 500, 1))
        if not capacities or capacities[-1] != buffer.capacity:
            capacities.append(buffer.capacity)
    assert len(capacities) < 20
    assert capacities[-1] <= 1.25 * buffer.length


def test_reserving_makes_later_appends_copy_nothing():
    buffer = GrowingBuffer(1, 2, torch.bfloat16, torch.device("cpu"))
    buffer.append(torch.ones(1, 3, 2))
    buffer.reserve(5000)
    address = buffer.reserved.data_ptr()
    buffer.append(torch.full((1, 4997, 2), 2.0))
    assert (buffer.reserved.data_ptr(), buffer.length) == (address, 5000)
    assert torch.equal(buffer.rows[0, :4, 0], torch.tensor([1, 1, 1, 2], dtype=torch.bfloat16))


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(["int8", "fp8"]), st.lists(st.integers(0, 700), max_size=8), st.integers(0, 99))
def test_quantized_rows_do_not_depend_on_how_they_were_appended(kind, lengths, seed):
    buffer = GrowingBuffer(2, 5, torch.float32, torch.device("cpu"), quantized=kind)
    rows = torch.randn(2, sum(lengths), 5, generator=torch.Generator().manual_seed(seed))
    start = 0
    for length in lengths:
        buffer.append(rows[:, start : start + length])
        start += length
    expected = quantize_rows(rows, kind)
    for each in (buffer, buffer.clone()):
        assert isinstance(each.rows, QuantizedRows)
        assert torch.equal(each.rows.data, expected.data)
        assert torch.equal(each.rows.scale, expected.scale)
    assert buffer.num_bytes == expected.num_bytes == buffer.length * 2 * (5 + 4)
    assert isinstance(buffer.reserved, QuantizedRows)
    assert buffer.reserved.shape == (2, buffer.capacity, 5)
    again = GrowingBuffer(2, 5, torch.float32, torch.device("cpu"), quantized=kind)
    again.append_parts(buffer.parts(0, start // 2))
    again.append_parts(buffer.parts(start // 2, start))
    assert torch.equal(again.rows.data, expected.data)
    assert torch.equal(again.rows.scale, expected.scale)


@pytest.mark.parametrize("kind", ["int8", "fp8"])
def test_scales_of_rows_that_are_not_written_yet_are_zero(kind, monkeypatch):
    monkeypatch.setattr(torch.utils.deterministic, "fill_uninitialized_memory", True)
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        assert torch.empty(1).isnan(), "uninitialized memory is not filled"
        buffer = GrowingBuffer(2, 3, torch.float32, torch.device("cpu"), quantized=kind)
        buffer.append(torch.ones(2, 7, 3))
        buffer.reserve(3000)
    finally:
        torch.use_deterministic_algorithms(False)
    scale = buffer.parts(0, 3000)["_scale"]
    assert (scale[:, :7] > 0).all()
    assert (scale[:, 7:] == 0).all()
