"""Mean-pooled keys of InfLLM-V2 (arXiv:2509.24663). Block scores are computed from them instead of from every key."""

from torch import Tensor

from sala_kernels.backend import Backend, use_triton
from sala_kernels.key_compression import reference
from sala_kernels.key_compression.reference import num_windows
from sala_kernels.kv_quantization import QuantizedRows
from sala_kernels.positions import Position, check_position

__all__ = ["compress_keys", "compress_keys_into", "compress_new_keys", "num_windows"]


def compress_keys(keys: Tensor, *, size: int, stride: int, backend: Backend = "auto") -> Tensor:
    """Return the mean of every whole window, [kv heads, windows, d]: mean(keys[:, stride*j : stride*j + size]).

    Each window is summed in float32 (float64 for float64), one strip of `stride` keys after the other, and rounded to
    the dtype of keys. Its bits do not depend on how many windows are computed at once.
    Raises ValueError if size is not a multiple of stride.

    Args:
        keys: [kv heads, n, d], from the first token of the first window on.
        size: tokens of a window, a multiple of stride.
        stride: tokens from the start of a window to the start of the next.
        backend: see `sala_kernels.backend.use_triton`.
    """
    kv_heads, n, d = keys.shape
    out = keys.new_empty(kv_heads, num_windows(n, size, stride), d)
    compress_keys_into(keys, out, first=0, size=size, stride=stride, backend=backend)
    return out


def compress_keys_into(
    keys: Tensor | QuantizedRows, out: Tensor, *, first: int, size: int, stride: int, backend: Backend = "auto"
) -> None:
    """Write the windows `first` ... `first + out.shape[1] - 1` of `compress_keys` to rows of a cache, in one launch.

    Raises ValueError if the keys end before the last window does, if out has another number of heads, d or dtype, or if
    size is not a multiple of stride.

    Args:
        keys: [kv heads, n, d], every key from the first token on, quantized or not. It may be a view.
        out: [kv heads, windows, d], overwritten, of the dtype of keys that are not quantized. It may be a view.
        first: index of the window in row 0 of out.
        size, stride: as in `compress_keys`.
        backend: see `sala_kernels.backend.use_triton`.
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
    """Write the windows that new tokens complete, often none, in one launch: window j to row j of out.

    A window has the bits that `compress_keys_into` gives it. Raises ValueError as `compress_keys_into`, and for a
    window without a row if the host knows the position. If only the device knows it, the kernels skip such windows.

    Args:
        keys: [kv heads, n, d], n >= position + num_tokens, every key from the first token on, quantized or not.
        out: [kv heads, rows, d], from the first window on, of the dtype of keys that are not quantized.
        position: of the first new token, a number, or int64 [1] on the device for at most 16 tokens.
        num_tokens: new tokens.
        size, stride: as in `compress_keys`.
        backend: see `sala_kernels.backend.use_triton`.
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
