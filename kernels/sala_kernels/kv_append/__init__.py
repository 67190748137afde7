"""New keys and values written to the rows of a cache, quantized on the way where the cache is."""

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
    """Write the keys and values of T tokens to the rows `position` ... of keys and values. In one launch.

    k: [T, kv heads, d], v: [T, kv heads, dv], any strides. keys: [kv heads, capacity, d], values: [kv heads, capacity,
    dv], each plain, of any float dtype, or quantized as by `quantize_rows`; views with d contiguous; changed in place.
    position: a number, or int64 [1] on the device for at most 16 tokens; rows that would lie behind the capacity raise
    ValueError where the host knows it, and are not written by the kernels otherwise.
    Raises ValueError for shapes that do not fit.
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
