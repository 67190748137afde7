"""What a model remembers of the tokens it has read: keys and values of the sparse layers, states of the linear ones."""

from collections.abc import Hashable, Iterator, Mapping
from typing import Literal, NamedTuple

import torch
from sala_kernels import Backend, QuantizedRows, append_rows, compress_keys_into, compress_new_keys, num_windows
from torch import Tensor

from sala_core.errors import StateMismatchError
from sala_core.model.config import SalaConfig
from sala_core.model.growing_buffer import GrowingBuffer

KvKind = Literal["plain", "int8", "fp8"]
"""How keys and values are held: in the model's dtype, or in one byte a number with a scale for each token and head."""


class ReservedRows(NamedTuple):
    """Everything a sparse layer has room for, [kv heads, capacity, d] each; rows not yet written hold anything."""

    keys: Tensor | QuantizedRows
    values: Tensor | QuantizedRows
    fine: Tensor
    coarse: Tensor


class SparseCache:
    """One sparse layer: keys and values of every token, and the mean-pooled keys K1 and K2 of every whole window."""

    def __init__(self, config: SalaConfig, dtype: torch.dtype, device: torch.device, kv: KvKind = "plain") -> None:
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
        """[kv heads, n, d]."""
        return self.buffers["k"].rows

    @property
    def values(self) -> Tensor | QuantizedRows:
        """[kv heads, n, d]."""
        return self.buffers["v"].rows

    @property
    def fine(self) -> Tensor:
        """K1, [kv heads, windows, d]."""
        return _plain(self.buffers["k1"].rows)

    @property
    def coarse(self) -> Tensor:
        """K2, [kv heads, windows, d]."""
        return _plain(self.buffers["k2"].rows)

    @property
    def capacity(self) -> int:
        """Tokens there is room for."""
        return self.buffers["k"].capacity

    @torch.inference_mode()
    def append(self, k: Tensor, v: Tensor, *, backend: Backend = "auto") -> None:
        """Add the keys and values [kv heads, T, d] of the next T tokens and pool the windows that they complete.

        Windows are pooled from the keys as they are held, so that they can be made again from them bit by bit.
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
        """Write keys and values [T, kv heads, d] to the rows from `position` on, and the windows that they complete.

        position: int64 [1] on the device; nothing waits for it, nothing moves, and no length changes: the caller has
        reserved the room and says later what counts (`SalaState.set_position`).
        """
        room = self.reserved()
        append_rows(k, v, room.keys, room.values, position=position, backend=backend)
        for out, (size, stride) in zip((room.fine, room.coarse), self._windows.values(), strict=True):
            compress_new_keys(
                room.keys, out, position=position, num_tokens=k.shape[0], size=size, stride=stride, backend=backend
            )

    def reserve(self, num_tokens: int) -> None:
        """Make room for `num_tokens` tokens in all and not many more, in the four buffers alike."""
        if num_tokens <= self.capacity:
            return
        self.buffers["k"].reserve(num_tokens)
        for name, buffer in self.buffers.items():
            buffer.reserve(self.row_range(name, 0, self.capacity)[1])

    def reserved(self) -> ReservedRows:
        """Views of all there is room for."""
        fine, coarse = (
            _plain(self.buffers[name].reserved)[:, : self.row_range(name, 0, self.capacity)[1]]
            for name in self._windows
        )
        return ReservedRows(self.buffers["k"].reserved, self.buffers["v"].reserved, fine, coarse)

    def set_length(self, num_tokens: int) -> None:
        """Say how many tokens' rows count from now on. Raises ValueError where there is no room for so many."""
        if not 0 <= num_tokens <= self.capacity:
            raise ValueError(f"{num_tokens:,} tokens do not fit into room for {self.capacity:,}")
        for name, buffer in self.buffers.items():
            buffer.length = self.row_range(name, 0, num_tokens)[1]

    def row_range(self, name: str, start: int, end: int) -> tuple[int, int]:
        """The rows of buffer `name` that the tokens start ... end - 1 added."""
        if name not in self._windows:
            return start, end
        size, stride = self._windows[name]
        return num_windows(start, size, stride), num_windows(end, size, stride)

    def clone(self) -> "SparseCache":
        """An independent copy."""
        copy = object.__new__(SparseCache)
        copy._windows = self._windows
        copy.buffers = {name: buffer.clone() for name, buffer in self.buffers.items()}
        return copy


class SalaState:
    """The state after `position` tokens. Only `SalaModel` advances it; the rest saves, copies and restores it.

    linear_states: [linear layers, H, K, V] fp32, contiguous; `linear[layer]`: views of it.
    """

    def __init__(self, config: SalaConfig, dtype: torch.dtype, device: torch.device, kv: KvKind = "plain") -> None:
        """kv: how keys and values are held. Pooled keys stay in `dtype`."""
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
        """Bytes of everything held."""
        return sum(buffer.num_bytes for _, _, buffer in self._buffers()) + self.linear_states.nbytes

    @property
    def reserved_bytes(self) -> int:
        """Bytes of everything there is room for."""
        return sum(buffer.reserved_bytes for _, _, buffer in self._buffers()) + self.linear_states.nbytes

    @property
    def largest_buffer_bytes(self) -> int:
        """Bytes of the largest buffer, which is held twice while it grows."""
        return max((buffer.reserved_bytes for _, _, buffer in self._buffers()), default=0)

    @property
    def capacity(self) -> int | None:
        """Tokens that fit before a buffer has to grow; None where there are no sparse layers."""
        return min((cache.capacity for cache in self.sparse.values()), default=None)

    def reserve(self, num_tokens: int) -> None:
        """Make room for `num_tokens` tokens in all and not many more, so that reading them copies nothing."""
        for cache in self.sparse.values():
            cache.reserve(num_tokens)

    def set_position(self, position: int) -> None:
        """Say that the state holds `position` tokens, forwards or back within what has been written; the linear states
        are the caller's care. Raises ValueError where there is no room for so many."""
        for cache in self.sparse.values():
            cache.set_length(position)
        self.position = position

    def mark(self) -> "Mark":
        """This place, to come back to."""
        return Mark(self)

    def buffers_key(self) -> Hashable:
        """Another one whenever a buffer has moved or has grown."""
        return (self.linear_states.data_ptr(), *(buffer.key for _, _, buffer in self._buffers()))

    def clone(self) -> "SalaState":
        """An independent copy, equal bit by bit."""
        copy = object.__new__(SalaState)
        copy.config, copy.kv, copy.position = self.config, self.kv, self.position
        copy.sparse = {i: cache.clone() for i, cache in self.sparse.items()}
        copy._set_linear(self.linear_states.clone())
        return copy

    def segment(self, start: int, end: int) -> dict[str, Tensor]:
        """What the tokens start ... end - 1 added to the sparse layers, as views.

        `k.{layer}`, `v.{layer}`: [kv heads, end - start, d]; where they are quantized also `k_scale.{layer}`,
        `v_scale.{layer}`: [kv heads, end - start] fp32; `k1.{layer}`, `k2.{layer}`: the windows they completed.
        """
        tensors = {}
        for layer, name, buffer in self._buffers():
            for part, rows in buffer.parts(*self.sparse[layer].row_range(name, start, end)).items():
                tensors[f"{name}{part}.{layer}"] = rows
        return tensors

    def append_segment(self, tensors: Mapping[str, Tensor], end: int) -> None:
        """Put back a segment that begins at the end of what is held. The linear states are not advanced by it.

        Raises StateMismatchError if the tensors do not fit.
        """
        for layer, name, buffer in self._buffers():
            expected = self.sparse[layer].row_range(name, 0, end)[1] - buffer.length
            parts = {}
            for part, rows in buffer.parts(0, 0).items():
                found = tensors.get(f"{name}{part}.{layer}")
                if (
                    found is None
                    or found.dtype != rows.dtype
                    or found.shape != (rows.shape[0], expected, *rows.shape[2:])
                ):
                    raise StateMismatchError(
                        f"segment tensor {name}{part}.{layer}: expected {expected} rows of {rows.dtype}, "
                        f"found {None if found is None else (tuple(found.shape), found.dtype)}"
                    )
                parts[part] = found
            buffer.append_parts(parts)

    def snapshot(self) -> dict[str, Tensor]:
        """The linear states, `state.{layer}`: [H, K, V] fp32, as views."""
        return {f"state.{i}": s for i, s in self.linear.items()}

    @torch.inference_mode()
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


def _plain(rows: Tensor | QuantizedRows) -> Tensor:
    assert isinstance(rows, Tensor), "pooled keys are never quantized"
    return rows


class Mark:
    """A place of a state to come back to. Unlike a copy it keeps the linear states alone: rows of keys are cut off."""

    def __init__(self, state: SalaState) -> None:
        self._state, self._position = state, state.position
        self._linear = state.linear_states.clone()

    def rewind(self) -> None:
        """Make the state again what it was, however far it has been advanced since."""
        self._state.set_position(self._position)
        self._state.linear_states.copy_(self._linear)
