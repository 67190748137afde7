"""Kernels of lightning attention in cases that `cases.py` does not cover: tiles of all GPUs, segments, views."""

import pytest
import torch
from sala_kernels import (
    apply_rotary,
    lightning_advance,
    lightning_attention,
    lightning_decode,
    lightning_log_decay,
    lightning_verify,
    rms_norm,
    rotary_cos_sin,
)
from sala_kernels.inspection.cases import relative_error

pytestmark = pytest.mark.usefixtures("poisoned")


def random_inputs(device, B, T, H, K, V, kv_heads=None, dtype=torch.float32):
    """Random q, k, v [B, T, heads, .] and a state."""
    generator = torch.Generator().manual_seed(B + 3 * T + 5 * H + 7 * K + 11 * V)
    kv_heads = kv_heads or H
    shapes = [(B, T, H, K), (B, T, kv_heads, K), (B, T, kv_heads, V)]
    q, k, v = (torch.randn(shape, generator=generator).to(device, dtype) for shape in shapes)
    return q, k, v, torch.randn(B, H, K, V, generator=generator).to(device)


def check(found, expected, limit=1e-5):
    for name, f, e in zip(("o", "state"), found, expected, strict=True):
        assert relative_error(f, e) <= limit, name


# those of sm_90, those of other GPUs, and more than one tile of values
TILES = [(64, 32, 64, True, 4), (32, 32, 64, False, 4), (32, 32, 16, False, 4)]


@pytest.mark.parametrize(("C", "BK", "BV", "decay_values", "num_warps"), TILES)
@pytest.mark.parametrize("T", [1, 31, 32, 33, 63, 64, 65, 257, 321])
def test_every_tile_gives_the_reference(device, monkeypatch, T, C, BK, BV, decay_values, num_warps):
    from sala_kernels.lightning_attention import kernels_prefill

    tiles = kernels_prefill._Tiles(C=C, BK=BK, BV=BV, decay_values=decay_values, num_warps=num_warps, num_stages=2)
    monkeypatch.setattr(kernels_prefill, "_tiles", lambda q, K, V: tiles)
    q, k, v, state = random_inputs(device, 1, T, 2, 20, 24, kv_heads=1)
    decay = lightning_log_decay(2, device)
    run = [lightning_attention(q, k, v, state, decay, scale=0.3, backend=b) for b in ("triton", "reference")]
    check(*run)


@pytest.mark.parametrize("T", [1, 255, 256, 257, 8192, 70001, 1 << 21])
@pytest.mark.parametrize("num_rows", [1, 8, 64, 5000])
def test_segments_are_whole_blocks_of_bounded_length(T, num_rows):
    from sala_kernels.lightning_attention import kernels_prefill

    for C, num_warps in ((16, 8), (32, 4), (64, 8)):
        tiles = kernels_prefill._Tiles(C=C, BK=16, BV=16, decay_values=False, num_warps=num_warps, num_stages=2)
        segment = kernels_prefill._segment_tokens(T, num_rows, tiles)
        assert segment % C == 0
        assert 256 <= segment <= 2048


@pytest.mark.parametrize("cut", [1, 15, 16, 100, 256, 300])
def test_two_calls_with_the_state_between_them_equal_one_call(device, cut):
    q, k, v, state = random_inputs(device, 1, 320, 1, 16, 16)
    decay = lightning_log_decay(1, device)

    def run(start, stop, before):
        part = (x[:, start:stop] for x in (q, k, v))
        return lightning_attention(*part, before, decay, scale=1.0, backend="triton")

    whole, end = run(0, 320, state)
    first, between = run(0, cut, state)
    second, after = run(cut, 320, between)
    check((torch.cat([first, second], 1), after), (whole, end))


def test_inputs_are_not_changed_and_the_same_inputs_give_the_same_bits(device):
    given = random_inputs(device, 2, 300, 2, 16, 16)
    before = [x.clone() for x in given]
    decay = lightning_log_decay(2, device)
    first, second = (lightning_attention(*given, decay, scale=1.0, backend="triton") for _ in range(2))
    assert all(torch.equal(x, y) for x, y in zip(given, before, strict=True))
    assert all(torch.equal(x, y) for x, y in zip(first, second, strict=True))


def test_tokens_far_from_the_end_of_a_segment_count_until_they_decay_to_zero(device):
    """Only tokens that decay to exp(-80) by the end of the first segment have values other than 0."""
    q, k, v, state = random_inputs(device, 1, 260, 1, 16, 16)
    v[:, 176:] = 0
    decay = torch.tensor([-1.0], device=device)
    run = [lightning_attention(q, k, v, 0 * state, decay, scale=1.0, backend=b) for b in ("triton", "reference")]
    assert 0 < float(run[1][1].abs().max()) < 1e-30
    check(*((o[:, 256:], after) for o, after in run), limit=1e-4)


@pytest.mark.parametrize("slope", [0.0, 2.0**-8, 0.84, 1.5, 100.0, 1e5])
def test_no_decay_overflows_and_long_inputs_stay_precise(device, slope):
    q, k, v, state = random_inputs(device, 1, 1100, 1, 16, 16)
    decay = torch.tensor([-slope], device=device)
    found = lightning_attention(q, k, v, state, decay, scale=1.0, backend="triton")
    wide = (x.double() for x in (q, k, v, state, decay))
    o, after = lightning_attention(*wide, scale=1.0, backend="reference")
    check(found, (o.float(), after.float()))


def test_a_state_beyond_float16_stays_finite(device):
    q, k, v = (torch.full((1, 200, 1, 16), x, dtype=torch.float16, device=device) for x in (1e-3, 100, 100))
    state, decay = torch.zeros(1, 1, 16, 16, device=device), torch.zeros(1, device=device)
    run = [lightning_attention(q, k, v, state, decay, scale=0.25, backend=b) for b in ("triton", "reference")]
    assert float(run[1][1].max()) > 1e6
    check(*run, limit=2e-3)


def test_views_are_read_in_place(device):
    """A [B, T, H, .] view of [B, H, T, .], a last dimension that is not contiguous, and a state that is not."""
    q, k, v, state = random_inputs(device, 2, 40, 3, 16, 8)
    decay = lightning_log_decay(3, device)
    expected = lightning_attention(q, k, v, state, decay, scale=1.0, backend="reference")
    q = q.transpose(1, 2).contiguous().transpose(1, 2)
    k = k.transpose(2, 3).contiguous().transpose(2, 3)
    state = state.transpose(2, 3).contiguous().transpose(2, 3)
    check(lightning_attention(q, k, v, state, decay, scale=1.0, backend="triton"), expected)


@pytest.fixture(scope="module")
def vast(device) -> torch.Tensor:
    """More float16 numbers than 32 bits can count. A CPU does not allocate pages that are never touched."""
    before = torch.utils.deterministic.fill_uninitialized_memory
    torch.utils.deterministic.fill_uninitialized_memory = False
    numbers = torch.empty(2**31 + (1 << 24), dtype=torch.float16, device=device)
    torch.utils.deterministic.fill_uninitialized_memory = before
    return numbers


@pytest.mark.parametrize("token_stride", [1 << 24, 1 << 26], ids=["read in place", "copied"])
def test_tokens_beyond_two_to_the_31_elements(device, vast, token_stride):
    T = vast.numel() // token_stride
    q, k, v, state = random_inputs(device, 1, T, 1, 16, 16, dtype=torch.float16)
    far = vast.as_strided((1, T, 1, 16), (0, token_stride, 16, 1))
    far.copy_(k)
    decay = lightning_log_decay(1, device)
    near = lightning_attention(q, k, v, state, decay, scale=1.0, backend="triton")
    for given in ((q, far, v), (far, k, v), (q, k, far)):
        expected = lightning_attention(*(x.clone() for x in given), state, decay, scale=1.0, backend="triton")
        found = lightning_attention(*given, state, decay, scale=1.0, backend="triton")
        assert all(torch.equal(x, y) for x, y in zip(found, expected, strict=True))
    assert all(torch.isfinite(x).all() for x in near)


def test_decode_of_sequences_beyond_two_to_the_31_elements(device, vast):
    near, _, _, state = random_inputs(device, 3, 1, 1, 16, 16, dtype=torch.float16)
    near = near[:, 0]
    far = vast.as_strided((3, 1, 16), (2**30, 16, 1))
    far.copy_(near)
    decay, other = lightning_log_decay(1, device), state.clone()
    found = lightning_decode(far, far, far, state, decay, scale=1.0, backend="triton")
    assert torch.equal(found, lightning_decode(near, near, near, other, decay, scale=1.0, backend="triton"))
    assert torch.equal(state, other)


def test_tokens_verified_and_advanced_beyond_two_to_the_31_elements(device, vast):
    near, _, _, state = random_inputs(device, 3, 1, 1, 16, 16, dtype=torch.float16)
    near, state = near[:, 0], state[:1]
    far = vast.as_strided((3, 1, 16), (2**30, 16, 1))
    far.copy_(near)
    decay = lightning_log_decay(1, device)
    states = []
    for x in (near, far):
        found = lightning_verify(x, x, x, state[0], decay, scale=1.0, backend="triton")
        states.append(state.clone())
        lightning_advance(states[-1], x[None], x[None], decay, 3, backend="triton")
        states += found
    assert all(torch.equal(x, y) for x, y in zip(states[:3], states[3:], strict=True))
    assert not torch.equal(states[0], state)


@pytest.mark.parametrize("backend", ["reference", "triton"])
def test_decode_normalizes_and_rotates_as_the_separate_operations(device, backend):
    q, k, v, state = random_inputs(device, 3, 1, 4, 32, 20, kv_heads=2)
    weights = torch.randn(2, 32, generator=torch.Generator().manual_seed(0)).to(device)
    decay, other = lightning_log_decay(4, device), state.clone()
    for cos_sin in (rotary_cos_sin(70000, 1, 32, 10000.0, device), rotary_cos_sin(70000, 3, 32, 10000.0, device)):
        found = lightning_decode(
            *(x[:, 0] for x in (q, k, v)),
            state,
            decay,
            scale=0.2,
            q_norm=weights[0],
            k_norm=weights[1],
            eps=1e-3,
            cos_sin=cos_sin,
            backend=backend,
        )
        ready = (
            apply_rotary(rms_norm(x[:, 0], w, 1e-3, backend="reference"), cos_sin, backend="reference")
            for x, w in zip((q, k), weights, strict=True)
        )
        expected = lightning_decode(*ready, v[:, 0], other, decay, scale=0.2, backend="reference")
        check((found, state), (expected, other))


@pytest.mark.parametrize("backend", ["reference", "triton"])
def test_shared_heads_equal_repeated_heads(device, backend):
    q, k, v, state = random_inputs(device, 1, 20, 6, 16, 16, kv_heads=2)
    decay = lightning_log_decay(6, device)
    found = lightning_attention(q, k, v, state, decay, scale=1.0, backend=backend)
    wide = (x.repeat_interleave(3, 2) for x in (k, v))
    check(found, lightning_attention(q, *wide, state, decay, scale=1.0, backend="reference"))


def test_a_count_beyond_the_tokens_reads_no_token_after_the_last(device):
    """Only the device knows such a count. Addresses are checked in every test here."""
    random = torch.Generator().manual_seed(1)
    ks, vs = (torch.randn(2, 3, 2, 16, generator=random).to(device) for _ in range(2))
    states = torch.randn(2, 2, 16, 16, generator=random).to(device)
    expected = states.clone()
    log_decay = lightning_log_decay(2, device)
    lightning_advance(expected, ks, vs, log_decay, 3, backend="triton")
    count = torch.tensor([9], device=device)
    lightning_advance(states, ks, vs, log_decay, count, backend="triton")
    assert torch.equal(states, expected)


def test_arguments_that_do_not_fit_are_refused(device):
    q, k, v, state = random_inputs(device, 1, 4, 4, 16, 16)
    decay = lightning_log_decay(4, device)
    for wrong in [
        (q, k[:, :, :3], v[:, :, :3], state, decay),
        (q, k[:, :3], v, state, decay),
        (q, k, v[:, :3], state, decay),
        (q, k[..., :8], v, state, decay),
        (q, k, v, state[:, :, :8], decay),
        (q, k, v, state, decay[:3]),
    ]:
        with pytest.raises(ValueError, match=r"fit|needed"):
            lightning_attention(*wrong, scale=1.0)
    with pytest.raises(ValueError, match="one dtype"):
        lightning_attention(q.half(), k, v, state, decay, scale=1.0, backend="triton")
    q, k, v = (x[:, 0] for x in (q, k, v))
    with pytest.raises(ValueError, match="contiguous"):
        lightning_decode(q, k, v, state.transpose(2, 3), decay, scale=1.0, backend="triton")
    with pytest.raises(ValueError, match="one dtype"):
        lightning_decode(q.half(), k, v, state, decay, scale=1.0, backend="triton")
    cos_sin = rotary_cos_sin(0, 2, 16, 1e4, device)
    with pytest.raises(ValueError, match="cos_sin"):
        lightning_decode(q, k, v, state, decay, scale=1.0, cos_sin=cos_sin, backend="triton")
