"""Triton kernel of `sala_kernels.kv_append`."""

from torch import Tensor

from sala_kernels.kv_quantization.rows import QuantizedRows
from sala_kernels.positions import Position


def append_rows(
    k: Tensor, v: Tensor, keys: Tensor | QuantizedRows, values: Tensor | QuantizedRows, *, position: Position
) -> None:
    """As `sala_kernels.kv_append.append_rows`."""
    raise NotImplementedError
