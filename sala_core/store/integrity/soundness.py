"""The part of the library that keeps itself sound: records after commits, checks before use, mending from records."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TypeVar

import numpy as np

from sala_core.disk.files import checksum
from sala_core.errors import DiskFullError, LibraryDamagedError, LibraryError, StateError
from sala_core.store.base import LibraryBase
from sala_core.store.checkpoints import Forest, checkpoint_name, delete_checkpoints
from sala_core.store.integrity import seal
from sala_core.store.integrity.library_folder import free_reserve, make_reserve
from sala_core.store.integrity.records import (
    latest_record,
    remove_records,
    restore_record,
    revisions,
    write_record,
)
from sala_core.store.integrity.row_checksums import COVERED, damaged_rows
from sala_core.store.integrity.unreadable import readable_tokens

T = TypeVar("T")

UNFINISHED_REPAIR = "repairing"
"""Key in the table `library` while a repair is under way."""
_BEHIND = (
    "the database is older than the files beside it, as after an earlier copy was put in its place: nothing is "
    "collected until `repair` has taken up what it lacks"
)
LOST_MESSAGE = "[This message is damaged on disk, and there is no other copy of it.]"
_SEARCHED = ("sessions", "documents", "messages")


class Soundness(LibraryBase):
    """Checks, records and mending."""

    def start(self, *, is_sealed: bool) -> None:
        """Check the library when it is opened, and mend what can be mended without a question.

        is_sealed: whether the database is byte for byte what was closed; otherwise it is checked page by page and row
        by row. Raises LibraryDamagedError.
        """
        with self.database.read() as conn:
            if conn.execute("SELECT 1 FROM library WHERE key = ?", [UNFINISHED_REPAIR]).fetchone():
                raise LibraryDamagedError(f"the repair of {self.folder} was interrupted; run `repair` again")
            if not is_sealed and (problem := seal.check_pages(conn)):
                raise LibraryDamagedError(
                    f"{self.database.path} is damaged ({problem}); nothing was changed; `repair` makes it anew from "
                    "its copy and the files beside it"
                )
            damaged = [] if is_sealed else self.damaged_sessions(conn)
            states = [] if is_sealed else self.damaged_checkpoints(conn)
        if self.database.read_only:
            return
        if states:
            self.notices += self.drop_checkpoints(states)
        for session_id in damaged:
            self.notices += self.mend_session(session_id)
        self.write_records()
        make_reserve(self.folder)
        if self.is_behind:
            self.notices.append(_BEHIND)
        self.database.after_commit = self.write_records

    def write_records(self) -> None:
        """Write the records that are behind the database. One that cannot be written now is written later."""
        if self.database.read_only:
            return
        with self.database.read() as conn:
            rows = {row["id"]: row["revision"] for row in conn.execute("SELECT id, revision FROM sessions")}
        known = self._recorded or {}
        behind = [session_id for session_id, revision in rows.items() if known.get(session_id) != revision]
        if self._recorded is not None and not behind:
            return
        kept = revisions(self.records_folder)
        self.ahead = {name for name, numbers in kept.items() if numbers[-1] > rows.get(name, -1)}
        self.is_behind = bool(self.ahead)
        self._recorded = {name: revision for name, revision in known.items() if name in rows}
        for session_id in behind:
            if rows[session_id] not in kept.get(session_id, []) and session_id not in self.ahead:
                with suppress(LibraryError, StateError, OSError):
                    self._fill_in(session_id)
                    with self.database.read() as conn:
                        written = write_record(conn, self.records_folder, session_id)
                    remove_records(self.records_folder, session_id, below=written)
            self._recorded[session_id] = rows[session_id]

    def damaged_sessions(self, conn: sqlite3.Connection) -> list[str]:
        """Return the ids of the sessions of which something in the database is damaged."""
        found = {
            row[0]
            for table in ("parts", "messages", "session_marks", "hidden_turns")
            for damaged in damaged_rows(conn, table)
            for row in conn.execute(f"SELECT session_id FROM {table} WHERE rowid = ?", [damaged])
        }
        found |= {
            row["id"]
            for damaged in damaged_rows(conn, "sessions")
            for row in conn.execute("SELECT id FROM sessions WHERE rowid = ?", [damaged])
        }
        runs = [row["row"] for row in conn.execute("SELECT * FROM token_runs") if checksum(row["ids"]) != row["hash"]]
        for column, values in (("run", runs), ("document_id", self._damaged_documents(conn))):
            for value in values:
                rows = conn.execute(f"SELECT DISTINCT session_id FROM parts WHERE {column} = ?", [value])
                found |= {row[0] for row in rows}
        known = {row["id"] for row in conn.execute("SELECT id FROM sessions")}
        return sorted(found & known)

    def damaged_checkpoints(self, conn: sqlite3.Connection) -> list[str]:
        """Return the names of the checkpoints whose rows are damaged."""
        rows = damaged_rows(conn, "checkpoints")
        return [conn.execute("SELECT name FROM checkpoints WHERE rowid = ?", [row]).fetchone()["name"] for row in rows]

    def is_session_damaged(self, session_id: str) -> bool:
        """Whether a row or a run of tokens of one session is damaged, or its conversation has gaps."""
        with self.database.read() as conn:
            for table in ("parts", "messages"):
                if damaged_rows(conn, table, "session_id = ?", [session_id]):
                    return True
                (count, last) = conn.execute(
                    f"SELECT count(*), coalesce(max(ordinal), -1) FROM {table} WHERE session_id = ?", [session_id]
                ).fetchone()
                if count != last + 1:
                    return True
            if damaged_rows(conn, "sessions", "id = ?", [session_id]):
                return True
            for table in ("session_marks", "hidden_turns"):
                if damaged_rows(conn, table, "session_id = ?", [session_id]):
                    return True
            named = "SELECT document_id FROM parts WHERE session_id = ?"
            if damaged_rows(conn, "documents", f"id IN ({named})", [session_id]):
                return True
            used = "SELECT DISTINCT r.* FROM parts p JOIN token_runs r ON r.row = p.run WHERE p.session_id = ?"
            return any(checksum(row["ids"]) != row["hash"] for row in conn.execute(used, [session_id]))

    def check_session(self, session_id: str) -> None:
        """Check a session before it is changed, and mend it. Raises LibraryDamagedError if its record is newer."""
        if session_id in self.ahead:
            raise LibraryDamagedError(
                f"the database has an earlier form of this session than {self.records_folder}, as after an earlier "
                "copy was put in its place; nothing was changed; `repair` takes up what it lacks"
            )
        if self.is_session_damaged(session_id):
            self.notices += self.mend_session(session_id)

    def mend_session(self, session_id: str) -> list[str]:
        """Make the damaged rows of a session anew from its record; return what was done, as sentences.

        Raises LibraryError where the database cannot be written, or a file that is needed is there and cannot be read.
        """
        record = latest_record(self.records_folder, session_id)
        with self.database.write() as conn:
            row = conn.execute("SELECT name, revision FROM sessions WHERE id = ?", [session_id]).fetchone()
            if record is None:
                name = row["name"] if row else session_id
                return [
                    f"session {name!r} is damaged in the database, and there is no record of it; "
                    f"its stored texts can be read again with: read {name!r} --again"
                ]
            lost = restore_record(conn, record, readable_tokens(self.document_tokens, self.documents_folder))
            _adopt_head(conn, session_id)
            rebuild_search(conn)
        name = record.session["name"]
        notes = [f"session {name!r} was damaged in the database, and was made anew from its record"]
        if row is not None and row["revision"] > record.revision:
            notes.append(f"session {name!r}: the record is older than the damaged rows; the last change is lost")
        return notes + [f"session {name!r} has lost a part: {each}" for each in lost]

    def drop_checkpoints(self, names: list[str]) -> list[str]:
        """Drop states whose rows are damaged, and those that build on them; return what was done, as sentences."""
        with self.database.write() as conn:
            doomed = Forest(conn).with_descendants(names)
            conn.execute("PRAGMA defer_foreign_keys = ON")
            heads = [row["id"] for row in conn.execute("SELECT id, head FROM sessions") if row["head"] in doomed]
            for session_id in heads:
                conn.execute("UPDATE sessions SET head = NULL, position = 0 WHERE id = ?", [session_id])
            delete_checkpoints(conn, doomed)
            for session_id in heads:
                _adopt_head(conn, session_id)
        return [f"{len(doomed):,} saved states were damaged in the database; what they held is read again"]

    def accept_rest(self) -> list[str]:
        """Give the damaged rows that could not be made anew a new checksum; return what is lost, as sentences.

        A message then says that it is damaged. Damaged runs of tokens lose their hash, so that `read --again` makes
        them anew from the texts.
        """
        notes = []
        with self.database.write() as conn:
            for row in damaged_rows(conn, "messages"):
                conn.execute("UPDATE messages SET text = ?, thinking = '' WHERE rowid = ?", [LOST_MESSAGE, row])
                conn.execute("UPDATE messages SET evidence = '[]', stats = '{}' WHERE rowid = ?", [row])
                notes.append("a message is lost: it was damaged, and there is no other copy of it")
            hidden = damaged_rows(conn, "hidden_turns")
            conn.executemany("DELETE FROM hidden_turns WHERE rowid = ?", [(row,) for row in hidden])
            notes += ["a hidden version of a turn is lost: it was damaged, and there is no other copy"] * len(hidden)
            for table in ("parts", "sessions", "documents", "session_marks"):
                for row in damaged_rows(conn, table):
                    column = COVERED[table][0]
                    conn.execute(f"UPDATE {table} SET {column} = {column} WHERE rowid = ?", [row])
                    notes.append(f"a row of {table} was damaged, and there is no other copy of it; it stays as it is")
        return notes

    def rewrite_record(self, session_id: str) -> None:
        """Write the record of a session, also over one of the same revision. Raises as `write_record`."""
        self._fill_in(session_id)
        with self.database.read() as conn:
            written = write_record(conn, self.records_folder, session_id)
        remove_records(self.records_folder, session_id, below=written)

    def adopt_heads(self) -> None:
        """Let every session without a state stand on the longest one that fits its tokens."""
        with self.database.write() as conn:
            for row in conn.execute("SELECT id FROM sessions WHERE head IS NULL").fetchall():
                _adopt_head(conn, row["id"])

    def document_tokens(self, document_id: str) -> np.ndarray:
        """Return the token ids in a document's file, int32 [T]. Raises CorruptStateError."""
        raise NotImplementedError

    @contextmanager
    def room_to_delete(self) -> Iterator[None]:
        """Afterwards, set disk space aside again that deleting may have needed."""
        try:
            yield
        finally:
            make_reserve(self.folder)

    def deleting(self, work: Callable[[], T]) -> T:
        """Return work(), which deletes rows. On a full disk the space that was set aside for that is used."""
        try:
            return work()
        except DiskFullError:
            if not free_reserve(self.folder):
                raise
            return work()

    def keep_copy(self) -> bool:
        """Keep a copy of the database, if it is sound and has changed since the last; return whether one was made."""
        if self.database.read_only or self.is_behind:
            return False
        try:
            return self.database.outside(lambda conn: seal.keep_copy(conn, self.folder))
        except (OSError, DiskFullError):  # a full disk has no room for a copy: the last one stays
            return False

    def take_notices(self) -> list[str]:
        """Return what was found and mended since the last call, as sentences."""
        taken, self.notices = self.notices, []
        return taken

    def _fill_in(self, session_id: str) -> None:
        """Nothing by default; `Documents` completes rows of earlier versions."""

    @staticmethod
    def _damaged_documents(conn: sqlite3.Connection) -> list[str]:
        rows = damaged_rows(conn, "documents")
        return [conn.execute("SELECT id FROM documents WHERE rowid = ?", [row]).fetchone()["id"] for row in rows]


def rebuild_search(conn: sqlite3.Connection) -> None:
    """Make the indexes of the search anew, in a write transaction."""
    for table in _SEARCHED:
        conn.execute(f"INSERT INTO {table}_fts ({table}_fts) VALUES ('rebuild')")


def _adopt_head(conn: sqlite3.Connection, session_id: str) -> None:
    """Let a session stand on the longest state that fits its tokens."""
    best = longest_state(conn, session_id)
    conn.execute("UPDATE sessions SET head = ?, position = ? WHERE id = ?", [*best, session_id])


def longest_state(conn: sqlite3.Connection, session_id: str) -> tuple[str | None, int]:
    """The last checkpoint with a snapshot on the longest chain whose names are the hashes of a session's own tokens,
    and where it ends; None and 0 where there is none."""
    session = conn.execute("SELECT fingerprint FROM sessions WHERE id = ?", [session_id]).fetchone()
    ids = _stream(conn, session_id)
    parent, position = None, 0
    best: tuple[str | None, int] = (None, 0)
    while position < len(ids):
        children = conn.execute(
            "SELECT * FROM checkpoints WHERE parent IS ? AND fingerprint = ? AND start_token = ? AND end_token <= ?"
            " ORDER BY end_token DESC",
            [parent, session["fingerprint"], position, len(ids)],
        ).fetchall()
        fits = [
            row
            for row in children
            if checkpoint_name(session["fingerprint"], parent, ids[position : row["end_token"]]) == row["name"]
        ]
        if not fits:
            break
        parent, position = fits[0]["name"], fits[0]["end_token"]
        if fits[0]["snapshot_checksum"] is not None:
            best = (parent, position)
    return best


def _stream(conn: sqlite3.Connection, session_id: str) -> np.ndarray:
    """All tokens of a session, int32 [n]; up to the first damaged run."""
    runs = conn.execute(
        "SELECT r.* FROM parts p JOIN token_runs r ON r.row = p.run WHERE p.session_id = ? ORDER BY p.ordinal",
        [session_id],
    )
    pieces = [np.empty(0, dtype="<i4")]
    for run in runs:
        if checksum(run["ids"]) != run["hash"]:
            break
        pieces.append(np.frombuffer(run["ids"], dtype="<i4"))
    return np.concatenate(pieces)
