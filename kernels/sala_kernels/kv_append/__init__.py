"""Write new keys and values to a KV cache, and quantize them if the cache is quantized."""

from torch import Tensor

from sala_kernels.backend import Backend, use_triton
from sala_kernels.kv_append import reference
from sala_kernels.kv_quantization import QuantizedRows
from sala_kernels.positions import Position, check_position

__all__ = ["append_rows"]


def append_rows(
    k: Tensor,
    v: Tensor,
    keys: Tensor | QuantizedRows,
    values: Tensor | QuantizedRows,
    *,
    position: Position,
    backend: Backend = "auto",
) -> None:
    """Write the keys and values of T tokens to the rows of a cache that start at `position`, in one launch.

    Raises ValueError if the shapes do not match, or if rows beyond the capacity are to be written and the host knows
    the position. If only the device knows it, the kernels skip such rows.

    Args:
        k, v: [T, kv heads, d] and [T, kv heads, dv], any strides.
        keys, values: the cache, [kv heads, capacity, d] and [kv heads, capacity, dv], changed in place. Each is of any
            float dtype, or quantized as by `quantize_rows`. Views with a contiguous last dimension are possible.
        position: of the first token, a number, or int64 [1] on the device for at most 16 tokens.
        backend: see `sala_kernels.backend.use_triton`.
    """
    T, heads, _ = k.shape
    check_position(position, T, k.device)
    capacity = keys.shape[1]
    for name, x, rows in (("k", k, keys), ("v", v, values)):
        if x.ndim != 3 or x.shape[:2] != (T, heads) or tuple(rows.shape) != (heads, capacity, x.shape[-1]):
            raise ValueError(f"{name} {list(x.shape)} does not fit rows {list(rows.shape)} of {capacity} tokens")
    if isinstance(position, int) and not 0 <= position <= capacity - T:
        raise ValueError(f"rows {position} to {position + T} were to be written; there is room for {capacity}")
    stored = [part for x in (keys, values) for part in ((x.data, x.scale) if isinstance(x, QuantizedRows) else (x,))]
    if use_triton(backend, k, v, *stored):
        from sala_kernels.kv_append import kernels

        kernels.append_rows(k, v, keys, values, position=position)
    else:
        reference.append_rows(k, v, keys, values, position=int(position))
