"""What a model remembers of the tokens it has read: keys and values of the sparse layers, states of the linear ones."""

from collections.abc import Iterator, Mapping

import torch
from sala_kernels import compress_keys_into, num_windows
from torch import Tensor

from sala_core.config import SalaConfig
from sala_core.errors import StateMismatchError

_MIN_CAPACITY = 1024


class GrowingBuffer:
    """A tensor [heads, rows, d] that rows are appended to; grows by a quarter, so a long text fits without doubling."""

    def __init__(self, heads: int, dim: int, dtype: torch.dtype, device: torch.device) -> None:
        self._data = torch.empty(heads, 0, dim, dtype=dtype, device=device)
        self.length = 0

    @property
    def rows(self) -> Tensor:
        """The rows held, [heads, length, d]: a view, not to be written to."""
        return self._data[:, : self.length]

    @property
    def num_bytes(self) -> int:
        """Bytes of the rows held (spare capacity not counted)."""
        return self.rows.numel() * self._data.element_size()

    def reserve(self, length: int) -> None:
        """Make room for `length` rows in all."""
        heads, capacity, dim = self._data.shape
        if length <= capacity:
            return
        grown = self._data.new_empty(heads, max(length, capacity + capacity // 4, _MIN_CAPACITY), dim)
        grown[:, : self.length] = self.rows
        self._data = grown

    @torch.inference_mode()  # a buffer that the model has grown can be written to in this mode only
    def append(self, rows: Tensor) -> None:
        """Add rows [heads, n, d], converted to the buffer's dtype."""
        self.extend(rows.shape[1]).copy_(rows)

    def extend(self, num_rows: int) -> Tensor:
        """Add rows of any values and return them, [heads, num_rows, d], to be written to."""
        start, end = self.length, self.length + num_rows
        self.reserve(end)
        self.length = end
        return self._data[:, start:end]

    def clone(self) -> "GrowingBuffer":
        """An independent copy, without spare capacity."""
        copy = GrowingBuffer(self._data.shape[0], self._data.shape[2], self._data.dtype, self._data.device)
        copy.append(self.rows)
        return copy


class SparseCache:
    """One sparse layer: keys and values of every token, and the mean-pooled keys K1 and K2 of every whole window."""

    PARTS = ("k", "v", "k1", "k2")

    def __init__(self, config: SalaConfig, dtype: torch.dtype, device: torch.device) -> None:
        sparse = config.sparse_config
        self._fine = (sparse.kernel_size, sparse.kernel_stride)
        self._coarse = (sparse.coarse_size, sparse.coarse_stride)
        self.buffers = {
            name: GrowingBuffer(config.num_key_value_heads, config.head_dim, dtype, device) for name in self.PARTS
        }

    @property
    def keys(self) -> Tensor:
        """[kv heads, n, d]."""
        return self.buffers["k"].rows

    @property
    def values(self) -> Tensor:
        """[kv heads, n, d]."""
        return self.buffers["v"].rows

    @property
    def fine(self) -> Tensor:
        """K1, [kv heads, windows, d]."""
        return self.buffers["k1"].rows

    @property
    def coarse(self) -> Tensor:
        """K2, [kv heads, windows, d]."""
        return self.buffers["k2"].rows

    def append(self, k: Tensor, v: Tensor) -> None:
        """Add the keys and values [kv heads, T, d] of the next T tokens and pool the windows that they complete."""
        self.buffers["k"].append(k)
        self.buffers["v"].append(v)
        for name, (size, stride) in (("k1", self._fine), ("k2", self._coarse)):
            pooled, first = self.buffers[name], self.buffers[name].length
            new = pooled.extend(num_windows(self.buffers["k"].length, size, stride) - first)
            compress_keys_into(self.keys, new, first=first, size=size, stride=stride)

    def row_range(self, name: str, start: int, end: int) -> tuple[int, int]:
        """The rows of buffer `name` that the tokens start ... end - 1 added."""
        if name in ("k", "v"):
            return start, end
        size, stride = self._fine if name == "k1" else self._coarse
        return num_windows(start, size, stride), num_windows(end, size, stride)

    def clone(self) -> "SparseCache":
        """An independent copy."""
        copy = object.__new__(SparseCache)
        copy._fine, copy._coarse = self._fine, self._coarse
        copy.buffers = {name: buffer.clone() for name, buffer in self.buffers.items()}
        return copy


class SalaState:
    """The state after `position` tokens. Only `sala_core.model` advances it; the rest saves, copies and restores it."""

    def __init__(self, config: SalaConfig, dtype: torch.dtype, device: torch.device) -> None:
        self.config = config
        self.position = 0
        self.sparse = {i: SparseCache(config, dtype, device) for i in config.sparse_layers}
        d = config.lightning_head_dim
        self.linear = {
            i: torch.zeros(config.lightning_nh, d, d, dtype=torch.float32, device=device)
            for i in config.lightning_layers
        }

    @property
    def num_bytes(self) -> int:
        """Bytes of everything held."""
        caches = sum(buffer.num_bytes for cache in self.sparse.values() for buffer in cache.buffers.values())
        return caches + sum(s.numel() * s.element_size() for s in self.linear.values())

    def reserve(self, num_tokens: int) -> None:
        """Make room for `num_tokens` tokens in all, so that reading them copies nothing."""
        for cache in self.sparse.values():
            for name, buffer in cache.buffers.items():
                buffer.reserve(cache.row_range(name, 0, num_tokens)[1])

    def clone(self) -> "SalaState":
        """An independent copy, equal bit by bit."""
        copy = object.__new__(SalaState)
        copy.config, copy.position = self.config, self.position
        copy.sparse = {i: cache.clone() for i, cache in self.sparse.items()}
        copy.linear = {i: s.clone() for i, s in self.linear.items()}
        return copy

    def segment(self, start: int, end: int) -> dict[str, Tensor]:
        """What the tokens start ... end - 1 added to the sparse layers, as views.

        `k.{layer}`, `v.{layer}`: [kv heads, end - start, d]; `k1.{layer}`, `k2.{layer}`: the windows they completed.
        """
        tensors = {}
        for layer, name, buffer in self._buffers():
            a, b = self.sparse[layer].row_range(name, start, end)
            tensors[f"{name}.{layer}"] = buffer.rows[:, a:b]
        return tensors

    def append_segment(self, tensors: Mapping[str, Tensor], end: int) -> None:
        """Put back a segment that begins at the end of what is held. The linear states are not advanced by it.

        Raises StateMismatchError if the tensors do not fit.
        """
        for layer, name, buffer in self._buffers():
            rows = tensors.get(f"{name}.{layer}")
            expected = self.sparse[layer].row_range(name, 0, end)[1] - buffer.length
            if (
                rows is None
                or rows.dtype != buffer.rows.dtype
                or rows.shape[1] != expected
                or (rows.shape[0], rows.shape[2]) != (buffer.rows.shape[0], buffer.rows.shape[2])
            ):
                found = None if rows is None else (tuple(rows.shape), rows.dtype)
                raise StateMismatchError(
                    f"segment tensor {name}.{layer}: expected {expected} rows of {buffer.rows.dtype}, found {found}"
                )
            buffer.append(rows)

    def snapshot(self) -> dict[str, Tensor]:
        """The linear states, `state.{layer}`: [H, K, V] fp32, as views."""
        return {f"state.{i}": s for i, s in self.linear.items()}

    def restore_snapshot(self, tensors: Mapping[str, Tensor], position: int) -> None:
        """Set the linear states, and with them the position. The segments up to it must be there already.

        Raises StateMismatchError if the tensors do not fit.
        """
        for i, state in self.linear.items():
            saved = tensors.get(f"state.{i}")
            if saved is None or saved.shape != state.shape or saved.dtype != state.dtype:
                raise StateMismatchError(f"snapshot tensor state.{i} is missing or of another shape or dtype")
            state.copy_(saved)
        for layer, name, buffer in self._buffers():
            if buffer.length != self.sparse[layer].row_range(name, 0, position)[1]:
                raise StateMismatchError(f"the keys held by layer {layer} do not reach position {position}")
        self.position = position

    def _buffers(self) -> Iterator[tuple[int, str, GrowingBuffer]]:
        for layer, cache in self.sparse.items():
            for name, buffer in cache.buffers.items():
                yield layer, name, buffer
