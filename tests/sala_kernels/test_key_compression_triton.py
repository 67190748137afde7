"""Pooled keys written to rows of a cache: only the requested rows, and the same bits in any division into calls."""

import pytest
import torch
from sala_kernels import compress_keys, compress_keys_into, num_windows

SIZES = [(32, 16), (128, 64), (12, 4), (1, 1)]


def cached_keys(n, dim, device, dtype=torch.float32):
    """Keys [3, n, dim] in a larger buffer, with NaN after them."""
    buffer = torch.full((3, n + 9, dim), torch.nan, dtype=dtype)
    buffer[:, :n] = torch.randn(3, n, dim, generator=torch.Generator().manual_seed(n)).to(dtype)
    return buffer.to(device)[:, :n]


@pytest.mark.parametrize("backend", ["triton", "reference"])
@pytest.mark.parametrize(("size", "stride"), SIZES)
@pytest.mark.parametrize("dim", [5, 64])
def test_windows_have_the_same_bits_in_any_division_into_calls(size, stride, dim, backend, device):
    n = 9 * stride + size + stride // 2
    keys = cached_keys(n, dim, device)
    whole = compress_keys(keys, size=size, stride=stride, backend=backend)
    cache = torch.full((3, whole.shape[1] + 6, dim), 7.0, device=device)
    done = 0
    for end in (size - 1, size, size + 1, size + 3 * stride, n - 1, n):
        made = num_windows(end, size, stride)
        rows = cache[:, 2 + done : 2 + made]
        compress_keys_into(keys[:, :end], rows, first=done, size=size, stride=stride, backend=backend)
        done = made
    assert done == whole.shape[1]
    assert torch.equal(cache[:, 2 : 2 + done], whole)
    assert (cache[:, :2] == 7).all()
    assert (cache[:, 2 + done :] == 7).all()


def test_half_precision_is_summed_in_float32(device):
    keys = cached_keys(160, 24, device, torch.float16)
    found = compress_keys(keys, size=128, stride=32, backend="triton")
    assert found.dtype == torch.float16
    assert torch.equal(found, compress_keys(keys.double(), size=128, stride=32).half())


def test_keys_of_any_strides_are_read_and_rows_of_any_strides_written(device):
    tokens = cached_keys(40, 6, device).permute(1, 2, 0)  # [n, 6, 3]
    keys = tokens.permute(1, 0, 2)  # [6 heads, n, 3], no dimension contiguous
    target = torch.zeros(3, 9, 6, device=device).permute(2, 1, 0)
    compress_keys_into(keys, target, first=0, size=8, stride=4, backend="triton")
    torch.testing.assert_close(target, compress_keys(keys, size=8, stride=4, backend="reference"))


@pytest.mark.parametrize("backend", ["triton", "reference"])
@pytest.mark.parametrize(
    ("first", "shape", "dtype", "size", "message"),
    [
        (0, (2, 4, 8), torch.float32, 8, "hold 3"),
        (2, (2, 2, 8), torch.float32, 8, "hold 3"),
        (-1, (2, 1, 8), torch.float32, 8, "hold 3"),
        (0, (1, 1, 8), torch.float32, 8, "out must be"),
        (0, (2, 1, 7), torch.float32, 8, "out must be"),
        (0, (2, 1, 8), torch.float16, 8, "out must be"),
        (0, (2, 1, 8), torch.float32, 6, "no multiple"),
    ],
)
def test_missing_windows_and_wrong_shapes_are_refused(first, shape, dtype, size, message, backend):
    keys = torch.zeros(2, 19, 8)
    with pytest.raises(ValueError, match=message):
        compress_keys_into(keys, torch.zeros(shape, dtype=dtype), first=first, size=size, stride=4, backend=backend)
