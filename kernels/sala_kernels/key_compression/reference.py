"""The definition of `sala_kernels.key_compression` in PyTorch."""

import torch
from torch import Tensor

from sala_kernels.kv_quantization.reference import dequantize_rows
from sala_kernels.kv_quantization.rows import QuantizedRows


def num_windows(num_tokens: int, size: int, stride: int) -> int:
    """Number of whole windows of `size` tokens, one every `stride`, within `num_tokens`."""
    return 0 if num_tokens < size else (num_tokens - size) // stride + 1


def compress_keys(keys: Tensor, *, count: int, size: int, stride: int) -> Tensor:
    """The definition of `sala_kernels.key_compression.compress_keys`. Returns [kv heads, count, d].

    Args:
        keys, size, stride: as there.
        count: windows to compute, from the first on.
    """
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


def compress_keys_into(keys: Tensor | QuantizedRows, out: Tensor, *, first: int, size: int, stride: int) -> None:
    """The definition of `sala_kernels.key_compression.compress_keys_into`.

    Args:
        keys, out, first, size, stride: as there.
    """
    start, count = first * stride, out.shape[1]
    if isinstance(keys, QuantizedRows):
        wide = dequantize_rows(keys.tokens(start, start + (count - 1) * stride + size), torch.float32)
    else:
        wide = keys[:, start:]
    out.copy_(compress_keys(wide, count=count, size=size, stride=stride))


def compress_new_keys(
    keys: Tensor | QuantizedRows, out: Tensor, *, position: int, num_tokens: int, size: int, stride: int
) -> None:
    """The definition of `sala_kernels.key_compression.compress_new_keys`.

    Args:
        keys, out, position, num_tokens, size, stride: as there.
    """
    check_new_windows(position, num_tokens, keys.shape[1], out.shape[1], size, stride)
    first, end = num_windows(position, size, stride), num_windows(position + num_tokens, size, stride)
    if end > first:
        compress_keys_into(keys, out[:, first:end], first=first, size=size, stride=stride)


def check_new_windows(position: int, num_tokens: int, num_keys: int, num_rows: int, size: int, stride: int) -> None:
    """Raise ValueError if keys of the new tokens are missing, or rows for the windows that they complete.

    Args:
        position, num_tokens: the new tokens.
        num_keys: keys that are given.
        num_rows: rows for windows, from the first window on.
        size, stride: of the windows.
    """
    end = num_windows(position + num_tokens, size, stride)
    if position < 0 or position + num_tokens > num_keys or end > num_rows:
        raise ValueError(
            f"{position + num_tokens} tokens complete {end} windows; there are {num_keys} keys and {num_rows} rows"
        )
