"""The choice of blocks, compared with a stable sort of all blocks."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sala_kernels import BlockLayout, choose_blocks, selected_mask

WIDE = BlockLayout(stride=4, block=4, init=1, local=2, slots=3)


def by_sorting(scores, position, layout):
    """Sets of chosen blocks, [kv heads][T]: the first of the candidates, sorted by descending score, then by index."""
    out = []
    for head in scores.tolist():
        rows = []
        for t, row in enumerate(head):
            own = (position + t) // layout.block
            candidates = [b for b in range(len(row)) if layout.init <= b <= own - layout.local]
            rows.append(set(sorted(candidates, key=lambda b, row=row: (-row[b], b))[: layout.slots]))
        out.append(rows)
    return out


def sets(chosen):
    """[kv heads][T] sets; asserts that no block is chosen twice."""
    out = [[[b for b in row if b >= 0] for row in head] for head in chosen.tolist()]
    assert all(len(set(row)) == len(row) for head in out for row in head)
    return [[set(row) for row in head] for head in out]


def test_of_equal_scores_the_earlier_block_is_chosen():
    scores = torch.tensor([9.0, 1, 2, 2, 2, 1, 2, 9, 9])[None, None]
    chosen = choose_blocks(scores, position=8 * WIDE.block, layout=WIDE)
    assert sets(chosen) == [[{2, 3, 4}]]


def test_initial_local_and_later_blocks_are_never_chosen():
    scores = torch.ones(1, 1, 12)
    scores[..., 0] = scores[..., 7:] = 5
    assert sets(choose_blocks(scores, position=8 * WIDE.block + 3, layout=WIDE)) == [[{1, 2, 3}]]


def test_slots_without_a_block_are_minus_one():
    scores = torch.rand(2, 1, 9)
    for own, count in ((0, 0), (2, 0), (3, 1), (4, 2), (5, 3), (8, 3)):
        chosen = choose_blocks(scores[..., : own + 1], position=own * WIDE.block, layout=WIDE)
        assert chosen.shape == (2, 1, 3)
        assert ((chosen >= 0).sum(-1) == count).all(), own


def test_a_tile_over_a_block_edge_gives_each_query_its_own_candidates():
    scores = torch.zeros(1, 8, 9)
    scores[..., 6] = 1.0
    start = 7 * WIDE.block + 2  # the last candidate is block 5, from the third query on block 6
    chosen = sets(choose_blocks(scores, position=start, layout=WIDE))[0]
    assert [6 in row for row in chosen] == [False] * 2 + [True] * 6
    assert all(len(row) == 3 for row in chosen)


@pytest.mark.parametrize("width", [12, 5000])
def test_an_infinite_score_is_the_highest(width):
    """exp(score - lse) overflows where a fine window scores far above the coarse windows."""
    scores = torch.rand(1, 1, width)
    scores[..., width // 2] = torch.inf
    scores[..., width // 3] = torch.inf
    layout = BlockLayout(stride=4, block=4, init=1, local=2, slots=2)
    chosen = choose_blocks(scores, position=(width - 1) * layout.block, layout=layout)
    assert sets(chosen) == [[{width // 2, width // 3}]]


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_the_two_level_search_is_a_stable_full_sort(data):
    """Few distinct values give many ties. Widths are on both sides of every switch between the two searches."""
    slots = data.draw(st.integers(0, 4))
    layout = BlockLayout(
        stride=4, block=4, init=data.draw(st.integers(0, 2)), local=data.draw(st.integers(1, 3)), slots=slots
    )
    width = data.draw(st.one_of(st.integers(1, 40), st.integers(1, 64 * slots + 70), st.just(4500)))
    T = data.draw(st.integers(1, 9))
    position = max(0, width * layout.block - T - data.draw(st.integers(0, 8)))
    values = torch.tensor([0.0, 1e-40, 1e-3, 0.5, 0.5000001, 1.0, 7.0, torch.inf])
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 1 << 30)))
    count = data.draw(st.integers(1, len(values)))
    scores = values[torch.randint(count, (2, T, width), generator=generator)]
    before = scores.clone()
    chosen = choose_blocks(scores, position=position, layout=layout)
    assert chosen.shape == (2, T, slots)
    assert sets(chosen) == by_sorting(scores, position, layout)
    assert torch.equal(scores, before)


def test_selected_mask_is_initial_chosen_and_local(layout):
    num_blocks = 3 * layout.max_blocks
    T = num_blocks * layout.block
    generator = torch.Generator().manual_seed(1)
    scores = torch.rand(2, T, num_blocks, generator=generator)
    chosen = choose_blocks(scores, position=0, layout=layout)
    mask = selected_mask(chosen, position=0, num_blocks=num_blocks, layout=layout)
    expected = by_sorting(scores, 0, layout)
    for head in range(2):
        for t in range(T):
            own = t // layout.block
            always = {b for b in range(own + 1) if b < layout.init or b > own - layout.local}
            assert set(mask[head, t].nonzero().flatten().tolist()) == always | expected[head][t]
            assert len(always | expected[head][t]) == min(own + 1, layout.max_blocks)
