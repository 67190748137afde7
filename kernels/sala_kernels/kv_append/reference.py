"""The definition of `sala_kernels.kv_append` in PyTorch."""

from torch import Tensor

from sala_kernels.kv_quantization.reference import quantize_rows
from sala_kernels.kv_quantization.rows import QuantizedRows


def append_rows(
    k: Tensor, v: Tensor, keys: Tensor | QuantizedRows, values: Tensor | QuantizedRows, *, position: int
) -> None:
    """The definition of `sala_kernels.kv_append.append_rows`. Raises ValueError for rows beyond the capacity.

    Args:
        k, v, keys, values, position: as there.
    """
    T, capacity = k.shape[0], keys.shape[1]
    if not 0 <= position <= capacity - T:
        raise ValueError(f"rows {position} to {position + T} were to be written; there is room for {capacity}")
    for x, rows in ((k, keys), (v, values)):
        if isinstance(rows, QuantizedRows):
            quantize_rows(x.transpose(0, 1), rows.tokens(position, position + T))
        else:
            rows[:, position : position + T] = x.transpose(0, 1)
