"""Mean-pooled keys of InfLLM-V2 (arXiv:2509.24663): what the block scores look at instead of every key."""

from torch import Tensor

from sala_kernels.backend import Backend, use_triton
from sala_kernels.key_compression import reference
from sala_kernels.key_compression.reference import num_windows
from sala_kernels.kv_quantization import QuantizedRows
from sala_kernels.positions import Position, check_position

__all__ = ["compress_keys", "compress_keys_into", "compress_new_keys", "num_windows"]


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
    keys: Tensor | QuantizedRows, out: Tensor, *, first: int, size: int, stride: int, backend: Backend = "auto"
) -> None:
    """The windows `first` ... `first + out.shape[1] - 1` of `compress_keys`, written to rows of a cache in one launch.

    keys: [kv heads, n, d], every key from the first token on, quantized or not. out: [kv heads, windows, d],
    overwritten, of the dtype of keys that are not quantized; both may be views of larger buffers. Raises ValueError if
    the keys do not reach the end of the last window, if out has other heads, another d or another dtype, or if size is
    no multiple of stride.
    """
    _check(keys, out, size, stride)
    n, count = keys.shape[1], out.shape[1]
    if first < 0 or first + count > num_windows(n, size, stride):
        raise ValueError(
            f"windows {first} to {first + count} were asked for; {n} keys hold {num_windows(n, size, stride)}"
        )
    if use_triton(backend, *_stored(keys), out):
        from sala_kernels.key_compression import kernels

        kernels.compress_keys_into(keys, out, first=first, size=size, stride=stride)
    else:
        reference.compress_keys_into(keys, out, first=first, size=size, stride=stride)


def compress_new_keys(
    keys: Tensor | QuantizedRows,
    out: Tensor,
    *,
    position: Position,
    num_tokens: int,
    size: int,
    stride: int,
    backend: Backend = "auto",
) -> None:
    """The windows that the tokens `position` ... `position + num_tokens - 1` complete, each written to its own row of
    out, with the bits that `compress_keys_into` gives it; often none. In one launch.

    keys: [kv heads, n, d], n >= position + num_tokens, every key from the first token on, quantized or not. out:
    [kv heads, rows, d] of the dtype of keys that are not quantized, from the first window on; a window without a row
    raises ValueError where the host knows it, and is not written by the kernels otherwise.
    position: a number, or int64 [1] on the device for at most 16 tokens.
    Raises ValueError for what does not fit, as `compress_keys_into`.
    """
    _check(keys, out, size, stride)
    check_position(position, num_tokens, out.device)
    if isinstance(position, int):
        reference.check_new_windows(position, num_tokens, keys.shape[1], out.shape[1], size, stride)
    if use_triton(backend, *_stored(keys), out):
        from sala_kernels.key_compression import kernels

        kernels.compress_new_keys(keys, out, position=position, num_tokens=num_tokens, size=size, stride=stride)
    else:
        reference.compress_new_keys(keys, out, position=int(position), num_tokens=num_tokens, size=size, stride=stride)


def _stored(keys: Tensor | QuantizedRows) -> tuple[Tensor, ...]:
    return (keys.data, keys.scale) if isinstance(keys, QuantizedRows) else (keys,)


def _check(keys: Tensor | QuantizedRows, out: Tensor, size: int, stride: int) -> None:
    kv_heads, _, d = keys.shape
    dtype = keys.dtype if isinstance(keys, Tensor) else out.dtype
    if size < 1 or stride < 1 or size % stride:
        raise ValueError(f"a window of {size} tokens is no multiple of its stride of {stride}")
    if out.shape != (kv_heads, out.shape[1], d) or out.dtype != dtype:
        raise ValueError(
            f"out must be [{kv_heads}, windows, {d}] {dtype} as the keys are, not {list(out.shape)} {out.dtype}"
        )
