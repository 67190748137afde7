"""Linear attention in chunks, compared with the recurrence that defines it, token by token."""

import math

import pytest
import torch
from sala_kernels import lightning_attention, lightning_decode, lightning_log_decay


def recurrence(q, k, v, state, log_decay, scale):
    """The definition in float64, token by token. Shapes as in `lightning_attention`."""
    S = state.double().clone()
    outputs = []
    for t in range(q.shape[1]):
        S = S * torch.exp(log_decay.double())[:, None, None]
        S = S + torch.einsum("bhk,bhv->bhkv", k[:, t].double(), v[:, t].double())
        outputs.append(torch.einsum("bhk,bhkv->bhv", q[:, t].double() * scale, S))
    return torch.stack(outputs, 1), S


def inputs(B, T, H, K, V, dtype=torch.float64):
    generator = torch.Generator().manual_seed(B + 3 * T + 5 * H + 7 * K + 11 * V)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

    state_dtype = torch.float64 if dtype == torch.float64 else torch.float32
    return draw(B, T, H, K), draw(B, T, H, K), draw(B, T, H, V), draw(B, H, K, V).to(state_dtype)


def rms_error(found, expected):
    return float((found.double() - expected).square().mean().sqrt() / expected.square().mean().sqrt())


@pytest.mark.parametrize("chunk", [1, 7, 64, 128])
@pytest.mark.parametrize("T", [1, 2, 63, 64, 65, 129, 200])
def test_any_length_and_chunk_size_give_the_recurrence(T, chunk):
    q, k, v, state = inputs(2, T, 3, 4, 6)
    decay = lightning_log_decay(3)
    o, after = lightning_attention(q, k, v, state, decay, scale=0.5, chunk=chunk)
    expected, end = recurrence(q, k, v, state, decay, 0.5)
    torch.testing.assert_close(o, expected, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(after, end, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("K", "V"), [(16, 16), (8, 24), (24, 8), (1, 5)])
@pytest.mark.parametrize(("dtype", "limit"), [(torch.float32, 1e-6), (torch.bfloat16, 4e-3)])
def test_float32_and_bfloat16_are_close(K, V, dtype, limit):
    q, k, v, state = inputs(1, 333, 8, K, V, dtype)
    decay = lightning_log_decay(8)
    o, after = lightning_attention(q, k, v, state, decay, scale=K**-0.5)
    expected, end = recurrence(q, k, v, state, decay, K**-0.5)
    assert (o.dtype, after.dtype) == (dtype, torch.float32)
    assert rms_error(o, expected) < limit
    assert rms_error(after, end) < 1e-6


@pytest.mark.parametrize(("K", "V"), [(32, 32), (8, 24)])
def test_without_gradients_scores_are_rounded_and_states_are_not(K, V):
    """In bfloat16, the error of the sums is smaller than the rounding error of an input."""
    q, k, v, state = inputs(1, 333, 8, K, V, torch.bfloat16)
    decay = lightning_log_decay(8)
    expected, end = recurrence(q, k, v, state, decay, K**-0.5)
    exact, _ = lightning_attention(q, k, v, state, decay, scale=K**-0.5, backend="reference")
    with torch.no_grad():
        o, after = lightning_attention(q, k, v, state, decay, scale=K**-0.5)
        exact_without_gradients, _ = lightning_attention(q, k, v, state, decay, scale=K**-0.5, backend="reference")
        wide = [x.float() for x in (q, k, v)]
        same, _ = lightning_attention(*wide, state, decay, scale=K**-0.5)
    assert (o.dtype, after.dtype) == (torch.bfloat16, torch.float32)
    assert rms_error(after, end) < 1e-6
    assert rms_error(same, expected) < 1e-6
    assert torch.equal(exact_without_gradients, exact)
    assert not torch.equal(o, exact)
    assert rms_error(o, expected) < 2**-8


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("B", "T", "H"), [(1, 40, 2), (1, 64, 1), (2, 1, 1)])
def test_inputs_are_not_changed(B, T, H, dtype):
    given = inputs(B, T, H, 4, 4, dtype)
    before = [x.clone() for x in given]
    with torch.no_grad():
        lightning_attention(*given, lightning_log_decay(H), scale=1.0)
    assert all(torch.equal(x, y) for x, y in zip(given, before, strict=True))


@pytest.mark.parametrize("cut", [1, 63, 100, 199])
def test_two_calls_with_the_state_between_them_equal_one_call(cut):
    q, k, v, state = inputs(1, 200, 4, 8, 8)
    decay = lightning_log_decay(4)
    whole, end = lightning_attention(q, k, v, state, decay, scale=1.0)
    first, between = lightning_attention(q[:, :cut], k[:, :cut], v[:, :cut], state, decay, scale=1.0)
    second, after = lightning_attention(q[:, cut:], k[:, cut:], v[:, cut:], between, decay, scale=1.0)
    torch.testing.assert_close(torch.cat([first, second], 1), whole, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(after, end, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("T", [1, 5])
def test_gradients_flow_through_every_argument(T):
    q, k, v, state = inputs(1, T, 2, 2, 3)
    decay = lightning_log_decay(2).double()
    for x in (q, k, v, state, decay):
        x.requires_grad_()

    def run(*given: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return lightning_attention(*given, scale=0.7, chunk=2)

    assert torch.autograd.gradcheck(run, (q, k, v, state, decay))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_decode_is_one_step_of_attention(dtype):
    q, k, v, state = inputs(3, 1, 5, 6, 4, dtype)
    decay = lightning_log_decay(5)
    o, after = lightning_attention(q, k, v, state, decay, scale=6**-0.5)
    decode_state = state.clone()
    step = lightning_decode(q[:, 0], k[:, 0], v[:, 0], decode_state, decay, scale=6**-0.5)
    assert step.dtype == dtype
    rounding = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 1e-2}[dtype]
    torch.testing.assert_close(step, o[:, 0], rtol=rounding, atol=rounding)
    torch.testing.assert_close(decode_state, after, rtol=1e-6, atol=1e-6)


def test_decoding_token_by_token_is_the_recurrence():
    q, k, v, state = inputs(2, 50, 3, 4, 5)
    decay = lightning_log_decay(3)
    expected, end = recurrence(q, k, v, state, decay, 0.3)
    steps = [lightning_decode(q[:, t], k[:, t], v[:, t], state, decay, scale=0.3) for t in range(50)]
    torch.testing.assert_close(torch.stack(steps, 1), expected, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(state, end, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_query_is_scaled_in_the_computing_dtype(dtype):
    """A query rounded once more after scaling would differ by up to one part in 256 in bfloat16."""
    q, k, v, state = inputs(1, 70, 2, 4, 4, dtype)
    decay = lightning_log_decay(2)
    o, _ = lightning_attention(q, k, v, state, decay, scale=0.3)
    wide, _ = lightning_attention(q.float(), k.float(), v.float(), state, decay, scale=0.3)
    assert torch.equal(o, wide.to(dtype))


@pytest.mark.parametrize("num_heads", [1, 2, 4, 8, 32])
def test_slopes_of_a_power_of_two_are_geometric(num_heads):
    expected = [-(2.0 ** (-8.0 * (j + 1) / num_heads)) for j in range(num_heads)]
    assert lightning_log_decay(num_heads).tolist() == pytest.approx(expected, rel=1e-7)


@pytest.mark.parametrize("num_heads", [3, 5, 6, 7, 12, 24, 33])
def test_slopes_of_other_counts_follow_alibi(num_heads):
    """The slopes of the next lower power of two, then the 1st, 3rd, 5th ... slope of the next higher one."""
    lower = 1 << (num_heads.bit_length() - 1)
    expected = [2.0 ** (-8.0 * (j + 1) / lower) for j in range(lower)]
    expected += [2.0 ** (-4.0 * (2 * j + 1) / lower) for j in range(num_heads - lower)]
    found = lightning_log_decay(num_heads)
    assert (-found).tolist() == pytest.approx(expected, rel=1e-7)
    assert len(set(found.tolist())) == num_heads


def test_slopes_of_twelve_heads_as_published():
    """The values of the ALiBi rule for 12 heads (arXiv:2108.12409)."""
    expected = [2**-e for e in (1, 2, 3, 4, 5, 6, 7, 8, 0.5, 1.5, 2.5, 3.5)]
    assert (-lightning_log_decay(12)).tolist() == pytest.approx(expected)


def test_a_long_input_neither_overflows_nor_loses_the_slow_head():
    T = 5000
    decay = lightning_log_decay(8)
    ones = torch.ones(1, T, 8, 1)
    _, after = lightning_attention(ones, ones, ones, torch.zeros(1, 8, 1, 1), decay, scale=1.0)
    geometric = [(1 - math.exp(d * T)) / (1 - math.exp(d)) for d in decay.double().tolist()]
    assert after.flatten().tolist() == pytest.approx(geometric, rel=1e-5)
