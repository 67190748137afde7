"""The record that holds quantized rows."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Kind = Literal["int8", "fp8"]

_DTYPES = {"int8": torch.int8, "fp8": torch.uint8}


@dataclass(frozen=True, kw_only=True)
class QuantizedRows:
    """Rows of the numbers data * scale, as `quantize_rows` returns them. The tensors may be views.

    Attributes:
        data: [kv heads, n, d] int8, or uint8 with the bits of e4m3 numbers (GPUs before sm_89 have no such type).
        scale: [kv heads, n] fp32.
    """

    data: Tensor
    scale: Tensor

    def __post_init__(self) -> None:
        if self.data.dtype not in _DTYPES.values() or self.scale.dtype != torch.float32:
            raise ValueError(f"quantized rows are int8 or uint8 with fp32 scales, not {self.data.dtype}")
        if self.data.shape[:-1] != self.scale.shape:
            raise ValueError(f"{list(self.data.shape)} rows need one scale each, found {list(self.scale.shape)}")

    @classmethod
    def empty(cls, shape: torch.Size | tuple[int, ...], kind: Kind, device: torch.device) -> "QuantizedRows":
        """Allocate rows [kv heads, n, d] without writing them."""
        data = torch.empty(shape, dtype=_DTYPES[kind], device=device)
        return cls(data=data, scale=torch.empty(shape[:-1], dtype=torch.float32, device=device))

    @property
    def shape(self) -> torch.Size:
        """[kv heads, n, d]."""
        return self.data.shape

    @property
    def kind(self) -> Kind:
        """The number format of the rows."""
        return "int8" if self.data.dtype == torch.int8 else "fp8"

    @property
    def num_bytes(self) -> int:
        """Bytes of rows and scales."""
        return self.data.numel() + 4 * self.scale.numel()

    def tokens(self, start: int, stop: int) -> "QuantizedRows":
        """The rows of tokens start ... stop - 1 of every head, as a view."""
        return QuantizedRows(data=self.data[:, start:stop], scale=self.scale[:, start:stop])

    def copy_(self, other: "QuantizedRows") -> None:
        """Copy the rows of `other`, which has the same shape and kind, into this one."""
        assert self.kind == other.kind
        self.data.copy_(other.data)
        self.scale.copy_(other.scale)
