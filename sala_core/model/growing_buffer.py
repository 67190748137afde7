"""Rows that more are appended to, plain or quantized: what the caches of the sparse layers are made of."""

from collections.abc import Mapping

import torch
from sala_kernels import QuantizedRows, quantize_rows
from sala_kernels.kv_quantization import Kind
from torch import Tensor

_MIN_CAPACITY = 1024


class GrowingBuffer:
    """Rows [heads, n, d] that more are appended to; grows by a quarter, so a long text fits without doubling."""

    def __init__(
        self, heads: int, dim: int, dtype: torch.dtype, device: torch.device, *, quantized: Kind | None = None
    ) -> None:
        """quantized: hold one byte a number and one scale a row, whatever `dtype` is."""
        shape = (heads, 0, dim)
        if quantized is None:
            self._parts = {"": torch.empty(shape, dtype=dtype, device=device)}
        else:
            rows = QuantizedRows.empty(shape, quantized, device)
            self._parts = {"": rows.data, "_scale": rows.scale}
        self._kind = quantized
        self.length = 0

    @property
    def rows(self) -> Tensor | QuantizedRows:
        """The rows held, [heads, length, d]: a view, not to be written to."""
        return _as_rows(self.parts(0, self.length))

    @property
    def reserved(self) -> Tensor | QuantizedRows:
        """All the rows there is room for, [heads, capacity, d], as a view; those from `length` on hold anything."""
        return _as_rows(self._parts)

    @property
    def capacity(self) -> int:
        """Rows there is room for."""
        return self._parts[""].shape[1]

    @property
    def num_bytes(self) -> int:
        """Bytes of the rows held (spare capacity not counted)."""
        return sum(part.nbytes for part in self.parts(0, self.length).values())

    @property
    def reserved_bytes(self) -> int:
        """Bytes of all the rows there is room for."""
        return sum(part.nbytes for part in self._parts.values())

    @property
    def key(self) -> tuple[int, ...]:
        """Another one whenever the rows have moved, or there is room for more of them."""
        return (self.capacity, *(part.data_ptr() for part in self._parts.values()))

    def parts(self, start: int, end: int) -> dict[str, Tensor]:
        """The rows start ... end - 1 as they are saved, as views: "" [heads, n, d] and, where they are quantized,
        "_scale" [heads, n] fp32."""
        return {name: part[:, start:end] for name, part in self._parts.items()}

    @torch.inference_mode()  # a buffer that the model has grown can be written to in this mode only
    def reserve(self, length: int) -> None:
        """Make room for `length` rows in all, and not many more."""
        if length <= self.capacity:
            return
        length = max(length, _MIN_CAPACITY)
        for name, part in self._parts.items():
            grown = part.new_empty(part.shape[0], length, *part.shape[2:])
            grown[:, : self.length] = part[:, : self.length]
            self._parts[name] = grown

    @torch.inference_mode()
    def append(self, rows: Tensor) -> None:
        """Add rows [heads, n, d], converted to the buffer's dtype or quantized."""
        new = _as_rows(self._extend(rows.shape[1]))
        if isinstance(new, QuantizedRows):
            quantize_rows(rows, new.kind, out=new)
        else:
            new.copy_(rows)

    @torch.inference_mode()
    def append_parts(self, parts: Mapping[str, Tensor]) -> None:
        """Add rows as `parts` gave them, bit by bit."""
        for name, new in self._extend(parts[""].shape[1]).items():
            new.copy_(parts[name])

    def extend(self, num_rows: int) -> Tensor:
        """Add rows of any values to a plain buffer and return them, [heads, num_rows, d], to be written to."""
        assert self._kind is None
        return self._extend(num_rows)[""]

    def clone(self) -> "GrowingBuffer":
        """An independent copy, without spare capacity."""
        copy = object.__new__(GrowingBuffer)
        copy._kind, copy.length = self._kind, self.length
        copy._parts = {
            name: part.clone(memory_format=torch.contiguous_format) for name, part in self.parts(0, self.length).items()
        }
        return copy

    def _extend(self, num_rows: int) -> dict[str, Tensor]:
        start, end = self.length, self.length + num_rows
        if end > self.capacity:
            self.reserve(max(end, self.capacity + self.capacity // 4))
        self.length = end
        return self.parts(start, end)


def _as_rows(parts: Mapping[str, Tensor]) -> Tensor | QuantizedRows:
    return QuantizedRows(data=parts[""], scale=parts["_scale"]) if "_scale" in parts else parts[""]
