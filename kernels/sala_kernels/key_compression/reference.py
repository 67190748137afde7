"""Mean-pooled keys of InfLLM-V2 (arXiv:2509.24663): what the block scores look at instead of every key."""

from torch import Tensor


def num_windows(num_tokens: int, size: int, stride: int) -> int:
    """Whole windows of `size` tokens, one every `stride`, within `num_tokens`."""
    return 0 if num_tokens < size else (num_tokens - size) // stride + 1


def compress_keys(keys: Tensor, *, size: int, stride: int) -> Tensor:
    """Mean of every whole window: out[:, j] = mean(keys[:, stride*j : stride*j + size]), size a multiple of stride.

    keys: [kv heads, n, d], from the first token of the first window wanted. Returns [kv heads, windows, d] in the
    dtype of keys; sums are made in float32 (float64 for float64), strip by strip, so that each window's value does
    not depend on how many are made at once.
    """
    H, n, d = keys.shape
    count = num_windows(n, size, stride)
    if count == 0:
        return keys.new_empty(H, 0, d)
    per_window = size // stride
    num_strips = count + per_window - 1
    wide = keys.double() if keys.element_size() == 8 else keys.float()
    strips = wide[:, : num_strips * stride].view(H, num_strips, stride, d).sum(2)
    total = strips[:, :count].clone()
    for i in range(1, per_window):
        total += strips[:, i : i + count]
    return (total / size).to(keys.dtype)
