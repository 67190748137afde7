"""Block scores, compared with their definition: one query, one window, one block at a time, in float64."""

import importlib

import pytest
import torch
from sala_kernels import BlockLayout, block_scores, compress_keys

GROUPS = [(1, 1), (4, 1), (6, 2), (3, 3)]


def brute_force(q, keys, position, scale, layout):
    """Scores [kv heads, T, blocks] in float64. q: [T, H, d]. keys: [kv heads, n, d], all up to the last query's."""
    T, H, _ = q.shape
    kv_heads, stride = keys.shape[0], layout.stride
    last = position + T - 1
    fine = [j for j in range(last + 1) if stride * j + 2 * stride - 1 <= last]
    num_blocks = (fine[-1] * stride + 2 * stride - 1) // layout.block + 1 if fine else 0
    out = torch.zeros(kv_heads, T, num_blocks, dtype=torch.float64)
    for head in range(kv_heads):
        group = slice(head * H // kv_heads, (head + 1) * H // kv_heads)
        for t in range(T):
            queries = q[t, group].double() * scale
            seen = range(position + t + 1)
            coarse = [4 * stride * j for j in seen if 4 * stride * j + 8 * stride - 1 <= position + t]
            lse = torch.zeros(len(queries), dtype=torch.float64)
            if coarse:
                means = torch.stack([keys[head, a : a + 8 * stride].double().mean(0) for a in coarse])
                lse = torch.logsumexp(queries @ means.T, -1)
            for j in (j for j in fine if stride * j + 2 * stride - 1 <= position + t):
                p = torch.exp(queries @ keys[head, stride * j : stride * j + 2 * stride].double().mean(0) - lse).sum()
                for block in {stride * j // layout.block, (stride * j + 2 * stride - 1) // layout.block}:
                    out[head, t, block] = torch.maximum(out[head, t, block], p)
    return out


def draw(n, heads, kv_heads, dim=6):
    generator = torch.Generator().manual_seed(n + heads)
    q = torch.randn(n, heads, dim, generator=generator, dtype=torch.float64)
    return q, torch.randn(kv_heads, n, dim, generator=generator, dtype=torch.float64)


def pooled(keys, layout, dtype):
    fine = compress_keys(keys, size=2 * layout.stride, stride=layout.stride)
    coarse = compress_keys(keys, size=8 * layout.stride, stride=4 * layout.stride)
    return fine.to(dtype), coarse.to(dtype)


def scored(q, keys, position, layout, dtype=torch.float64):
    fine, coarse = pooled(keys, layout, dtype)
    return block_scores(q.to(dtype), fine, coarse, position=position, scale=0.6, layout=layout)


@pytest.mark.parametrize(("heads", "kv_heads"), GROUPS)
def test_scores_are_those_of_the_definition_at_every_position(layout, heads, kv_heads):
    """From the first token on: before the first window, before the first coarse window, and over every edge after."""
    n = 8 * layout.stride + layout.block + 5
    q, keys = draw(n, heads, kv_heads)
    expected = brute_force(q, keys, 0, 0.6, layout)
    found = scored(q, keys, 0, layout)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), expected, rtol=1e-6, atol=0)
    torch.testing.assert_close(scored(q, keys, 0, layout, torch.float32).double(), expected, rtol=1e-5, atol=0)


def test_a_single_query_is_scored_as_among_others(layout):
    n = 16 * layout.stride
    q, keys = draw(n, 4, 2)
    together = scored(q, keys, 0, layout)
    edges = {edge + near for edge in range(0, n, layout.stride) for near in (-1, 0)} & set(range(n))
    for position in sorted(edges | {8 * layout.stride - 2, n - 1}):
        alone = scored(q[position : position + 1], keys[:, : position + 1], position, layout)
        width = alone.shape[-1]
        torch.testing.assert_close(alone[:, 0], together[:, position, :width], rtol=1e-6, atol=0)
        assert not together[:, position, width:].any()
        assert width >= position // layout.block or position < 2 * layout.stride - 1


def test_windows_not_yet_seen_do_not_leak(layout):
    """Pooled keys of later tokens may be given."""
    n = 12 * layout.stride
    q, keys = draw(n, 2, 1)
    fine, coarse = pooled(keys, layout, torch.float32)
    for position in (0, 2 * layout.stride - 1, 8 * layout.stride - 1, 9 * layout.stride):
        query = q[position : position + 1].float()
        expected = block_scores(query, fine, coarse, position=position, scale=1.0, layout=layout)
        nan_fine, nan_coarse = fine.clone(), coarse.clone()
        nan_fine[:, max(0, (position + 1) // layout.stride - 1) :] = torch.nan
        nan_coarse[:, max(0, (position + 1) // (4 * layout.stride) - 1) :] = torch.nan
        found = block_scores(query, nan_fine, nan_coarse, position=position, scale=1.0, layout=layout)
        assert torch.equal(found, expected)


def test_inputs_without_a_whole_window_have_no_scores(layout):
    q, keys = draw(2 * layout.stride - 1, 2, 2)
    assert scored(q, keys, 0, layout).shape == (2, 2 * layout.stride - 1, 0)


@pytest.mark.parametrize("width", [1, 3, 8])
def test_scoring_windows_in_slices_changes_nothing(layout, width, monkeypatch):
    n = 20 * layout.stride + 3
    q, keys = draw(n, 4, 2)
    whole = scored(q[-7:], keys, n - 7, layout)
    monkeypatch.setattr(importlib.import_module("sala_kernels.block_scores.reference"), "_SLICE", width)
    torch.testing.assert_close(scored(q[-7:], keys, n - 7, layout), whole, rtol=1e-6, atol=0)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_many_queries_in_slices_of_windows_have_the_same_scores(layout, dtype, monkeypatch):
    n = 20 * layout.stride + 3
    q, keys = draw(n, 4, 2)
    whole = scored(q, keys, 0, layout, dtype)
    monkeypatch.setattr(importlib.import_module("sala_kernels.block_scores.cpu"), "_SCORES_CACHED", 1)
    torch.testing.assert_close(
        scored(q, keys, 0, layout, dtype), whole, rtol=1e-12 if dtype.itemsize > 4 else 0, atol=0
    )


@pytest.mark.parametrize(("heads", "kv_heads"), GROUPS)
def test_many_queries_in_bfloat16_lose_little_even_where_scores_are_in_the_hundreds(layout, heads, kv_heads):
    """A component that all keys share makes scores large, as in trained models. Small differences must survive."""
    n = 10 * layout.stride + layout.block
    q, keys = draw(n, heads, kv_heads, dim=64)
    q[..., 0] = 16 + q[..., 0].round()
    keys[..., 0] = 20
    q, keys = q.bfloat16().double(), keys.bfloat16().double()
    fine, coarse = (x.bfloat16() for x in pooled(keys, layout, torch.float64))
    found = block_scores(q.bfloat16(), fine, coarse, position=0, scale=0.6, layout=layout).double()
    exact = block_scores(q, fine.double(), coarse.double(), position=0, scale=0.6, layout=layout, backend="reference")
    seen = slice(8 * layout.stride, None)  # queries before have no coarse window, and their scores are not normalized
    assert ((found - exact)[:, seen].abs() <= 0.06 * exact[:, seen] + 1e-4).all()


def test_rows_longer_than_one_slice_are_the_definition():
    layout = BlockLayout(stride=1, block=4, init=1, local=1, slots=1)
    q, keys = draw(4100 + 8, 1, 1)
    found = scored(q[-2:], keys, len(q) - 2, layout)
    torch.testing.assert_close(
        found.double(), brute_force(q[-2:], keys, len(q) - 2, 0.6, layout), rtol=1e-6, atol=1e-12
    )


def test_large_products_do_not_overflow():
    """Products far beyond the range of exp are finite after the coarse logsumexp is subtracted."""
    layout = BlockLayout(stride=4, block=16, init=1, local=1, slots=2)
    keys = torch.full((1, 64, 4), 10.0)
    q = torch.full((64, 1, 4), 10.0)
    found = scored(q, keys, 0, layout, torch.float32)
    assert found[:, 31:].isfinite().all()
    torch.testing.assert_close(found[:, 63].amax(), torch.tensor(1 / 3), rtol=1e-3, atol=0)
