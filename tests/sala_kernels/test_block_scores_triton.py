"""Block scores by Triton: edges of windows and blocks, splits of the keys, infinite scores, slices of queries."""

import importlib

import pytest
import torch
from sala_kernels import BlockLayout, block_scores, choose_blocks, num_windows
from sala_kernels.inspection.cases import relative_error

LIMIT = 1e-5


def draw(n, device, *, T, heads=4, kv_heads=2, dim=16, stride=4, dtype=torch.float32):
    """Queries for the last T of n tokens, and pooled keys of all n."""
    generator = torch.Generator().manual_seed(n + heads)
    q = torch.randn(T, heads, dim, generator=generator)
    k1 = torch.randn(kv_heads, num_windows(n, 2 * stride, stride), dim, generator=generator)
    k2 = torch.randn(kv_heads, num_windows(n, 8 * stride, 4 * stride), dim, generator=generator)
    return [x.to(device, dtype) for x in (q, k1, k2)]


def error(tensors, position, layout, scale=0.25):
    call = {"position": position, "scale": scale, "layout": layout}
    found, expected = (block_scores(*tensors, **call, backend=backend) for backend in ("triton", "reference"))
    return relative_error(found, expected)


@pytest.mark.usefixtures("poisoned")
def test_a_single_query_at_every_edge_of_a_window_and_a_block(layout, device):
    stride = layout.stride
    edges = {2 * stride, 3 * stride, 8 * stride, 12 * stride, layout.block, 2 * layout.block, 5 * layout.block}
    for position in sorted({edge + near for edge in edges for near in (-2, -1, 0)}):
        tensors = draw(position + 1, device, T=1, stride=stride)
        assert error(tensors, position, layout) < LIMIT, position


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize("T", [16, 17, 65])
def test_many_queries_some_before_the_first_window(layout, T, device):
    for position in (0, 8 * layout.stride - 3):
        tensors = draw(position + T, device, T=T, stride=layout.stride)
        assert error(tensors, position, layout) < LIMIT


@pytest.mark.parametrize("T", [1, 3, 70])
def test_splitting_the_coarse_windows_changes_nothing(T, device, monkeypatch):
    """Splits of several tiles. The last tile is short, and of many queries only the last one sees it."""
    layout = BlockLayout(stride=1, block=8, init=1, local=1, slots=1)
    decode = importlib.import_module("sala_kernels.block_scores.kernels_decode")
    prefill = importlib.import_module("sala_kernels.block_scores.kernels_prefill")
    tensors = draw(200 + T, device, T=T, heads=6, stride=1)
    for splits in (1, 3, 5):
        monkeypatch.setattr(decode, "_WINDOWS", 16)
        monkeypatch.setattr(decode, "_SPLITS", splits)
        monkeypatch.setattr(prefill, "_coarse_tile", lambda q, columns: (32, 16, 4, 1))
        monkeypatch.setattr(prefill, "_TILES", 1)
        monkeypatch.setattr(prefill, "_PROGRAMS", 6 * 3 * splits)  # 3 tiles of queries
        assert error(tensors, 200, layout) < LIMIT, splits


@pytest.mark.filterwarnings("ignore:overflow encountered")
@pytest.mark.parametrize("T", [2, 24])
def test_only_blocks_that_overlap_an_infinite_window_are_infinite(T, device):
    layout = BlockLayout(stride=4, block=16, init=1, local=1, slots=1)
    q, k1, k2 = draw(1200, device, T=T)
    k1[:, 120] = 4000 * q[1, ::2]  # the first window of block 30, which no other block overlaps
    k1[:, 123] = 4000 * q[1, ::2]  # its last window, which overlaps block 31
    position = 1200 - T
    found = block_scores(q, k1, k2, position=position, scale=1.0, layout=layout, backend="triton")
    assert found[:, 1].isinf().nonzero()[:, 1].tolist() == [30, 31] * 2
    assert error([q, k1, k2], position, layout, scale=1.0) < 1e-4
    chosen = choose_blocks(found, position=position, layout=layout)
    assert (chosen[:, 1] == 30).all()


@pytest.mark.parametrize("T", [1, 18])
def test_half_precision_and_mixed_dtypes(T, device):
    layout = BlockLayout(stride=4, block=16, init=1, local=1, slots=1)
    q, k1, k2 = draw(500, device, T=T, dtype=torch.float16)
    assert error([q, k1, k2], 500 - T, layout) < LIMIT
    assert error([q.float(), k1, k2], 500 - T, layout) < LIMIT


def test_a_window_gives_both_blocks_that_it_overlaps_the_same_bits(device):
    """Also where the blocks are in two tiles: of equal scores, the earlier block must be chosen."""
    layout = BlockLayout(stride=4, block=16, init=1, local=1, slots=1)
    for T in (1, 17):
        q, k1, k2 = draw(1000 + T, device, T=T)
        k1[:, 3::4] = 3 * q[0, ::2, None]  # each block's last window scores highest
        scores = block_scores(q, k1, k2, position=1000, scale=1.0, layout=layout, backend="triton")[:, 0]
        for tile in (15, 30, 45):  # where tiles begin: 16 slots, one of them the block before
            assert torch.equal(scores[:, tile], scores[:, tile - 1])


@pytest.mark.parametrize("backend", ["triton", "reference"])
def test_queries_of_many_blocks_are_scored_and_choose_as_in_small_calls(layout, backend, device):
    position = layout.max_blocks * layout.block + 3
    T = 22
    q, k1, k2 = draw(position + T, device, T=T, stride=layout.stride)
    whole = block_scores(q, k1, k2, position=position, scale=0.25, layout=layout, backend=backend)
    choice = choose_blocks(whole, position=position, layout=layout, backend=backend)
    for start in range(0, T, 8):
        at, part = position + start, q[start : start + 8]
        scores = block_scores(part, k1, k2, position=at, scale=0.25, layout=layout, backend="reference")
        torch.testing.assert_close(whole[:, start : start + 8, : scores.shape[-1]], scores, rtol=1e-4, atol=1e-6)
        own = choose_blocks(whole[:, start : start + 8], position=at, layout=layout, backend="reference")
        assert torch.equal(choice[:, start : start + 8], own)


@pytest.mark.parametrize("backend", ["triton", "reference"])
def test_missing_windows_and_wrong_shapes_are_refused(backend):
    layout = BlockLayout(stride=4, block=16, init=1, local=1, slots=1)
    q, k1, k2 = draw(100, torch.device("cpu"), T=3)
    call = {"position": 97, "scale": 1.0, "layout": layout, "backend": backend}
    with pytest.raises(ValueError, match="k1 must be"):
        block_scores(q, k1[:, 1:], k2, **call)
    with pytest.raises(ValueError, match="k2 must be"):
        block_scores(q, k1, k2[:1], **call)
    with pytest.raises(ValueError, match="k2 must be"):
        block_scores(q, k1, k2[..., 1:], **call)
    with pytest.raises(ValueError, match="cannot share"):
        block_scores(q[:, :3], k1, k2, **call)
    with pytest.raises(ValueError, match="positive"):
        block_scores(q, k1, k2, **{**call, "scale": 0.0})


def test_more_windows_of_a_block_than_a_tile_has_are_refused():
    q, k1, k2 = draw(400, torch.device("cpu"), T=1)
    wide = BlockLayout(stride=4, block=132, init=1, local=1, slots=1)
    with pytest.raises(ValueError, match="up to 32"):
        block_scores(q, k1, k2, position=399, scale=1.0, layout=wide, backend="triton")


def test_queries_with_strides_beyond_32_bits_are_copied(device):
    layout = BlockLayout(stride=4, block=16, init=1, local=1, slots=1)
    q, k1, k2 = draw(200, device, T=20, heads=1, kv_heads=1)
    far = q.as_strided(q.shape, (q.stride(0), 2**31, 1))  # one head, so that no memory is needed in between
    assert error([far, k1, k2], 180, layout) < LIMIT
