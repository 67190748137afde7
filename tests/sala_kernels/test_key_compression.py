"""Mean-pooled keys, compared with the mean; their bits do not depend on how many are computed at once."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sala_kernels import compress_keys, num_windows

SIZES = [(32, 16), (128, 64), (8, 4), (32, 16), (16, 2), (1, 1)]


@pytest.mark.parametrize(("size", "stride"), SIZES)
@pytest.mark.parametrize("n", [0, 1, 7, 8, 31, 32, 33, 47, 48, 127, 128, 129, 192, 300])
def test_every_whole_window_and_no_other_is_the_mean_of_its_keys(n, size, stride):
    torch.manual_seed(n)
    keys = torch.randn(2, n, 5, dtype=torch.float64)
    starts = [at for at in range(0, n, stride) if at + size <= n]
    out = compress_keys(keys, size=size, stride=stride)
    assert out.shape == (2, len(starts), 5)
    assert num_windows(n, size, stride) == len(starts)
    for j, at in enumerate(starts):
        torch.testing.assert_close(out[:, j], keys[:, at : at + size].mean(1), rtol=1e-12, atol=1e-12)


def test_bfloat16_is_summed_in_float32():
    keys = torch.ones(1, 512, 1, dtype=torch.bfloat16)
    keys[:, ::2] = 1.0078125
    out = compress_keys(keys, size=512, stride=128)
    assert out.dtype == torch.bfloat16
    assert out.item() == torch.tensor((1 + 1.0078125) / 2).bfloat16().item()


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_the_bits_of_a_window_do_not_depend_on_how_many_are_computed(data):
    """Keys arrive one at a time or in thousands. The pooled keys must be the same."""
    size, stride = data.draw(st.sampled_from(SIZES))
    dim = data.draw(st.sampled_from([1, 3, 8, 16, 64, 128]))
    dtype = data.draw(st.sampled_from([torch.float32, torch.bfloat16]))
    n = data.draw(st.integers(0, 400))
    generator = torch.Generator().manual_seed(n)
    capacity = n + data.draw(st.integers(0, 50))
    buffer = torch.full((2, capacity, dim), torch.nan, dtype=dtype)
    buffer[:, :n] = torch.randn(2, n, dim, generator=generator)
    whole = compress_keys(buffer[:, :n].contiguous(), size=size, stride=stride)
    made, at = [], 0
    while at < n:
        at = min(n, at + data.draw(st.integers(1, 150)))
        done = sum(part.shape[1] for part in made)
        made.append(compress_keys(buffer[:, done * stride : at], size=size, stride=stride))
    together = torch.cat(made, 1) if made else whole
    assert torch.equal(together, whole)
    assert not whole.isnan().any()
