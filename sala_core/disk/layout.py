"""The safetensors file layout without torch: 8 bytes of header length, a JSON header, then the arrays' bytes.

The program writes this layout itself, piece by piece. A state file needs O_EXCL, fsync and a checksum of the written
bytes, and `safetensors.torch.save` first builds the whole file in memory (0.2 to 0.35 GB/s measured, against 11 GB/s
for the checksum). Any safetensors reader opens these files.

This module knows the header and numpy arrays. `sala_core.disk.safetensors` stores torch tensors with it.
"""

import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

ITEM_BYTES = {
    "F64": 8,
    "F32": 4,
    "F16": 2,
    "BF16": 2,
    "I64": 8,
    "I32": 4,
    "I16": 2,
    "I8": 1,
    "U8": 1,
    "BOOL": 1,
}
"""Dtype name in the header -> bytes of one element."""

_NUMPY_DTYPES: dict[str, np.dtype[Any]] = {
    "F64": np.dtype(np.float64),
    "F32": np.dtype(np.float32),
    "F16": np.dtype(np.float16),
    "I64": np.dtype(np.int64),
    "I32": np.dtype(np.int32),
    "I16": np.dtype(np.int16),
    "I8": np.dtype(np.int8),
    "U8": np.dtype(np.uint8),
    "BOOL": np.dtype(np.bool_),
}
_NAMES = {dtype: name for name, dtype in _NUMPY_DTYPES.items()}
_ALIGNMENT = 64
_METADATA = "__metadata__"
_MAX_EXTENT = 1 << 40
"""Of one dimension: an array without elements can claim any, and a tensor cannot be made of 2^63."""

assert sys.byteorder == "little", "the file layout is little-endian"


@dataclass(frozen=True, kw_only=True)
class Spec:
    """What the header says about one array."""

    dtype: str
    """A key of ITEM_BYTES."""
    shape: tuple[int, ...]

    @property
    def num_bytes(self) -> int:
        """Bytes of the array's elements."""
        return prod(self.shape) * ITEM_BYTES[self.dtype]


@dataclass(frozen=True, kw_only=True)
class Extent:
    """One array of a file: its spec, and where its bytes are behind the header."""

    spec: Spec
    start: int
    end: int


@dataclass(frozen=True, kw_only=True)
class Block:
    """One array of a file: its spec and its bytes in C order."""

    spec: Spec
    data: memoryview


def encode_header(specs: Mapping[str, Spec], metadata: Mapping[str, str]) -> tuple[memoryview, list[str]]:
    """Return the file's bytes before the arrays, and the names of the arrays in file order.

    The arrays follow without gaps, those with the largest elements first, so that each one is aligned to its element
    size. Raises ValueError for an array that has the name of the metadata.
    """
    if _METADATA in specs:
        raise ValueError(f"cannot store an array as {_METADATA!r}; the name is reserved for the metadata")
    header: dict[str, object] = {_METADATA: dict(metadata)}
    names = sorted(specs, key=lambda name: (-ITEM_BYTES[specs[name].dtype], name))
    offset = 0
    for name in names:
        spec = specs[name]
        end = offset + spec.num_bytes
        header[name] = {"dtype": spec.dtype, "shape": list(spec.shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-(len(text) + 8) % _ALIGNMENT)
    return memoryview(len(text).to_bytes(8, "little") + text), names


def decode_blocks(data: memoryview) -> tuple[dict[str, Block], dict[str, str]]:
    """Return the arrays' blocks, which share the memory of `data`, and the metadata.

    Every size and offset is compared with the bytes that are there before an array is made. Raises ValueError if the
    bytes are not in this layout.
    """
    start = body_start(data, len(data))
    places, metadata = decode_header(data[8:start], len(data) - start)
    body = data[start:]
    return {name: Block(spec=at.spec, data=body[at.start : at.end]) for name, at in places.items()}, metadata


def body_start(beginning: memoryview | bytes, num_bytes: int) -> int:
    """Return where the arrays begin in a file. Raises ValueError for a header that is empty or longer than the file.

    beginning: the file's first 8 bytes or more. num_bytes: length of the file.
    """
    size = int.from_bytes(beginning[:8], "little")
    if not 0 < size <= num_bytes - 8:
        raise ValueError(f"no safetensors layout: a header of {size:,} bytes in a file of {num_bytes:,}")
    return 8 + size


def decode_header(text: memoryview | bytes, num_bytes: int) -> tuple[dict[str, Extent], dict[str, str]]:
    """Return where each array is, and the metadata. Raises ValueError if the text is no header for such a body.

    text: the header, without its length. num_bytes: length of what follows the header.
    """
    try:
        header = json.loads(bytes(text))
        metadata = {str(key): str(value) for key, value in header.pop(_METADATA, {}).items()}
        return {name: _extent(num_bytes, **entry) for name, entry in header.items()}, metadata
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"no safetensors layout: {error}") from error


def _extent(num_bytes: int, *, dtype: str, shape: list[int], data_offsets: list[int]) -> Extent:
    start, end = data_offsets
    spec = Spec(dtype=dtype, shape=tuple(shape))
    is_shape = all(isinstance(extent, int) and 0 <= extent <= _MAX_EXTENT for extent in shape)
    if not is_shape or not 0 <= start <= end <= num_bytes or end - start != spec.num_bytes:
        raise ValueError(f"no safetensors layout: {dtype} {shape} at bytes {start} to {end} of {num_bytes}")
    return Extent(spec=spec, start=start, end=end)


def encode_arrays(arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> Iterator[memoryview]:
    """Yield the file's bytes in order, without a copy of contiguous arrays.

    arrays: any shapes, dtypes among float64 to uint8 and bool; metadata: strings. Raises ValueError for another
    dtype.
    """
    for name, array in arrays.items():
        if array.dtype not in _NAMES:
            raise ValueError(f"cannot store array {name!r} of {array.dtype}")
    specs = {name: Spec(dtype=_NAMES[array.dtype], shape=array.shape) for name, array in arrays.items()}
    header, names = encode_header(specs, metadata)
    yield header
    for name in names:
        if arrays[name].size:
            yield np.ascontiguousarray(arrays[name]).reshape(-1).view(np.uint8).data


def decode_arrays(data: memoryview) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Return the arrays, which share the memory of `data`, and the metadata.

    Raises ValueError if the bytes are not in this layout, or an array is bfloat16, which numpy does not have.
    """
    blocks, metadata = decode_blocks(data)
    return {name: _array(name, block) for name, block in blocks.items()}, metadata


def _array(name: str, block: Block) -> np.ndarray:
    dtype = _NUMPY_DTYPES.get(block.spec.dtype)
    if dtype is None:
        raise ValueError(f"array {name!r} is {block.spec.dtype}, which numpy does not have")
    return np.frombuffer(block.data, dtype=dtype).reshape(block.spec.shape)
