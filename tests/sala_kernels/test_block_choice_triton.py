"""The choice by Triton, compared with the reference: ties, infinities, few candidates, all positions and lengths."""

import importlib

import pytest
import torch
from sala_kernels import BlockLayout, choose_blocks

SMALL = BlockLayout(stride=4, block=4, init=1, local=2, slots=3)
VALUES = torch.tensor([0.0, 1e-40, 1e-3, 0.5, 0.5000001, 1.0, 3e38, torch.inf, -torch.inf])


def same(scores, position, layout):
    found = choose_blocks(scores, position=position, layout=layout, backend="triton")
    expected = choose_blocks(scores, position=position, layout=layout, backend="reference")
    return found.dtype == torch.int64 and torch.equal(found, expected)


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize("long", [False, True])
def test_at_every_position_over_many_blocks(layout, long, device, monkeypatch):
    """From no candidate to more candidates than slots, with the queries of a call in one block or in two."""
    kernels = importlib.import_module("sala_kernels.block_choice.kernels")
    if long:
        monkeypatch.setattr(kernels, "_LONGEST_ROW", 0)
        monkeypatch.setattr(kernels, "_CHUNK", 8)
    end = (layout.max_blocks + 3) * layout.block
    generator = torch.Generator().manual_seed(end)
    for position in range(0, end, layout.block):
        for at, T in ((position - 1, 2), (position, 1), (position + layout.block // 2, 1)):
            columns = (position + T) // layout.block + 2
            scores = VALUES[torch.randint(len(VALUES), (1, T, columns), generator=generator)].to(device)
            assert at < 0 or same(scores, at, layout), at


@pytest.mark.parametrize("width", [127, 128, 129, 1300])
def test_rows_of_one_value_give_the_earliest_blocks(width, device):
    for value in VALUES.tolist():
        scores = torch.full((1, 2, width), value, device=device)
        chosen = choose_blocks(scores, position=4 * width - 2, layout=SMALL, backend="triton")
        assert chosen[0, 0].tolist() == ([-1] * 3 if value == -torch.inf else [1, 2, 3])


def test_scores_that_differ_in_the_last_bit_are_distinguished(device):
    for base in (0, 1, 0x00800000, 0x3F800000, 0x7F7FFFFD):
        bits = torch.full((1, 1, 200), base, dtype=torch.int32)
        bits[..., [20, 50, 150]] += torch.tensor([1, 2, 1], dtype=torch.int32)
        chosen = choose_blocks(bits.view(torch.float32).to(device), position=796, layout=SMALL, backend="triton")
        assert chosen[0, 0].tolist() == [20, 50, 150]


@pytest.mark.parametrize("long", [False, True])
@pytest.mark.parametrize("columns", [1, 61, 64, 203])
def test_values_outside_the_scores_are_never_chosen(columns, long, device, monkeypatch):
    """Rows start at multiples of 32 in a wider buffer, so 16 bytes are read at a time. The rest of it is infinite."""
    kernels = importlib.import_module("sala_kernels.block_choice.kernels")
    if long:
        monkeypatch.setattr(kernels, "_LONGEST_ROW", 0)
        monkeypatch.setattr(kernels, "_CHUNK", 64)
    buffer = torch.full((2, 1, 224), torch.inf, device=device)
    generator = torch.Generator().manual_seed(columns)
    buffer[..., :columns] = VALUES[torch.randint(6, (2, 1, columns), generator=generator)].to(device)
    scores = buffer[..., :columns]
    before = buffer.clone()
    for layout in (SMALL, BlockLayout(stride=4, block=4, init=0, local=1, slots=70)):
        assert same(scores, 4 * columns - 3, layout)
        assert same(scores.contiguous(), 4 * columns + 40, layout)
    assert torch.equal(buffer, before)


def test_vectors_are_read_only_where_every_row_has_whole_vectors():
    kernels = importlib.import_module("sala_kernels.block_choice.kernels")
    whole = torch.zeros(2, 3, 64)
    assert kernels._rows_hold_vectors(whole)
    assert kernels._rows_hold_vectors(whole[..., :61])
    assert kernels._rows_hold_vectors(whole[..., 4:])
    assert not kernels._rows_hold_vectors(whole[..., 1:])
    assert not kernels._rows_hold_vectors(torch.zeros(2, 3, 61))
    short = torch.zeros(2 * 3 * 64 - 2)  # the last row ends within a vector
    assert not kernels._rows_hold_vectors(short.as_strided((2, 3, 62), (192, 64, 1)))


def test_blocks_with_score_minus_infinity_lose_to_later_blocks_with_score_0(device):
    scores = torch.tensor([[[9, -torch.inf, -torch.inf, 0, 0, 1, 0, 9, 9]]], device=device)
    for backend in ("triton", "reference"):
        chosen = choose_blocks(scores, position=32, layout=SMALL, backend=backend)
        assert chosen.tolist() == [[[3, 4, 5]]]


def test_scores_of_another_dtype_are_refused():
    with pytest.raises(ValueError, match="float32"):
        choose_blocks(torch.zeros(1, 1, 9, dtype=torch.float64), position=35, layout=SMALL)
