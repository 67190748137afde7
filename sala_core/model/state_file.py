"""A whole state in one file, for callers of `Engine.save_state`. Sessions store segments and snapshots instead."""

from pathlib import Path

import xxhash

from sala_core.disk.files import read_whole, write_file
from sala_core.disk.safetensors import decode_tensors, encode_tensors
from sala_core.errors import CorruptStateError, StateMismatchError
from sala_core.model.fingerprint import STATE_FORMAT
from sala_core.model.state import SalaState

_DIGEST_BYTES = 16


def write_state(state: SalaState, file: Path, fingerprint: str) -> None:
    """Write `state` to `file` atomically, with a checksum. Raises DiskFullError, LibraryError."""
    metadata = {"format": str(STATE_FORMAT), "fingerprint": fingerprint, "position": str(state.position)}
    digest = xxhash.xxh3_128()
    pieces = []
    for piece in encode_tensors({**state.segment(0, state.position), **state.snapshot()}, metadata):
        digest.update(piece)
        pieces.append(piece)
    write_file(file, [*pieces, memoryview(digest.digest())])


def read_state(state: SalaState, file: Path, fingerprint: str) -> SalaState:
    """Fill the empty `state` from `file` and return it.

    Raises StateMismatchError if another model, dtype or format wrote the file, CorruptStateError if it is missing or
    damaged.
    """
    try:
        data = read_whole(file.resolve(), file.stat().st_size)
    except (OSError, EOFError) as error:
        raise CorruptStateError(f"cannot read the state {file}: {error}") from error
    body, digest = data[:-_DIGEST_BYTES], data[-_DIGEST_BYTES:]
    if len(data) <= _DIGEST_BYTES or xxhash.xxh3_128_digest(body) != bytes(digest):
        raise CorruptStateError(f"{file} is damaged: its checksum does not match; read the documents again")
    try:
        tensors, metadata = decode_tensors(body)
        position = int(metadata["position"])
    except (ValueError, KeyError) as error:
        raise CorruptStateError(f"{file} is not a state file: {error}") from error
    if metadata.get("format") != str(STATE_FORMAT) or metadata.get("fingerprint") != fingerprint:
        raise StateMismatchError(
            f"{file} was saved by another model, dtype or version (state {metadata.get('fingerprint')}, "
            f"this model {fingerprint}); read the documents again"
        )
    state.append_segment({k: v for k, v in tensors.items() if not k.startswith("state.")}, position)
    state.restore_snapshot(tensors, position)
    return state
