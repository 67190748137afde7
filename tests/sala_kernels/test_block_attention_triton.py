"""The Triton kernels of block attention: edges of blocks and windows, unusual inputs, and offsets beyond 32 bits."""

import pytest
import torch
from sala_kernels import BlockLayout, block_attention, choose_blocks
from sala_kernels.block_attention import kernels
from sala_kernels.inspection.cases import relative_error
from sala_kernels.kv_quantization import QuantizedRows, dequantize_rows, quantize_rows

SCALE = 0.7
LARGE = BlockLayout(stride=16, block=64, init=1, local=2, slots=2)
SMALL = BlockLayout(stride=4, block=8, init=1, local=2, slots=3)

pytestmark = pytest.mark.usefixtures("poisoned")


@pytest.fixture(params=["tiles of queries", "keys split"])
def way(request, monkeypatch):
    """Use the prefill kernels or the decode kernels, for any number of queries."""
    monkeypatch.setattr(kernels, "_MAX_SPLIT_QUERIES", 0 if request.param == "tiles of queries" else 10**6)


def draw(position, T, layout, device, heads=3, kv_heads=1, d=16, dv=24):
    """q, k, v and randomly chosen blocks for T queries from `position` on."""
    generator = torch.Generator().manual_seed(position + 7 * T)
    n = position + T
    scores = torch.rand(kv_heads, T, -(-n // layout.block), generator=generator)
    chosen = choose_blocks(scores, position=position, layout=layout)
    shapes = [(T, heads, d), (kv_heads, n, d), (kv_heads, n, dv)]
    return *(torch.randn(*shape, generator=generator).to(device) for shape in shapes), chosen.to(device)


def check(q, k, v, chosen, position, layout, *, mass=False, limit=2e-6):
    """Compare Triton with the reference. Returns the output of Triton."""
    found = []
    for backend in ("triton", "reference"):
        given = torch.full((k.shape[1],), 2.0, device=q.device) if mass else None
        out = block_attention(
            q, k, v, chosen, position=position, scale=SCALE, layout=layout, mass=given, backend=backend
        )
        found.append([out, given] if mass else [out])
    for a, b in zip(*found, strict=True):
        assert relative_error(a, b) < limit
    return found[0][0]


@pytest.mark.usefixtures("way")
def test_edges_of_blocks_and_of_choosing(layout, device):
    """The first tokens, queries around where choosing begins, and both sides of a block's edge after that."""
    full = layout.max_blocks * layout.block
    for position, T in [(0, 2), (full - 2, 4), (full + layout.block - 1, 2)]:
        q, k, v, chosen = draw(position, T, layout, device)
        check(q, k, v, chosen, position, layout, mass=position > 0)
    check(q, k, v, None, position, layout)


def test_tiles_span_many_blocks_and_the_start_of_choosing(device, monkeypatch):
    monkeypatch.setattr(kernels, "_MAX_SPLIT_QUERIES", 0)
    q, k, v, chosen = draw(30, 43, SMALL, device, heads=2)
    check(q, k, v, chosen, 30, SMALL)
    check(q, k, v, None, 30, SMALL)


@pytest.mark.parametrize("kind", [None, "int8"])
def test_several_passes_over_the_queries_give_the_same(kind, device, monkeypatch):
    """Dense at first, then with a gap between the initial and the local blocks; as in one pass."""
    monkeypatch.setattr(kernels, "_MAX_SPLIT_QUERIES", 0)
    position, T = SMALL.max_blocks * SMALL.block - 3, 14
    q, k, v, chosen = draw(position, T, SMALL, device)
    if kind:
        k, v = quantize_rows(k, kind, backend="reference"), quantize_rows(v, kind, backend="reference")
    whole = check(q, k, v, chosen, position, SMALL)
    monkeypatch.setattr(kernels, "_PASS_QUERIES", 5)
    assert relative_error(check(q, k, v, chosen, position, SMALL), whole) < 1e-6


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("which", ["k", "v"])
def test_one_of_keys_and_values_may_be_quantized(which, device):
    position, T = 5 * LARGE.block + 60, 6
    q, k, v, chosen = draw(position, T, LARGE, device)
    if which == "k":
        k = quantize_rows(k, "fp8", backend="reference")
    else:
        v = quantize_rows(v, "int8", backend="reference")
    check(q, k, v, chosen, position, LARGE, mass=True)


@pytest.mark.parametrize("backend", ["reference", "triton"])
@pytest.mark.parametrize("kind", ["int8", "fp8"])
def test_quantized_attention_is_attention_to_the_dequantized_rows(backend, kind, device):
    position, T = 3 * SMALL.max_blocks * SMALL.block, 3
    q, k, v, chosen = draw(position, T, SMALL, device)
    k, v = quantize_rows(k, kind, backend="reference"), quantize_rows(v, kind, backend="reference")
    out = block_attention(q, k, v, chosen, position=position, scale=SCALE, layout=SMALL, backend=backend)
    whole = [dequantize_rows(x, backend="reference") for x in (k, v)]
    expected = block_attention(q, *whole, chosen, position=position, scale=SCALE, layout=SMALL, backend="reference")
    assert relative_error(out, expected) < 1e-6


@pytest.mark.usefixtures("way")
def test_inputs_may_be_views(device):
    """Queries are a view of a wider projection, keys and values of a longer cache, chosen blocks of a larger tensor."""
    position, T = SMALL.max_blocks * SMALL.block + 5, 4
    q, k, v, chosen = draw(position, T, SMALL, device, heads=4, kv_heads=2)
    expected = block_attention(q, k, v, chosen, position=position, scale=SCALE, layout=SMALL, backend="reference")
    wide = torch.full((T, 9, 40), torch.nan, device=device)
    wide[:, 3:7, 8:24] = q
    caches = [torch.full((2, position + T + 9, x.shape[2] + 8), torch.nan, device=device) for x in (k, v)]
    for cache, x in zip(caches, (k, v), strict=True):
        cache[:, : position + T, 8:] = x
    spread = torch.full((2, T, 2 * SMALL.slots), 10**6, device=device)
    spread[..., ::2] = chosen
    keys, values = (cache[:, : position + T + 2, 8:] for cache in caches)
    for picked in (spread[..., ::2], chosen.to(torch.int32)):
        out = block_attention(
            wide[:, 3:7, 8:24], keys, values, picked, position=position, scale=SCALE, layout=SMALL, backend="triton"
        )
        assert relative_error(out, expected) < 1e-6


@pytest.mark.usefixtures("way")
def test_large_scores_do_not_overflow(device):
    position, T = SMALL.max_blocks * SMALL.block, 3
    q, k, v, chosen = draw(position, T, SMALL, device)
    check(q * 1e4, k, v, chosen, position, SMALL, limit=1e-3)


@pytest.mark.usefixtures("way")
def test_the_same_inputs_give_the_same_bits(device):
    q, k, v, chosen = draw(100, 4, SMALL, device)
    first, second = (
        block_attention(q, k, v, chosen, position=100, scale=SCALE, layout=SMALL, backend="triton") for _ in range(2)
    )
    assert torch.equal(first, second)


@pytest.mark.usefixtures("way")
def test_rows_beyond_two_billion_numbers_are_read(device):
    """Offsets of a kv head and of a token beyond 32 bits. A CPU does not allocate pages that are never touched."""
    torch.utils.deterministic.fill_uninitialized_memory = False
    n, T = 2**27 + 5000, 2
    position = n - T
    numbers = torch.arange(16, dtype=torch.int8, device=device)
    data = torch.empty(2, n, 16, dtype=torch.int8, device=device)
    scale = torch.empty(2, n, device=device)
    local = (position // LARGE.block - LARGE.local + 1) * LARGE.block
    far = torch.tensor([[[3, 2**27 // 64 + 9], [70000, -1]], [[2**20, 5], [2**27 // 64 + 20, 9]]], device=device)
    places = [(0, LARGE.block), (local, n), *((b * 64, b * 64 + 64) for b in far.flatten().tolist() if b >= 0)]
    for head in range(2):
        for start, stop in places:
            token = torch.arange(start, stop, device=device)[:, None]
            data[head, start:stop] = ((token * 7 + token // 64 + 31 * head + numbers * (token % 5)) % 200 - 100).to(
                torch.int8
            )
            scale[head, start:stop] = 0.01
    rows = QuantizedRows(data=data, scale=scale)
    q = torch.randn(T, 4, 16, generator=torch.Generator().manual_seed(0)).to(device)
    check(q, rows, rows, far, position, LARGE)


def test_each_query_s_own_mass_is_that_of_the_reference(device):
    q, k, v, _ = draw(70, 3, SMALL, device)
    found = []
    for backend in ("triton", "reference"):
        mass = torch.full((3, 73), 2.0, device=device)
        out = block_attention(q, k, v, None, position=70, scale=SCALE, layout=SMALL, mass=mass, backend=backend)
        found.append((out, mass))
    for a, b in zip(*found, strict=True):
        assert relative_error(a, b) < 2e-6


def test_inputs_that_the_kernels_do_not_support_are_refused(device):
    q, k, v, chosen = draw(100, 2, SMALL, device)

    def attend(q=q, k=k, v=v, chosen=chosen, position=100, scale=1.0, mass=None):
        block_attention(q, k, v, chosen, position=position, scale=scale, layout=SMALL, mass=mass, backend="triton")

    for message, arguments in [
        ("heads", {"k": k.expand(2, -1, -1), "v": v.expand(2, -1, -1)}),
        ("heads of", {"k": k[..., :8]}),
        ("keys are attended to", {"position": 101}),
        ("as queries are", {"k": k.half()}),
        ("dense in d", {"v": v.transpose(1, 2).contiguous().transpose(1, 2)}),
        ("chosen must be", {"chosen": chosen[..., 1:]}),
        ("positive", {"scale": -1.0}),
        ("mass", {"mass": torch.zeros(102, device=device).half()}),
        ("mass", {"mass": torch.zeros(101, device=device)}),
    ]:
        with pytest.raises(ValueError, match=message):
            attend(**arguments)
