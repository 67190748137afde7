"""The state of a stream: KV caches of the sparse layers, recurrent (linear) states of the lightning layers."""

from collections.abc import Hashable, Iterator, Mapping
from typing import Literal, NamedTuple

import torch
from sala_kernels import Backend, QuantizedRows, append_rows, compress_keys_into, compress_new_keys, num_windows
from torch import Tensor

from sala_core.errors import StateMismatchError
from sala_core.model.config import SalaConfig
from sala_core.model.growing_buffer import GrowingBuffer

KvKind = Literal["plain", "int8", "fp8"]
"""Number format of the KV cache: the model's dtype, or one byte per number with a scale per token and head."""


class ReservedRows(NamedTuple):
    """Allocated rows of a sparse layer's buffers, [kv heads, rows, d]. Rows not yet written hold arbitrary values."""

    keys: Tensor | QuantizedRows
    values: Tensor | QuantizedRows
    fine: Tensor
    coarse: Tensor


class SparseCache:
    """KV cache of one sparse layer, with the mean-pooled keys K1 (fine) and K2 (coarse) of every complete window."""

    def __init__(self, config: SalaConfig, dtype: torch.dtype, device: torch.device, kv: KvKind = "plain") -> None:
        """Create an empty cache.

        Args:
            config: the model's configuration.
            dtype: of pooled keys, and of plain keys and values.
            device: where the rows are stored.
            kv: number format of keys and values. Pooled keys are never quantized.
        """
        sparse = config.sparse_config
        heads, dim = config.num_key_value_heads, config.head_dim
        self._windows = {
            "k1": (sparse.kernel_size, sparse.kernel_stride),
            "k2": (sparse.coarse_size, sparse.coarse_stride),
        }
        self.buffers = {
            name: GrowingBuffer(heads, dim, dtype, device, quantized=None if kv == "plain" else kv) for name in "kv"
        } | {name: GrowingBuffer(heads, dim, dtype, device) for name in self._windows}

    @property
    def keys(self) -> Tensor | QuantizedRows:
        """Keys, [kv heads, n, d]."""
        return self.buffers["k"].rows

    @property
    def values(self) -> Tensor | QuantizedRows:
        """Values, [kv heads, n, d]."""
        return self.buffers["v"].rows

    @property
    def fine(self) -> Tensor:
        """K1, [kv heads, windows, d]."""
        return _unquantized(self.buffers["k1"].rows)

    @property
    def coarse(self) -> Tensor:
        """K2, [kv heads, windows, d]."""
        return _unquantized(self.buffers["k2"].rows)

    @property
    def capacity(self) -> int:
        """Tokens that fit before a buffer has to grow."""
        return self.buffers["k"].capacity

    @torch.inference_mode()
    def append(self, k: Tensor, v: Tensor, *, backend: Backend = "auto") -> None:
        """Append keys and values [kv heads, T, d] of the next T tokens, and pool the windows that they complete.

        Windows are pooled from the stored (possibly quantized) keys, so that pooling those again gives the same bits.
        """
        needed = self.buffers["k"].length + k.shape[1]
        if needed > self.capacity:
            self.reserve(max(needed, self.capacity + self.capacity // 4))
        self.buffers["k"].append(k)
        self.buffers["v"].append(v)
        for name, (size, stride) in self._windows.items():
            pooled, first = self.buffers[name], self.buffers[name].length
            new = pooled.extend(num_windows(self.buffers["k"].length, size, stride) - first)
            compress_keys_into(self.keys, new, first=first, size=size, stride=stride, backend=backend)

    @torch.inference_mode()
    def write(self, k: Tensor, v: Tensor, position: Tensor, *, backend: Backend = "auto") -> None:
        """Write keys and values of T tokens into allocated rows, and pool the windows that they complete.

        The host does not wait for the device, no buffer moves, and no length changes. The caller reserves the rows
        before, and sets the length afterwards (`SalaState.set_position`).

        Args:
            k, v: [T, kv heads, d].
            position: int64 [1] on the device, the position of the first token.
            backend: computes the operations.
        """
        room = self.reserved()
        append_rows(k, v, room.keys, room.values, position=position, backend=backend)
        for out, (size, stride) in zip((room.fine, room.coarse), self._windows.values(), strict=True):
            compress_new_keys(
                room.keys, out, position=position, num_tokens=k.shape[0], size=size, stride=stride, backend=backend
            )

    def reserve(self, num_tokens: int) -> None:
        """Grow all four buffers to a capacity of `num_tokens` tokens, or to the buffers' minimum if that is more."""
        if num_tokens <= self.capacity:
            return
        self.buffers["k"].reserve(num_tokens)
        for name, buffer in self.buffers.items():
            buffer.reserve(self.row_range(name, 0, self.capacity)[1])

    def reserved(self) -> ReservedRows:
        """Views of all allocated rows."""
        fine, coarse = (
            _unquantized(self.buffers[name].reserved)[:, : self.row_range(name, 0, self.capacity)[1]]
            for name in self._windows
        )
        return ReservedRows(self.buffers["k"].reserved, self.buffers["v"].reserved, fine, coarse)

    def set_length(self, num_tokens: int) -> None:
        """Set the number of tokens whose rows are valid. Raises ValueError if it exceeds the capacity."""
        if not 0 <= num_tokens <= self.capacity:
            raise ValueError(f"{num_tokens:,} tokens do not fit into a capacity of {self.capacity:,}")
        for name, buffer in self.buffers.items():
            buffer.length = self.row_range(name, 0, num_tokens)[1]

    def row_range(self, name: str, start: int, end: int) -> tuple[int, int]:
        """Range of the rows that tokens start ... end - 1 add to buffer `name`."""
        if name not in self._windows:
            return start, end
        size, stride = self._windows[name]
        return num_windows(start, size, stride), num_windows(end, size, stride)

    def clone(self) -> "SparseCache":
        """Return an independent copy."""
        copy = object.__new__(SparseCache)
        copy._windows = self._windows
        copy.buffers = {name: buffer.clone() for name, buffer in self.buffers.items()}
        return copy


class SalaState:
    """The state after `position` tokens. `SalaModel` and `Decoder` advance it; its own methods copy and restore it.

    linear_states: [lightning layers, H, K, V] fp32, contiguous. `linear[layer]` is a view of it.
    """

    def __init__(self, config: SalaConfig, dtype: torch.dtype, device: torch.device, kv: KvKind = "plain") -> None:
        """Create an empty state.

        Args:
            config: the model's configuration.
            dtype: of pooled keys, and of plain keys and values.
            device: the model's device.
            kv: number format of keys and values.
        """
        self.config, self.kv = config, kv
        self.position = 0
        self.sparse = {i: SparseCache(config, dtype, device, kv) for i in config.sparse_layers}
        d = config.lightning_head_dim
        shape = (len(config.lightning_layers), config.lightning_nh, d, d)
        self._set_linear(torch.zeros(shape, dtype=torch.float32, device=device))

    def _set_linear(self, states: Tensor) -> None:
        self.linear_states = states
        self.linear = dict(zip(self.config.lightning_layers, states, strict=True))

    @property
    def num_bytes(self) -> int:
        """Bytes of the state, without spare capacity."""
        return sum(buffer.num_bytes for _, _, buffer in self._buffers()) + self.linear_states.nbytes

    @property
    def reserved_bytes(self) -> int:
        """Bytes of the state, with spare capacity."""
        return sum(buffer.reserved_bytes for _, _, buffer in self._buffers()) + self.linear_states.nbytes

    @property
    def largest_buffer_bytes(self) -> int:
        """Bytes of the largest buffer. While a buffer grows, its old and its new rows are both in memory."""
        return max((buffer.reserved_bytes for _, _, buffer in self._buffers()), default=0)

    @property
    def capacity(self) -> int | None:
        """Tokens that fit before a buffer has to grow; None without sparse layers."""
        return min((cache.capacity for cache in self.sparse.values()), default=None)

    def reserve(self, num_tokens: int) -> None:
        """Grow the capacity to `num_tokens` tokens (1,024 or more), so that prefilling them copies no buffer."""
        for cache in self.sparse.values():
            cache.reserve(num_tokens)

    def set_position(self, position: int) -> None:
        """Set the number of tokens that the state holds, up or down within the rows that were written.

        Does not touch the linear states; the caller keeps them consistent. Raises ValueError beyond the capacity.
        """
        for cache in self.sparse.values():
            cache.set_length(position)
        self.position = position

    @torch.inference_mode()
    def clear(self) -> None:
        """Make the state that of no tokens. Its memory stays reserved."""
        self.set_position(0)
        self.linear_states.zero_()

    def mark(self) -> "Mark":
        """Remember the present position and linear states, for `Mark.rewind`."""
        return Mark(self)

    def buffers_key(self) -> Hashable:
        """A key that changes whenever a buffer moves or grows."""
        return (self.linear_states.data_ptr(), *(buffer.key for _, _, buffer in self._buffers()))

    def clone(self) -> "SalaState":
        """Return an independent copy, equal bit for bit."""
        copy = object.__new__(SalaState)
        copy.config, copy.kv, copy.position = self.config, self.kv, self.position
        copy.sparse = {i: cache.clone() for i, cache in self.sparse.items()}
        copy._set_linear(self.linear_states.clone())
        return copy

    def segment(self, start: int, end: int) -> dict[str, Tensor]:
        """Rows that tokens start ... end - 1 add to the sparse layers, as views; allocated rows may be unwritten.

        `k.{layer}`, `v.{layer}`: [kv heads, end - start, d]. `k_scale.{layer}`, `v_scale.{layer}`, if quantized:
        [kv heads, end - start] fp32. `k1.{layer}`, `k2.{layer}`: [kv heads, windows, d], the windows that these
        tokens completed.
        """
        tensors = {}
        for layer, name, buffer in self._buffers():
            for part, rows in buffer.parts(*self.sparse[layer].row_range(name, start, end)).items():
                tensors[f"{name}{part}.{layer}"] = rows
        return tensors

    def append_segment(self, tensors: Mapping[str, Tensor], end: int) -> None:
        """Append a segment that begins where the state ends. Does not advance the position or the linear states.

        end: the position where the segment ends. Raises StateMismatchError if a tensor is missing or has another shape
        or dtype.
        """
        for layer, name, buffer in self._buffers():
            expected = self.sparse[layer].row_range(name, 0, end)[1] - buffer.length
            parts = {}
            for part, rows in buffer.parts(0, 0).items():
                saved = tensors.get(f"{name}{part}.{layer}")
                if (
                    saved is None
                    or saved.dtype != rows.dtype
                    or saved.shape != (rows.shape[0], expected, *rows.shape[2:])
                ):
                    raise StateMismatchError(
                        f"segment tensor {name}{part}.{layer}: expected {expected} rows of {rows.dtype}, "
                        f"found {None if saved is None else (tuple(saved.shape), saved.dtype)}"
                    )
                parts[part] = saved
            buffer.append_parts(parts)

    def accept_rows(self, end: int) -> None:
        """Count the rows that were written into `segment(..., end)` as appended. Otherwise as `append_segment`.

        Raises ValueError beyond the capacity.
        """
        for cache in self.sparse.values():
            cache.set_length(end)

    def snapshot(self) -> dict[str, Tensor]:
        """The linear states, `state.{layer}`: [H, K, V] fp32, as views."""
        return {f"state.{i}": s for i, s in self.linear.items()}

    @torch.inference_mode()
    def restore_snapshot(self, tensors: Mapping[str, Tensor], position: int) -> None:
        """Set the linear states and the position. The segments up to `position` must be appended before.

        Raises StateMismatchError if a tensor is missing or has another shape or dtype, or if the segments do not end
        at `position`.
        """
        for i, state in self.linear.items():
            saved = tensors.get(f"state.{i}")
            if saved is None or saved.shape != state.shape or saved.dtype != state.dtype:
                raise StateMismatchError(f"snapshot tensor state.{i} is missing or has another shape or dtype")
            state.copy_(saved)
        for layer, name, buffer in self._buffers():
            if buffer.length != self.sparse[layer].row_range(name, 0, position)[1]:
                raise StateMismatchError(f"the keys of layer {layer} do not end at position {position}")
        self.position = position

    def _buffers(self) -> Iterator[tuple[int, str, GrowingBuffer]]:
        for layer, cache in self.sparse.items():
            for name, buffer in cache.buffers.items():
                yield layer, name, buffer


def _unquantized(rows: Tensor | QuantizedRows) -> Tensor:
    assert isinstance(rows, Tensor), "pooled keys are never quantized"
    return rows


class Mark:
    """A point that a state can be rewound to. It copies only the linear states; a rewind drops later rows of keys."""

    def __init__(self, state: SalaState) -> None:
        self._state, self._position = state, state.position
        self._linear = state.linear_states.clone()

    def rewind(self) -> None:
        """Restore the state as it was at the mark, however far it has advanced since."""
        self._state.set_position(self._position)
        self._state.linear_states.copy_(self._linear)
