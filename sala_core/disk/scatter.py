"""Reads a file in the safetensors layout straight into memory that is there already, and hashes it on the way."""

import os
from collections.abc import Callable, Mapping, Sequence
from io import FileIO
from pathlib import Path

import numpy as np
import xxhash

from sala_core.disk.files import open_regular
from sala_core.disk.layout import Spec, body_start, decode_header

Place = Callable[[Mapping[str, Spec]], Mapping[str, Sequence[memoryview]]]
"""From the arrays of a file to the memory for each, in C order. Raises ValueError for arrays that have no place."""

_PIECE_BYTES = 1 << 20
"""Bytes that are read, and hashed while they are in the processor's cache."""


def read_into(path: Path, num_bytes: int, place: Place) -> tuple[str, dict[str, str]]:
    """Read a file into the memory that `place` returns. Return the xxh3-128 of the whole file, and its metadata.

    The caller compares the checksum before it uses what was read. Nothing but the header is allocated. The
    interpreter's lock is released while bytes are read and hashed, so that several files can be read at once.

    Args:
        path: of the file.
        num_bytes: length that it must have.
        place: is called once with the header's arrays, which is not yet known to be sound.

    Raises OSError as `read_whole`, EOFError for another length, ValueError for another layout.
    """
    with os.fdopen(open_regular(path), "rb", buffering=0) as file:
        actual = os.fstat(file.fileno()).st_size
        if actual != num_bytes:
            raise EOFError(f"{actual:,} bytes instead of {num_bytes:,}")
        digest = xxhash.xxh3_128()
        length = _read(file, min(8, num_bytes))
        start = body_start(length, num_bytes)
        text = _read(file, start - 8)
        extents, metadata = decode_header(text, num_bytes - start)
        memory = place({name: extent.spec for name, extent in extents.items()})
        digest.update(length)
        digest.update(text)
        position = 0
        for name, extent in sorted(extents.items(), key=lambda item: (item[1].start, item[1].end)):
            if extent.start != position or sum(piece.nbytes for piece in memory[name]) != extent.spec.num_bytes:
                raise ValueError(f"array {name!r} does not follow the one before it, or has another size")
            for piece in memory[name]:
                _fill(file, piece, digest.update)
            position = extent.end
        if start + position != num_bytes:
            raise ValueError(f"{num_bytes - start - position:,} bytes follow the last array")
    return digest.hexdigest(), metadata


def _read(file: FileIO, num_bytes: int) -> memoryview:
    buffer = np.empty(num_bytes, dtype=np.uint8).data
    _fill(file, buffer, lambda piece: None)
    return buffer


def _fill(file: FileIO, memory: memoryview, hash_piece: Callable[[memoryview], object]) -> None:
    done = 0
    while done < len(memory):
        count = file.readinto(memory[done : done + _PIECE_BYTES])
        if not count:
            raise EOFError(f"the file ends {len(memory) - done:,} bytes too early")
        hash_piece(memory[done : done + count])
        done += count
