"""Block attention, compared with a dense softmax with an explicit mask, in float64."""

import importlib
from functools import partial

import pytest
import torch
from sala_kernels import BlockLayout, choose_blocks, selected_mask
from sala_kernels import block_attention as operation
from sala_kernels.block_attention import cpu

SCALE = 0.7


@pytest.fixture(params=["auto", "reference"])
def block_attention(request):
    """The CPU path for many queries, and the definition."""
    return partial(operation, backend=request.param)


def probabilities(q, k, mask, position):
    """[T, H, keys] float64; mask: [kv heads, T, keys] bool, before causality."""
    T, H, _ = q.shape
    group = H // k.shape[0]
    scores = torch.einsum("thd,hnd->thn", q.double(), k.double().repeat_interleave(group, 0)) * SCALE
    causal = torch.arange(k.shape[1]) <= torch.arange(position, position + T)[:, None]
    allowed = mask.repeat_interleave(group, 0).transpose(0, 1) & causal[:, None]
    return scores.masked_fill(~allowed, -torch.inf).softmax(-1)


def key_mask(chosen, position, n, layout):
    """[kv heads, T, n] bool from the chosen blocks."""
    blocks = selected_mask(chosen, position=position, num_blocks=-(-n // layout.block), layout=layout)
    return blocks.repeat_interleave(layout.block, -1)[..., :n]


def draw(position, T, layout, heads=4, kv_heads=2, dim=6, value_dim=5, dtype=torch.float64):
    """q, k, v and randomly chosen blocks for T queries from `position` on."""
    generator = torch.Generator().manual_seed(position + 7 * T)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

    n = position + T
    scores = torch.rand(kv_heads, T, -(-n // layout.block), generator=generator)
    chosen = choose_blocks(scores, position=position, layout=layout)
    return normal(T, heads, dim), normal(kv_heads, n, dim), normal(kv_heads, n, value_dim), chosen


def expected_output(q, k, v, mask, position):
    p = probabilities(q, k, mask, position)
    return torch.einsum("thn,hnd->thd", p, v.double().repeat_interleave(q.shape[1] // k.shape[0], 0))


def places(layout):
    """(position, T): the first tokens, tiles within a block and over block edges, and around where choosing begins."""
    full = layout.max_blocks * layout.block
    return [
        (0, 1),
        (0, 3 * full),
        (full - 1, 1),
        (full, 1),
        (full - 3, 7),
        (full + layout.block - 1, 2),
        (2 * full, 9),
        (full - 5, 3 * layout.block + 20),
    ]


@pytest.mark.parametrize(("heads", "kv_heads"), [(1, 1), (4, 1), (6, 2), (3, 3)])
def test_it_is_the_masked_softmax(block_attention, layout, heads, kv_heads):
    for position, T in places(layout):
        q, k, v, chosen = draw(position, T, layout, heads, kv_heads)
        out = block_attention(q, k, v, chosen, position=position, scale=SCALE, layout=layout)
        expected = expected_output(q, k, v, key_mask(chosen, position, position + T, layout), position)
        torch.testing.assert_close(out, expected, rtol=1e-10, atol=1e-10)


def test_without_a_choice_it_is_dense(block_attention, layout):
    for position, T in places(layout):
        q, k, v, _ = draw(position, T, layout)
        out = block_attention(q, k, v, None, position=position, scale=SCALE, layout=layout)
        everything = torch.ones(2, T, position + T, dtype=torch.bool)
        torch.testing.assert_close(out, expected_output(q, k, v, everything, position), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("dtype", "limit"), [(torch.float32, 1e-6), (torch.bfloat16, 1e-2)])
def test_float32_and_bfloat16_are_close(block_attention, layout, dtype, limit):
    position, T = 2 * layout.max_blocks * layout.block - 5, 40
    q, k, v, chosen = draw(position, T, layout, dtype=dtype)
    out = block_attention(q, k, v, chosen, position=position, scale=SCALE, layout=layout)
    expected = expected_output(q, k, v, key_mask(chosen, position, position + T, layout), position)
    assert out.dtype == dtype
    assert (out.double() - expected).square().mean().sqrt() < limit * expected.square().mean().sqrt()


def test_computing_a_few_blocks_at_a_time_changes_nothing(layout, monkeypatch):
    position, T = 2 * layout.max_blocks * layout.block - 5, 40
    q, k, v, chosen = draw(position, T, layout)
    mass, again = torch.zeros(2, position + T, dtype=torch.float64)
    whole = operation(q, k, v, chosen, position=position, scale=SCALE, layout=layout, mass=mass)
    monkeypatch.setattr(importlib.import_module("sala_kernels.block_attention.cpu"), "_SCORES_CACHED", 1)
    out = operation(q, k, v, chosen, position=position, scale=SCALE, layout=layout, mass=again)
    torch.testing.assert_close(out, whole, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(again, mass, rtol=1e-12, atol=1e-12)


def test_large_models_group_the_pairs_of_fewer_queries_and_small_ones_of_all(monkeypatch):
    """The released model's weighted values would take a gigabyte for a chunk of 1,024 queries."""
    assert cpu.queries_at_once(62, 16, 128) == 256
    assert cpu.queries_at_once(6, 2, 64) == cpu.queries_at_once(0, 1, 1) == cpu.MAX_QUERIES
    layout = BlockLayout(stride=2, block=4, init=1, local=2, slots=3)
    q, k, v, chosen = draw(40, 70, layout)
    whole = operation(q, k, v, chosen, position=40, scale=SCALE, layout=layout)
    monkeypatch.setattr(cpu, "_WEIGHTED_NUMBERS", 1)  # 32 queries
    parts = operation(q, k, v, chosen, position=40, scale=SCALE, layout=layout)
    torch.testing.assert_close(parts, whole, rtol=0, atol=1e-12)


def test_empty_slots_are_ignored(block_attention):
    """-1 in some slots, also where there are blocks to choose from."""
    layout = BlockLayout(stride=4, block=8, init=1, local=2, slots=4)
    position, T = 20 * layout.block, 2 * layout.block
    q, k, v, chosen = draw(position, T, layout)
    chosen[:, ::3] = -1
    chosen[:, 1::3, ::2] = -1
    mass = torch.zeros(position + T, dtype=torch.float64)
    out = block_attention(q, k, v, chosen, position=position, scale=SCALE, layout=layout, mass=mass)
    mask = key_mask(chosen, position, position + T, layout)
    torch.testing.assert_close(out, expected_output(q, k, v, mask, position), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(mass, probabilities(q, k, mask, position).sum((0, 1)), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("dense", [False, True])
def test_rows_beyond_the_keys_never_leak(block_attention, layout, dense):
    """Keys are a view of a larger buffer. Rows after the last query's, and after the view, may have any values."""
    for position, T in places(layout):
        q, k, v, chosen = draw(position, T, layout)
        n = position + T
        given = None if dense else chosen
        expected = block_attention(q, k, v, given, position=position, scale=SCALE, layout=layout)
        spare = [torch.full((2, 2 * layout.block, x.shape[-1]), torch.nan, dtype=x.dtype) for x in (k, v)]
        keys, values = (torch.cat([x, rows], 1) for x, rows in zip((k, v), spare, strict=True))
        for end in (n, n + 1, n + layout.block):
            out = block_attention(
                q, keys[:, :end], values[:, :end], given, position=position, scale=SCALE, layout=layout
            )
            torch.testing.assert_close(out, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dense", [False, True])
def test_mass_is_the_probability_of_every_key_summed_over_heads_and_queries(block_attention, layout, dense):
    for position, T in places(layout):
        q, k, v, chosen = draw(position, T, layout, heads=6)
        n = position + T
        mass = torch.full((n,), 2.0)
        plain = block_attention(q, k, v, None if dense else chosen, position=position, scale=SCALE, layout=layout)
        traced = block_attention(
            q, k, v, None if dense else chosen, position=position, scale=SCALE, layout=layout, mass=mass
        )
        assert torch.equal(plain, traced)
        mask = torch.ones(2, T, n, dtype=torch.bool) if dense else key_mask(chosen, position, n, layout)
        expected = probabilities(q, k, mask, position).sum((0, 1))
        torch.testing.assert_close(mass.double() - 2, expected, rtol=1e-4, atol=1e-4)
        assert float((mass - 2).double().sum()) == pytest.approx(6 * T, rel=1e-5)


def test_mass_may_be_each_query_s_own(block_attention, layout):
    for T in (1, 16):
        position = 2 * layout.max_blocks * layout.block - 5
        q, k, v, _ = draw(position, T, layout, heads=6)
        mass = torch.full((T, position + T), 2.0)
        block_attention(q, k, v, None, position=position, scale=SCALE, layout=layout, mass=mass)
        everything = torch.ones(2, T, position + T, dtype=torch.bool)
        expected = probabilities(q, k, everything, position).sum(1)
        torch.testing.assert_close(mass.double() - 2, expected, rtol=1e-4, atol=1e-4)


def test_each_query_s_own_mass_needs_few_queries_and_dense_attention(block_attention, layout):
    q, k, v, chosen = draw(100, 17, layout)
    with pytest.raises(ValueError, match="own mass"):
        block_attention(q, k, v, None, position=100, scale=SCALE, layout=layout, mass=torch.zeros(17, 117))
    with pytest.raises(ValueError, match="own mass"):
        block_attention(q[:2], k, v, chosen[:, :2], position=100, scale=SCALE, layout=layout, mass=torch.zeros(2, 117))


def test_later_tokens_and_the_rest_of_the_tile_change_nothing(block_attention, layout):
    position, T = layout.max_blocks * layout.block + 3, layout.block
    q, k, v, chosen = draw(position, T, layout)
    out = block_attention(q, k, v, chosen, position=position, scale=SCALE, layout=layout)
    for t in (0, 1, T // 2, T - 1):
        end = position + t + 1
        alone = block_attention(
            q[t : t + 1],
            k[:, :end],
            v[:, :end],
            chosen[:, t : t + 1],
            position=position + t,
            scale=SCALE,
            layout=layout,
        )
        torch.testing.assert_close(alone[0], out[t], rtol=1e-11, atol=1e-11)


def test_large_scores_do_not_overflow(block_attention):
    layout = BlockLayout(stride=4, block=8, init=1, local=1, slots=1)
    q, k, v, chosen = draw(64, 8, layout, dtype=torch.float32)
    out = block_attention(q * 1e4, k, v, chosen, position=64, scale=SCALE, layout=layout)
    mask = key_mask(chosen, 64, 72, layout)
    torch.testing.assert_close(out.double(), expected_output(q * 1e4, k, v, mask, 64), rtol=1e-3, atol=1e-3)
