"""Keys and values that are stored as int8, while memory has the model's number format.

Every key and value is rounded once, when it is first stored, in memory too. So a state that was loaded has the bits of
one that never left memory, and what is computed after it is the same. Rounding again would change it: it is not done.
"""

from collections.abc import Mapping

import torch
from sala_kernels import QuantizedRows, dequantize_rows, quantize_rows
from torch import Tensor

from sala_core.model.state import SalaState

_NAMES = ("k", "v")
"""Buffers that are rounded. Pooled keys, a fourteenth of the size, are stored as they are: they choose the blocks."""


@torch.inference_mode()
def rounded_segment(state: SalaState, start: int, end: int) -> dict[str, Tensor]:
    """Round the keys and values of tokens start ... end - 1 of a state in place, and return the segment to store.

    state: with plain keys and values, not stored yet from `start` on. Returns what `SalaState.segment` does for a state
    that has int8 in memory: `k.{layer}` int8, `k_scale.{layer}` fp32 and so on.
    """
    segment = state.segment(start, end)
    for layer in state.sparse:
        for name in _NAMES:
            rows = segment[f"{name}.{layer}"]
            quantized = quantize_rows(rows, "int8")
            rows.copy_(dequantize_rows(quantized, rows.dtype))
            segment |= {f"{name}.{layer}": quantized.data, f"{name}_scale.{layer}": quantized.scale}
    return segment


def stored_form(state: SalaState, start: int, end: int) -> dict[str, Tensor]:
    """Uninitialized CPU tensors of the names, shapes and dtypes of a stored segment of tokens start ... end - 1."""
    tensors = {name: torch.empty(rows.shape, dtype=rows.dtype) for name, rows in state.segment(start, end).items()}
    for layer in state.sparse:
        for name in _NAMES:
            empty = QuantizedRows.empty(tensors[f"{name}.{layer}"].shape, "int8", torch.device("cpu"))
            tensors |= {f"{name}.{layer}": empty.data, f"{name}_scale.{layer}": empty.scale}
    return tensors


@torch.inference_mode()
def write_rows(state: SalaState, segment: Mapping[str, Tensor], start: int, end: int) -> None:
    """Write a stored segment into the state's allocated rows; lengths do not change.

    Args:
        state: with plain keys and values.
        segment: of the form of `stored_form`, on any device.
        start, end: the segment's tokens are start ... end - 1.
    """
    for name, rows in state.segment(start, end).items():
        stored = segment[name].to(rows.device)
        if name.split(".")[0] in _NAMES:
            scale = segment[name.replace(".", "_scale.")].to(rows.device)
            stored = dequantize_rows(QuantizedRows(data=stored, scale=scale), rows.dtype)
        rows.copy_(stored)
