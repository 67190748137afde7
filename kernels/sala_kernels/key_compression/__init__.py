"""Mean-pooled keys of InfLLM-V2 (arXiv:2509.24663): what the block scores look at instead of every key."""

from torch import Tensor

from sala_kernels.backend import Backend, use_triton
from sala_kernels.key_compression import reference
from sala_kernels.key_compression.reference import num_windows

__all__ = ["compress_keys", "compress_keys_into", "num_windows"]


def compress_keys(keys: Tensor, *, size: int, stride: int, backend: Backend = "auto") -> Tensor:
    """Mean of every whole window: out[:, j] = mean(keys[:, stride*j : stride*j + size]), size a multiple of stride.

    keys: [kv heads, n, d], from the first token of the first window wanted. Returns [kv heads, windows, d] in the
    dtype of keys; sums are made in float32 (float64 for float64), strip by strip, so that each window's value does
    not depend on how many are made at once. Raises ValueError if size is no multiple of stride.
    """
    kv_heads, n, d = keys.shape
    out = keys.new_empty(kv_heads, num_windows(n, size, stride), d)
    compress_keys_into(keys, out, first=0, size=size, stride=stride, backend=backend)
    return out


def compress_keys_into(
    keys: Tensor, out: Tensor, *, first: int, size: int, stride: int, backend: Backend = "auto"
) -> None:
    """The windows `first` ... `first + out.shape[1] - 1` of `compress_keys`, written to rows of a cache in one launch.

    keys: [kv heads, n, d], every key from the first token on. out: [kv heads, windows, d], overwritten; both may be
    views of larger buffers. Raises ValueError if the keys do not reach the end of the last window, if out has other
    heads, another d or another dtype, or if size is no multiple of stride.
    """
    kv_heads, n, d = keys.shape
    count = out.shape[1]
    if size < 1 or stride < 1 or size % stride:
        raise ValueError(f"a window of {size} tokens is no multiple of its stride of {stride}")
    if out.shape != (kv_heads, count, d) or out.dtype != keys.dtype:
        raise ValueError(
            f"out must be [{kv_heads}, windows, {d}] {keys.dtype} as the keys are, not {list(out.shape)} {out.dtype}"
        )
    if first < 0 or first + count > num_windows(n, size, stride):
        raise ValueError(
            f"windows {first} to {first + count} were asked for; {n} keys hold {num_windows(n, size, stride)}"
        )
    if use_triton(backend, keys, out):
        from sala_kernels.key_compression import kernels

        kernels.compress_keys_into(keys, out, first=first, size=size, stride=stride)
    else:
        out.copy_(reference.compress_keys(keys[:, first * stride :], count=count, size=size, stride=stride))
