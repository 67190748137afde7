"""Disk space: what the library uses, what can be evicted, and what no session needs any more."""

import heapq
import sqlite3
import time
from collections.abc import Collection
from pathlib import Path

from sala_core.store.base import LibraryBase, find_session
from sala_core.store.checkpoints import Forest, chain_of, delete_checkpoints, is_registered
from sala_core.store.locks import is_held
from sala_core.store.rows import Usage

_UNNEEDED_DOCUMENT = "used_at <= ? AND NOT EXISTS (SELECT 1 FROM parts WHERE document_id = documents.id)"
GARBAGE_AGE_S = 3600.0
"""Younger files and rows can belong to work in progress that has not yet registered them."""


class Space(LibraryBase):
    """The part of the library that counts and frees bytes."""

    def usage(self) -> Usage:
        """Return the bytes on disk, by kind."""
        with self.database.read() as conn:
            segments, snapshots = conn.execute(
                "SELECT coalesce(sum(segment_bytes), 0), coalesce(sum(snapshot_bytes), 0) FROM checkpoints"
            ).fetchone()
            (documents,) = conn.execute("SELECT coalesce(sum(file_bytes), 0) FROM documents").fetchone()
        present = sum(size for _, size, _ in _files(self.states_folder) + _files(self.documents_folder))
        return Usage(
            segments_bytes=segments,
            snapshots_bytes=snapshots,
            documents_bytes=documents,
            database_bytes=sum(size for path, size, _ in _files(self.folder) if path.name.startswith("library.db")),
            stray_bytes=max(0, present - segments - snapshots - documents),
        )

    def session_state_bytes(self, session_id: str) -> int:
        """Return the bytes of the state files on the chain to a session's head, including shared files.

        Raises SessionNotFoundError.
        """
        with self.database.read() as conn:
            head = find_session(conn, session_id).head
            return 0 if head is None else sum(row.num_bytes for row in chain_of(conn, head))

    def droppable_bytes(self, session_ids: Collection[str]) -> int:
        """Return the bytes that `drop_state` frees if it is called for all these sessions; unknown ids are ignored."""
        with self.database.read() as conn:
            forest = Forest(conn)
            heads = conn.execute("SELECT id, head FROM sessions WHERE head IS NOT NULL").fetchall()
        dropped = [row["head"] for row in heads if row["id"] in session_ids]
        remaining = [row["head"] for row in heads if row["id"] not in session_ids]
        doomed = forest.with_descendants(forest.with_ancestors(dropped) - forest.with_ancestors(remaining))
        return sum(forest.rows[name].num_bytes for name in doomed)

    def garbage_bytes(self, min_age_s: float = GARBAGE_AGE_S) -> int:
        """Return the bytes of the files that `collect_garbage` would delete."""
        oldest = time.time() - min_age_s
        with self.database.read() as conn:
            forest = Forest(conn)
            states = sum(forest.rows[name].num_bytes for name in _unneeded_states(conn, forest, oldest))
            query = f"SELECT coalesce(sum(file_bytes), 0) FROM documents WHERE {_UNNEEDED_DOCUMENT}"
            (documents,) = conn.execute(query, [oldest]).fetchone()
        strays = (path.stat().st_size for path in self._stray_files(oldest) if path.exists())
        return states + int(documents) + sum(strays)

    def evict(self, max_bytes: int) -> int:
        """Delete the least recently used states until at most `max_bytes` remain; return the bytes freed.

        Chains are shortened from their ends. A head moves back to the nearest remaining snapshot, or to None. Texts,
        tokens and messages stay. The states of sessions that are locked for writing stay too, so more than
        `max_bytes` can remain. For callers of this package that keep a quota; the page frees what its user chooses.
        """
        locked = self._locked_sessions()
        with self.database.write() as conn:
            forest = Forest(conn)
            heads = [row["head"] for row in conn.execute("SELECT id, head FROM sessions") if row["id"] in locked]
            protected = forest.with_ancestors(heads) | forest.with_descendants(heads)
            files = delete_checkpoints(conn, _least_used(forest, protected, max_bytes))
        return self.remove_files([self.states_folder / name for name in files])

    def collect_garbage(self, min_age_s: float = GARBAGE_AGE_S) -> int:
        """Delete states, documents and stray files that no session needs; return the bytes freed.

        Only what has not been used for `min_age_s` seconds is deleted, because a reading in another process can be
        about to use the rest.
        """
        oldest = time.time() - min_age_s
        with self.database.write() as conn:
            files = delete_checkpoints(conn, _unneeded_states(conn, Forest(conn), oldest))
            conn.execute(f"DELETE FROM documents WHERE {_UNNEEDED_DOCUMENT}", [oldest])
            conn.execute("DELETE FROM token_runs WHERE NOT EXISTS (SELECT 1 FROM parts WHERE run = token_runs.row)")
            conn.execute("PRAGMA incremental_vacuum")
        freed = self.remove_files([self.states_folder / name for name in files])
        return freed + self.remove_files(self._stray_files(oldest))

    def _stray_files(self, oldest: float) -> list[Path]:
        """Files that no row names and that were last changed at `oldest` or before."""
        files = _files(self.states_folder) + _files(self.documents_folder)
        with self.database.read() as conn:
            return [path for path, _, changed in files if changed <= oldest and not is_registered(conn, path)]

    def _locked_sessions(self) -> set[str]:
        """Ids of the sessions that are locked for writing."""
        with self.database.read() as conn:
            sessions = [row["id"] for row in conn.execute("SELECT id FROM sessions")]
        return {session_id for session_id in sessions if is_held(self.locks_folder, session_id)}


def _unneeded_states(conn: sqlite3.Connection, forest: Forest, oldest: float) -> set[str]:
    """Return the checkpoints that are on no chain to a session's head or to one used after `oldest`."""
    heads = [row["head"] for row in conn.execute("SELECT head FROM sessions WHERE head IS NOT NULL")]
    recent = [name for name, row in forest.rows.items() if row.used_at > oldest]
    return forest.rows.keys() - forest.with_ancestors(heads + recent)


def states_bytes(conn: sqlite3.Connection) -> int:
    """Return the bytes of all registered state files."""
    query = "SELECT coalesce(sum(segment_bytes + snapshot_bytes), 0) FROM checkpoints"
    return int(conn.execute(query).fetchone()[0])


def _least_used(forest: Forest, protected: set[str], max_bytes: int) -> set[str]:
    """Choose leaves, least recently used first, until the rest fits into `max_bytes`. Changes `forest`.

    After a leaf, its ancestors back to the nearest snapshot are chosen too: without the leaf they are of no use.
    """
    left = sum(row.num_bytes for row in forest.rows.values())
    chosen: set[str] = set()
    leaves = [
        (row.used_at, name) for name, row in forest.rows.items() if forest.is_leaf(name) and name not in protected
    ]
    heapq.heapify(leaves)
    while leaves and left > max_bytes:
        _, name = heapq.heappop(leaves)
        parent: str | None = name
        while parent is not None and (parent == name or not forest.rows[parent].has_snapshot):
            if parent in protected or not forest.is_leaf(parent):
                break
            left -= forest.rows[parent].num_bytes
            chosen.add(parent)
            parent = forest.remove(parent)
        if parent is not None and parent not in protected and forest.is_leaf(parent):
            heapq.heappush(leaves, (forest.rows[parent].used_at, parent))
    return chosen


def _files(folder: Path) -> list[tuple[Path, int, float]]:
    """Return (path, bytes, time of the last change) of the files in a folder."""
    files = []
    for path in folder.iterdir():
        try:
            status = path.stat()
        except FileNotFoundError:  # deleted since the folder was listed
            continue
        if path.is_file():
            files.append((path, status.st_size, status.st_mtime))
    return files
