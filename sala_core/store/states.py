"""Checkpoints of the model state: segments and snapshots, verified when they are loaded.

A checkpoint covers a run of tokens. Its name is a hash of everything its content depends on: the name of its parent,
its token ids and the model's fingerprint. Sessions that begin with the same tokens therefore share checkpoints.
"""

import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import xxhash
from torch import Tensor

from sala_core.disk.files import (
    StagedFile,
    checksum,
    displace_folder,
    format_bytes,
    publish,
    read_whole,
    stage_file,
    storage_error,
)
from sala_core.disk.layout import Spec
from sala_core.disk.safetensors import decode_tensors, encode_tensors, memory_of, spec_of
from sala_core.disk.scatter import read_into
from sala_core.errors import CorruptStateError, DiskFullError, StateError, StateMismatchError
from sala_core.store.checkpoints import (
    BODY,
    FORMAT,
    SEGMENT_SUFFIX,
    SNAPSHOT_SUFFIX,
    Forest,
    chain_of,
    checkpoint_name,
    delete_checkpoints,
    drop_rolling_snapshots,
    find_checkpoint,
    touch_chain,
)
from sala_core.store.database import insert_row
from sala_core.store.library import Library
from sala_core.store.rows import CheckpointRow
from sala_core.store.space import states_bytes
from sala_core.store.streams import as_token_ids


class StateStore:
    """The checkpoints of one model in a library."""

    def __init__(self, library: Library, fingerprint: str) -> None:
        """Store and load states of the model with this fingerprint. States of other models are refused."""
        self.library = library
        self.fingerprint = fingerprint
        self.bytes_written = 0
        """Bytes of all files that this object has written."""

    def name(self, parent: str | None, token_ids: np.ndarray) -> str:
        """Return the name of the checkpoint that adds `token_ids` to `parent`: 32 hexadecimal digits.

        token_ids: int32 [n], n > 0. Raises StateError if there are none.
        """
        ids = as_token_ids(token_ids)
        if not ids.size:
            raise StateError("a checkpoint covers at least one token; none was given")
        return checkpoint_name(self.fingerprint, parent, ids)

    def has(self, name: str) -> bool:
        """Whether the checkpoint is stored and belongs to this model. One with a damaged row is discarded."""
        try:
            with self.library.database.read() as conn:
                row = find_checkpoint(conn, name)
        except CorruptStateError:
            self.discard(name)
            self.library.notices.append(f"the row of state {name} was damaged; what it held is read again")
            return False
        return row is not None and row.fingerprint == self.fingerprint and row.format == FORMAT

    def checkpoint(self, name: str) -> CheckpointRow:
        """Return the row of a checkpoint. Raises StateError if it is not stored, StateMismatchError."""
        with self.library.database.read() as conn:
            return self._find(conn, name)

    def chain(self, name: str) -> list[CheckpointRow]:
        """Return the checkpoints from the first token to `name`, in order.

        Raises StateError if one is missing, StateMismatchError if another model computed them.
        """
        with self.library.database.read() as conn:
            self._find(conn, name)
            return chain_of(conn, name)

    def save(
        self,
        *,
        parent: str | None,
        token_ids: np.ndarray,
        start: int,
        segment: Mapping[str, Tensor],
        snapshot: Mapping[str, Tensor] | None,
        keep: bool,
    ) -> str:
        """Store a checkpoint durably and return its name.

        If it exists already, only a missing snapshot is added, and `keep` can change from False to True. Raises
        StateError if the parent is not stored or does not end at `start`; DiskFullError if the disk or the library's
        quota is full. Nothing is stored then.

        Args:
            parent: name of the checkpoint before it, None for the first one.
            token_ids: int32 [n], the tokens at positions start ... start + n - 1.
            start: where `parent` ends; 0 for the first one.
            segment: keys, values and compressed keys of these tokens. The tensors are not changed.
            snapshot: linear states after the last token, or None.
            keep: False for a rolling snapshot, which is dropped once a later one is stored and it is no session's head.
        """
        ids = as_token_ids(token_ids)
        name = self.name(parent, ids)
        with self.library.database.read() as conn:
            self._check_parent(conn, parent, start)
            row = find_checkpoint(conn, name)
            used = states_bytes(conn)
        kinds: dict[str, Mapping[str, Tensor]] = {}
        if row is None:
            kinds[SEGMENT_SUFFIX] = segment
        if snapshot is not None and (row is None or not row.has_snapshot):
            kinds[SNAPSHOT_SUFFIX] = snapshot
        self._check_quota(kinds, used)
        about = self._metadata(name, parent, start, start + len(ids))
        with ExitStack() as stack:
            staged = {
                suffix: stack.enter_context(
                    stage_file(self._path(name, suffix), _encoded(tensors, about | {"kind": _kind(suffix)}))
                )
                for suffix, tensors in kinds.items()
            }
            dropped = self._commit(name, parent, start, start + len(ids), staged, keep)
        self.library.remove_files([self.library.states_folder / file for file in dropped])
        return name

    def load_segment(self, name: str) -> dict[str, Tensor]:
        """Load a checkpoint's segment as new CPU tensors and verify its checksum.

        Raises StateError if it is not stored, StateMismatchError, CorruptStateError (then `discard` it).
        """
        row = self.checkpoint(name)
        return self._load(row, SEGMENT_SUFFIX, row.segment_bytes, row.segment_checksum)

    def load_segment_into(self, row: CheckpointRow, out: Mapping[str, Tensor]) -> None:
        """Read a checkpoint's segment straight into tensors, and verify its checksum. For several threads at once.

        Args:
            row: of the checkpoint, from `chain`.
            out: CPU tensors of the segment's names, shapes and dtypes. What they hold is undefined if this raises.

        Raises as `load_segment`, and CorruptStateError if the file holds other tensors than `out`.
        """
        expected = {name: spec_of(tensor) for name, tensor in out.items()}

        def place(found: Mapping[str, Spec]) -> dict[str, list[memoryview]]:
            if found != expected:
                raise ValueError("it holds other tensors than its model makes")
            return {name: memory_of(tensor) for name, tensor in out.items()}

        with self._damage_of(row, SEGMENT_SUFFIX, row.segment_checksum) as path:
            digest, metadata = read_into(path, row.segment_bytes, place)
            self._check(row, SEGMENT_SUFFIX, digest == row.segment_checksum, metadata)

    def load_snapshot(self, name: str) -> dict[str, Tensor]:
        """Load a checkpoint's snapshot like `load_segment`, and mark its whole chain as used."""
        with self.library.database.write() as conn:
            self._find(conn, name)
            touch_chain(conn, name, time.time())
            row = self._find(conn, name)
        return self._load(row, SNAPSHOT_SUFFIX, row.snapshot_bytes, row.snapshot_checksum)

    def discard(self, name: str) -> int:
        """Delete a damaged checkpoint and all its descendants; return the bytes freed.

        Heads move back to the nearest snapshot before it. An unknown name is ignored.
        """
        with self.library.database.write() as conn:
            files = delete_checkpoints(conn, Forest(conn).with_descendants([name]))
        return self.library.remove_files([self.library.states_folder / file for file in files])

    def collect_garbage(self) -> int:
        """Call `Library.collect_garbage`, for the states of all models; return the bytes freed."""
        return self.library.collect_garbage()

    @staticmethod
    def _displace(target: Path) -> None:
        try:
            displace_folder(target)
        except OSError as error:
            raise storage_error(error, target) from error

    def _path(self, name: str, suffix: str) -> Path:
        return self.library.states_folder / (name + suffix)

    def _metadata(self, name: str, parent: str | None, start: int, end: int) -> dict[str, str]:
        return {
            "format": str(FORMAT),
            "fingerprint": self.fingerprint,
            "name": name,
            "parent": parent or "",
            "start": str(start),
            "end": str(end),
        }

    def _find(self, conn: sqlite3.Connection, name: str) -> CheckpointRow:
        row = find_checkpoint(conn, name)
        if row is None:
            raise StateError(f"no saved state is called {name}; read the session again")
        if row.format != FORMAT:
            raise StateMismatchError(
                f"state {name} has file format {row.format} and this program reads {FORMAT}; read the session again"
            )
        if row.fingerprint != self.fingerprint:
            raise StateMismatchError(
                f"state {name} was computed by another model, dtype or layout ({row.fingerprint}) than the "
                f"one in use ({self.fingerprint}); load that model, or read the session again with this one"
            )
        return row

    def _check_parent(self, conn: sqlite3.Connection, parent: str | None, start: int) -> None:
        end = 0 if parent is None else self._find(conn, parent).end
        if start != end:
            raise StateError(f"a run that starts at token {start:,} cannot follow a state that ends at {end:,}")

    def _check_quota(self, kinds: Mapping[str, Mapping[str, Tensor]], used: int) -> None:
        limit = self.library.max_state_bytes
        needed = sum(tensor.nbytes for tensors in kinds.values() for tensor in tensors.values())
        if limit is not None and needed and used + needed > limit and limit >= needed:
            self.library.make_room(limit - needed)
            with self.library.database.read() as conn:
                used = states_bytes(conn)
        if limit is not None and needed and used + needed > limit:
            raise DiskFullError(
                f"{format_bytes(needed)} of state would not fit: the library's states use "
                f"{format_bytes(used)} of the {format_bytes(limit)} allowed; nothing was "
                "lost; no other session has states that could make room: delete sessions, or raise the limit: `quota`"
            )

    def _commit(
        self, name: str, parent: str | None, start: int, end: int, staged: dict[str, StagedFile], keep: bool
    ) -> list[str]:
        """Publish the files that no other process has stored since, write the row; return the files to delete."""
        with self.library.database.write() as conn:
            self._check_parent(conn, parent, start)
            row = find_checkpoint(conn, name)
            if row is None and SEGMENT_SUFFIX not in staged:
                raise StateError(f"state {name} was deleted while it was being saved; save it again")
            if row is not None:
                staged.pop(SEGMENT_SUFFIX, None)
                if row.has_snapshot:
                    staged.pop(SNAPSHOT_SUFFIX, None)
            for item in staged.values():
                self._displace(item.target)
            publish(staged.values())
            self.bytes_written += sum(item.num_bytes for item in staged.values())
            segment, snapshot = staged.get(SEGMENT_SUFFIX), staged.get(SNAPSHOT_SUFFIX)
            now = time.time()
            if segment is not None:
                values = {
                    "name": name,
                    "parent": parent,
                    "fingerprint": self.fingerprint,
                    "format": FORMAT,
                    "start_token": start,
                    "end_token": end,
                    "keep": keep,
                    "segment_bytes": segment.num_bytes,
                    "segment_checksum": segment.checksum,
                    "created_at": now,
                    "used_at": now,
                }
                insert_row(conn, "checkpoints", values)
            if snapshot is not None:
                conn.execute(
                    "UPDATE checkpoints SET snapshot_bytes = ?, snapshot_checksum = ? WHERE name = ?",
                    [snapshot.num_bytes, snapshot.checksum, name],
                )
            conn.execute("UPDATE checkpoints SET keep = max(keep, ?), used_at = ? WHERE name = ?", [keep, now, name])
            return drop_rolling_snapshots(conn, parent)

    def _load(self, row: CheckpointRow, suffix: str, num_bytes: int, expected: str | None) -> dict[str, Tensor]:
        """Read one file of a checkpoint and check length, checksum and metadata. expected: checksum in the row."""
        with self._damage_of(row, suffix, expected) as path:
            data = read_whole(path, num_bytes)
            is_sound = checksum(data) == expected
            tensors, metadata = decode_tensors(data) if is_sound else ({}, {})
            self._check(row, suffix, is_sound, metadata)
        return tensors

    def _check(self, row: CheckpointRow, suffix: str, is_sound: bool, metadata: dict[str, str]) -> None:
        """Raise ValueError unless a file's checksum and metadata are those of its checkpoint."""
        if not is_sound:
            raise ValueError("its checksum does not match")
        found = {key: value for key, value in metadata.items() if key != BODY}
        if found != self._metadata(row.name, row.parent, row.start, row.end) | {"kind": _kind(suffix)}:
            raise ValueError("it describes another state")

    @contextmanager
    def _damage_of(self, row: CheckpointRow, suffix: str, expected: str | None) -> Iterator[Path]:
        """Give the path of a checkpoint's file to a block that reads it, and raise what its errors mean.

        expected: checksum in the row. Raises StateError for a file that is not stored, or was deleted meanwhile;
        CorruptStateError for any other that the block cannot read.
        """
        kind, path = _kind(suffix), self._path(row.name, suffix)
        if expected is None:
            raise StateError(f"state {row.name} has no {kind}; go on from an earlier one")
        try:
            yield path
        except (OSError, EOFError, ValueError) as error:
            with self.library.database.read() as conn:
                present = find_checkpoint(conn, row.name)
            known = present and (present.snapshot_checksum if suffix == SNAPSHOT_SUFFIX else present.segment_checksum)
            if known != expected:
                raise StateError(f"the {kind} of {row.name} was deleted just now; go on from an earlier one") from error
            raise CorruptStateError(
                f"{path.name} cannot be used ({error}); discard it and read again from the state before it"
            ) from error


def _encoded(tensors: Mapping[str, Tensor], about: Mapping[str, str]) -> Iterator[memoryview]:
    """The file's bytes, with the checksum of everything behind the header in the header.

    With it the row of a file can be made anew, if the database is lost.
    """
    digest = xxhash.xxh3_128()
    for piece in list(encode_tensors(tensors, about))[1:]:
        digest.update(piece)
    return encode_tensors(tensors, {**about, BODY: digest.hexdigest()})


def _kind(suffix: str) -> str:
    """Return `segment` or `snapshot`."""
    return suffix.split(".")[1]
