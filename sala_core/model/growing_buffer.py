"""Append-only buffers of rows, plain or quantized: the storage of the KV caches of the sparse layers."""

from collections.abc import Mapping

import torch
from sala_kernels import QuantizedRows, quantize_rows
from sala_kernels.kv_quantization import Kind
from torch import Tensor

_MIN_CAPACITY = 1024


class GrowingBuffer:
    """Rows [heads, n, d] that grow by appending. Capacity grows by a quarter, not by doubling, to save memory."""

    def __init__(
        self, heads: int, dim: int, dtype: torch.dtype, device: torch.device, *, quantized: Kind | None = None
    ) -> None:
        """Create an empty buffer.

        Args:
            heads, dim: of each row.
            dtype: of plain rows.
            device: where the rows are stored.
            quantized: store one byte per number and one fp32 scale per row instead. None: plain rows.
        """
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
        """The appended rows, [heads, length, d], as a read-only view."""
        return _as_rows(self.parts(0, self.length))

    @property
    def reserved(self) -> Tensor | QuantizedRows:
        """All allocated rows, [heads, capacity, d], as a view. Rows from `length` on hold arbitrary values."""
        return _as_rows(self._parts)

    @property
    def capacity(self) -> int:
        """Number of allocated rows."""
        return self._parts[""].shape[1]

    @property
    def num_bytes(self) -> int:
        """Bytes of the appended rows, without spare capacity."""
        return sum(part.nbytes for part in self.parts(0, self.length).values())

    @property
    def reserved_bytes(self) -> int:
        """Bytes of all allocated rows."""
        return sum(part.nbytes for part in self._parts.values())

    @property
    def key(self) -> tuple[int, ...]:
        """A key that changes whenever the rows move in memory or the capacity grows."""
        return (self.capacity, *(part.data_ptr() for part in self._parts.values()))

    def parts(self, start: int, end: int) -> dict[str, Tensor]:
        """Rows start ... end - 1 in their saved form, as views.

        Returns "": [heads, n, d], and for quantized rows also "_scale": [heads, n] fp32.
        """
        return {name: part[:, start:end] for name, part in self._parts.items()}

    @torch.inference_mode()  # rows that the model allocated in this mode can only be written in this mode
    def reserve(self, length: int) -> None:
        """Grow the capacity to `length` rows, or to 1,024 if that is more. Never shrinks.

        Scales of rows that are not written yet are 0: arbitrary ones may be NaN, which no product with 0 removes.
        """
        if length <= self.capacity:
            return
        length = max(length, _MIN_CAPACITY)
        for name, part in self._parts.items():
            grown = part.new_empty(part.shape[0], length, *part.shape[2:])
            grown[:, : self.length] = part[:, : self.length]
            if name == "_scale":
                grown[:, self.length :] = 0
            self._parts[name] = grown

    @torch.inference_mode()
    def append(self, rows: Tensor) -> None:
        """Append rows [heads, n, d], converted to the buffer's dtype or quantized."""
        new = _as_rows(self._extend(rows.shape[1]))
        if isinstance(new, QuantizedRows):
            quantize_rows(rows, new.kind, out=new)
        else:
            new.copy_(rows)

    @torch.inference_mode()
    def append_parts(self, parts: Mapping[str, Tensor]) -> None:
        """Append rows in the form that `parts` returns, bit for bit."""
        for name, new in self._extend(parts[""].shape[1]).items():
            new.copy_(parts[name])

    def extend(self, num_rows: int) -> Tensor:
        """Append uninitialized rows to a plain buffer. Returns them, [heads, num_rows, d], for the caller to fill."""
        assert self._kind is None
        return self._extend(num_rows)[""]

    def clone(self) -> "GrowingBuffer":
        """Return an independent copy, without spare capacity."""
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
