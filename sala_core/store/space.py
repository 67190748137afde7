"""Disk space: what the library uses, what can be evicted, and what no session needs any more."""

import heapq
import sqlite3
import time
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from sala_core.disk.files import TEMPORARY_SUFFIX
from sala_core.errors import LibraryError, StateError
from sala_core.store.base import find_session
from sala_core.store.checkpoints import SNAPSHOT_SUFFIX, Forest, chain_of, delete_checkpoints, is_registered
from sala_core.store.integrity.records import drop_unused_runs, remove_records, revisions
from sala_core.store.integrity.soundness import Soundness
from sala_core.store.locks import forget_unused_locks, is_held
from sala_core.store.rows import Usage

_UNNEEDED_DOCUMENT = (
    "used_at <= ? AND NOT EXISTS (SELECT 1 FROM parts WHERE document_id = documents.id)"
    " AND NOT EXISTS (SELECT 1 FROM former_documents WHERE document_id = documents.id)"
)
INTERVAL_TOKENS = 65_536
"""A quota never leaves more tokens than these between a turn and the snapshot before it."""

_JOURNALS = ("-journal", "-wal", "-shm")
"""What SQLite adds to the name of a database that is being written: here, of its copy."""

GARBAGE_AGE_S = 3600.0
"""Younger files and rows can belong to work in progress that has not yet registered them."""


class Space(Soundness):
    """The part of the library that counts and frees bytes."""

    def usage(self) -> Usage:
        """Return the bytes on disk, by kind."""
        with self.database.read() as conn:
            segments, snapshots = conn.execute(
                "SELECT coalesce(sum(segment_bytes), 0), coalesce(sum(snapshot_bytes), 0) FROM checkpoints"
            ).fetchone()
            (documents,) = conn.execute("SELECT coalesce(sum(file_bytes), 0) FROM documents").fetchone()
        kept = [size for path, size, _ in _files(self.folder) if path.name.startswith("library.")]
        kept += [size for _, size, _ in _files(self.records_folder)]
        present = sum(size for _, size, _ in _files(self.states_folder) + _files(self.documents_folder))
        kept_files = self.folder / "originals"
        originals = sum(size for _, size, _ in _files(kept_files)) if kept_files.is_dir() else 0
        return Usage(
            segments_bytes=segments,
            snapshots_bytes=snapshots,
            documents_bytes=documents + originals,
            database_bytes=sum(kept),
            stray_bytes=max(0, present - segments - snapshots - documents),
        )

    def session_state_bytes(self, session_id: str) -> int:
        """Return the bytes of the state files on the chain to a session's head, including shared files.

        Raises SessionNotFoundError.
        """
        with self.database.read() as conn:
            head = find_session(conn, session_id).head
            try:
                return 0 if head is None else sum(row.num_bytes for row in chain_of(conn, head))
            except StateError:  # a damaged chain: the session's next use reads it again
                return 0

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
        `max_bytes` can remain.
        """
        return self._make_room(max_bytes, thin=False)

    def make_room(self, max_bytes: int) -> int:
        """Keep a quota: as `evict`, but snapshots that are no session's head are deleted before any chain.

        They only save time where another session branches off.
        """
        return self._make_room(max_bytes, thin=True)

    def _make_room(self, max_bytes: int, *, thin: bool) -> int:
        locked = self._locked_sessions()

        def choose() -> list[str]:
            with self.database.write() as conn:
                forest = Forest(conn)
                heads = [row["head"] for row in conn.execute("SELECT id, head FROM sessions") if row["id"] in locked]
                protected = forest.with_ancestors(heads) | forest.with_descendants(heads)
                files = _thin(conn, protected, states_bytes(conn) - max_bytes) if thin else []
                return files + delete_checkpoints(conn, _least_used(Forest(conn), protected, max_bytes))

        with self.room_to_delete():
            return self.remove_files([self.states_folder / name for name in self.deleting(choose)])

    def tidy(self) -> None:
        """Collect garbage and keep a copy of the database, after work that is done: a failure does not concern it."""
        with suppress(LibraryError):
            self.collect_garbage()
            self.keep_copy()

    def quota(self) -> int | None:
        """Return the quota for states in bytes that the library keeps; None for no quota."""
        with self.database.read() as conn:
            row = conn.execute("SELECT value FROM library WHERE key = 'quota_bytes'").fetchone()
        return None if row is None else int(row["value"])

    def set_quota(self, max_bytes: int | None) -> None:
        """Keep a quota for states in the library, for all processes that open it from now on; None for no quota."""
        with self.database.write() as conn:
            conn.execute("DELETE FROM library WHERE key = 'quota_bytes'")
            if max_bytes is not None:
                conn.execute("INSERT INTO library (key, value) VALUES ('quota_bytes', ?)", [str(max_bytes)])
        self.max_state_bytes = max_bytes

    def collect_garbage(self, min_age_s: float = GARBAGE_AGE_S) -> int:
        """Delete states, documents and stray files that no session needs; return the bytes freed.

        Only what has not been used for `min_age_s` seconds is deleted, because a reading in another process can be
        about to use the rest.
        """
        oldest = time.time() - min_age_s
        if self.is_behind or self.database.read_only:
            return 0

        def collect() -> list[Path]:
            with self.database.write() as conn:
                names = delete_checkpoints(conn, _unneeded_states(conn, Forest(conn), oldest))
                files = [self.states_folder / name for name in names]
                unneeded = conn.execute(f"DELETE FROM documents WHERE {_UNNEEDED_DOCUMENT} RETURNING id", [oldest])
                files += [self.documents_folder / f"{row['id']}.safetensors" for row in unneeded.fetchall()]
                drop_unused_runs(conn)
                conn.execute("PRAGMA incremental_vacuum")
                forget_unused_locks(self.locks_folder, [row["id"] for row in conn.execute("SELECT id FROM sessions")])
            return files

        with self.room_to_delete():
            freed = self.remove_files(self.deleting(collect)) + self._remove_half_written(oldest)
            return freed + self.remove_files(self._stray_files(oldest))

    def _remove_half_written(self, oldest: float) -> int:
        """Delete what a crash has left of records and of files beside the database, and records of earlier revisions;
        return the bytes freed."""
        freed = 0
        for path, size, changed in _files(self.folder) + _files(self.records_folder):
            is_temporary = path.name.endswith(
                (TEMPORARY_SUFFIX, *(TEMPORARY_SUFFIX + journal for journal in _JOURNALS))
            )
            if is_temporary and changed <= oldest:
                with suppress(OSError):
                    path.unlink()
                    freed += size
        for session_id, numbers in revisions(self.records_folder).items():
            with suppress(LibraryError):
                remove_records(self.records_folder, session_id, below=numbers[-1])
        return freed

    def _stray_files(self, oldest: float) -> list[Path]:
        """Files that no row names, and that were last changed at `oldest` or before.

        One that is older than the database was not left by a crash: the database has lost its row.
        """
        files = _files(self.states_folder) + _files(self.documents_folder)
        with self.database.read() as conn:
            born = float(conn.execute("SELECT value FROM library WHERE key = 'born_at'").fetchone()["value"])
            return [
                path
                for path, _, changed in files
                if (born <= changed or path.name.endswith(TEMPORARY_SUFFIX))
                and changed <= oldest
                and not is_registered(conn, path)
            ]

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


def _thin(conn: sqlite3.Connection, protected: set[str], excess_bytes: int) -> list[str]:
    """Drop spare snapshots that are no session's head, the least recently used first; return the names of their files.

    A session can then still be branched at every turn with at most INTERVAL_TOKENS read again.

    protected: checkpoints that keep theirs as long as others can make room. excess_bytes: how much is to be freed.
    """
    rows = conn.execute(
        "SELECT name, snapshot_bytes FROM checkpoints WHERE snapshot_checksum IS NOT NULL"
        " AND NOT EXISTS (SELECT 1 FROM sessions WHERE head = checkpoints.name)"
        " AND EXISTS (SELECT 1 FROM checkpoints later WHERE later.parent = checkpoints.name)"
        " ORDER BY used_at, end_token"
    ).fetchall()
    files, forest = [], Forest(conn)
    for row in sorted(rows, key=lambda row: row["name"] in protected):
        if excess_bytes <= 0:
            break
        if forest.is_spare(row["name"], INTERVAL_TOKENS):
            conn.execute(
                "UPDATE checkpoints SET snapshot_bytes = 0, snapshot_checksum = NULL WHERE name = ?", [row["name"]]
            )
            forest.drop_snapshot(row["name"])
            files.append(row["name"] + SNAPSHOT_SUFFIX)
            excess_bytes -= row["snapshot_bytes"]
    return files


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
