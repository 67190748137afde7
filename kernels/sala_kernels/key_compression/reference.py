"""The definition of `sala_kernels.key_compression`, in PyTorch."""

from torch import Tensor


def num_windows(num_tokens: int, size: int, stride: int) -> int:
    """Whole windows of `size` tokens, one every `stride`, within `num_tokens`."""
    return 0 if num_tokens < size else (num_tokens - size) // stride + 1


def compress_keys(keys: Tensor, *, count: int, size: int, stride: int) -> Tensor:
    """The first `count` windows, as `sala_kernels.key_compression.compress_keys`. Returns [kv heads, count, d]."""
    H, _, d = keys.shape
    if count == 0:
        return keys.new_empty(H, 0, d)
    per_window = size // stride
    num_strips = count + per_window - 1
    wide = keys[:, : num_strips * stride]
    wide = wide.double() if keys.element_size() == 8 else wide.float()
    strips = wide.unflatten(1, (num_strips, stride)).sum(2)
    total = strips[:, :count].clone()
    for i in range(1, per_window):
        total += strips[:, i : i + count]
    return (total / size).to(keys.dtype)
