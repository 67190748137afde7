"""The tree of checkpoints in the database: chains, ancestors and descendants, and the files of each row."""

import sqlite3
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import xxhash

from sala_core.errors import CorruptStateError, StateError
from sala_core.store.integrity.row_checksums import is_sound
from sala_core.store.rows import CheckpointRow

FORMAT = 1
"""Version of the format of state files. States of other versions are refused."""

BODY = "body"
"""Key in a state file's header: xxh3-128 of all bytes behind the header. Files of early versions lack it."""
SEGMENT_SUFFIX = ".segment.safetensors"
SNAPSHOT_SUFFIX = ".snapshot.safetensors"

_ANCESTORS = """
WITH RECURSIVE chain(name, parent, depth) AS (
  SELECT name, parent, 0 FROM checkpoints WHERE name = ?
  UNION ALL
  SELECT c.name, c.parent, depth + 1 FROM chain JOIN checkpoints c ON c.name = chain.parent
)
"""

_LATER_SNAPSHOT = """
WITH RECURSIVE later(name, snapshot_checksum) AS (
  SELECT name, snapshot_checksum FROM checkpoints WHERE parent = ?
  UNION ALL
  SELECT c.name, c.snapshot_checksum FROM later JOIN checkpoints c ON c.parent = later.name
)
SELECT 1 FROM later WHERE snapshot_checksum IS NOT NULL LIMIT 1
"""


def checkpoint_name(fingerprint: str, parent: str | None, token_ids: np.ndarray) -> str:
    """Return the name of the checkpoint that adds tokens to `parent`: 32 hexadecimal digits.

    fingerprint: of the model. token_ids: little-endian int32 [n].
    """
    prefix = f"sala-checkpoint\0{FORMAT}\0{fingerprint}\0{parent or ''}\0"
    return xxhash.xxh3_128_hexdigest(prefix.encode() + token_ids.tobytes())


def checkpoint_row(row: sqlite3.Row) -> CheckpointRow:
    """Convert one row of the table `checkpoints` to its record."""
    return CheckpointRow(
        name=row["name"],
        parent=row["parent"],
        fingerprint=row["fingerprint"],
        format=row["format"],
        start=row["start_token"],
        end=row["end_token"],
        keep=bool(row["keep"]),
        segment_bytes=row["segment_bytes"],
        segment_checksum=row["segment_checksum"],
        snapshot_bytes=row["snapshot_bytes"],
        snapshot_checksum=row["snapshot_checksum"],
        created_at=row["created_at"],
        used_at=row["used_at"],
    )


def find_checkpoint(conn: sqlite3.Connection, name: str) -> CheckpointRow | None:
    """Return the checkpoint called `name`, or None. Raises CorruptStateError if its row is damaged."""
    row = conn.execute("SELECT * FROM checkpoints WHERE name = ?", [name]).fetchone()
    return None if row is None else _checked(row)


def _checked(row: sqlite3.Row) -> CheckpointRow:
    if not is_sound("checkpoints", row):
        raise CorruptStateError(
            f"the row of state {row['name']} does not match its checksum; discard it and read again from an earlier one"
        )
    return checkpoint_row(row)


def chain_of(conn: sqlite3.Connection, name: str) -> list[CheckpointRow]:
    """Return the checkpoints from the root to `name`.

    Raises StateError if one is missing, or does not start where its parent ends; CorruptStateError for a damaged row.
    """
    rows = conn.execute(
        _ANCESTORS + "SELECT c.* FROM chain JOIN checkpoints c USING (name) ORDER BY depth DESC", [name]
    )
    chain = [_checked(row) for row in rows]
    if not chain:
        raise StateError(f"no saved state is called {name}; read the session again")
    position = 0
    for row in chain:
        if row.start != position or (row.parent is None) != (row is chain[0]):
            raise StateError(f"the state before token {row.start:,} of {name} is missing; read the session again")
        position = row.end
    return chain


def touch_chain(conn: sqlite3.Connection, name: str, now: float) -> None:
    """Mark `name` and all its ancestors as used at the time `now`, in seconds since 1970."""
    conn.execute(_ANCESTORS + "UPDATE checkpoints SET used_at = ? WHERE name IN (SELECT name FROM chain)", [name, now])


def drop_rolling_snapshots(conn: sqlite3.Connection, name: str | None) -> list[str]:
    """Drop the nearest snapshot at or before `name` if it is not needed any more; return the names of dropped files.

    It is not needed if it is not marked `keep`, is not the head of a session, and a descendant has a snapshot.
    """
    while name is not None:
        row = conn.execute("SELECT parent, snapshot_checksum FROM checkpoints WHERE name = ?", [name]).fetchone()
        if row is None:
            return []
        if row["snapshot_checksum"] is not None:
            break
        name = row["parent"]
    if name is None or conn.execute(_LATER_SNAPSHOT, [name]).fetchone() is None:
        return []
    dropped = conn.execute(
        "UPDATE checkpoints SET snapshot_bytes = 0, snapshot_checksum = NULL WHERE name = ? AND keep = 0"
        " AND NOT EXISTS (SELECT 1 FROM sessions WHERE head = checkpoints.name) RETURNING name",
        [name],
    ).fetchall()
    return [row["name"] + SNAPSHOT_SUFFIX for row in dropped]


def is_registered(conn: sqlite3.Connection, file: Path) -> bool:
    """Whether a row names this state or document file."""
    for suffix, condition in ((SEGMENT_SUFFIX, ""), (SNAPSHOT_SUFFIX, " AND snapshot_checksum IS NOT NULL")):
        if file.name.endswith(suffix):
            query, key = (
                f"SELECT 1 FROM checkpoints WHERE name = ?{condition}",
                file.name.removesuffix(suffix),
            )
            break
    else:
        query, key = "SELECT 1 FROM documents WHERE id = ?", file.stem
    return conn.execute(query, [key]).fetchone() is not None


class Forest:
    """All checkpoints as a forest in memory, to decide which can be deleted."""

    def __init__(self, conn: sqlite3.Connection) -> None:
        """Load all rows."""
        self.rows = {row["name"]: checkpoint_row(row) for row in conn.execute("SELECT * FROM checkpoints")}
        self._children: dict[str, set[str]] = defaultdict(set)
        for row in self.rows.values():
            if row.parent is not None:
                self._children[row.parent].add(row.name)

    def with_ancestors(self, names: Iterable[str | None]) -> set[str]:
        """Return `names` and all their ancestors; unknown names and None are ignored."""
        closed: set[str] = set()
        for name in names:
            while name is not None and name in self.rows and name not in closed:
                closed.add(name)
                name = self.rows[name].parent
        return closed

    def with_descendants(self, names: Iterable[str | None]) -> set[str]:
        """Return `names` and all their descendants; unknown names and None are ignored."""
        closed: set[str] = set()
        pending = [name for name in names if name is not None and name in self.rows]
        while pending:
            name = pending.pop()
            if name not in closed:
                closed.add(name)
                pending.extend(self._children[name])
        return closed

    def is_spare(self, name: str, max_tokens: int) -> bool:
        """Whether every place that is reached from this snapshot is at most `max_tokens` behind an earlier one too."""
        parent, start = self.rows[name].parent, 0
        while parent is not None:
            if self.rows[parent].has_snapshot:
                start = self.rows[parent].end
                break
            parent = self.rows[parent].parent
        pending, end = [name], self.rows[name].end
        while pending:
            for child in self._children[pending.pop()]:
                end = max(end, self.rows[child].end)
                if not self.rows[child].has_snapshot:
                    pending.append(child)
        return end - start <= max_tokens

    def drop_snapshot(self, name: str) -> None:
        """Take a checkpoint's snapshot out of the forest."""
        self.rows[name] = replace(self.rows[name], snapshot_bytes=0, snapshot_checksum=None)

    def is_leaf(self, name: str) -> bool:
        """Whether `name` has no child."""
        return not self._children[name]

    def remove(self, name: str) -> str | None:
        """Remove a leaf; return its parent."""
        assert self.is_leaf(name), "only a leaf can be removed"
        parent = self.rows.pop(name).parent
        if parent is not None:
            self._children[parent].discard(name)
        return parent


def delete_checkpoints(conn: sqlite3.Connection, names: Iterable[str]) -> list[str]:
    """Delete rows and move heads on them back to the nearest remaining snapshot; return the names of their files.

    names: with every checkpoint all its descendants. The caller deletes the files after the commit.
    """
    doomed = set(names)
    heads = conn.execute("SELECT id, head FROM sessions WHERE head IS NOT NULL").fetchall()
    for session in heads:
        if session["head"] in doomed:
            survivor = _nearest_snapshot(conn, session["head"], doomed)
            conn.execute(
                "UPDATE sessions SET head = ?, position = ? WHERE id = ?",
                [survivor and survivor.name, survivor.end if survivor else 0, session["id"]],
            )
    conn.executemany("DELETE FROM checkpoints WHERE name = ?", [(name,) for name in doomed])
    return [name + suffix for name in doomed for suffix in (SEGMENT_SUFFIX, SNAPSHOT_SUFFIX)]


def _nearest_snapshot(conn: sqlite3.Connection, name: str, doomed: set[str]) -> CheckpointRow | None:
    """The last checkpoint of the chain to `name` that has a snapshot and is not in `doomed`.

    None for a chain that is broken: its states are found by their tokens, or read again.
    """
    last: str | None = name
    while last is not None and last in doomed:
        row = conn.execute("SELECT parent FROM checkpoints WHERE name = ?", [last]).fetchone()
        last = None if row is None else row["parent"]
    try:
        chain = [] if last is None else chain_of(conn, last)
    except StateError:
        return None
    usable = [row for row in chain if row.name not in doomed and row.has_snapshot]
    return usable[-1] if usable else None
