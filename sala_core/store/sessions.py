"""Sessions: create, find, search, rename, fork, delete, and lock for writing."""

import re
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress

from sala_core.disk.files import new_id
from sala_core.errors import (
    DiskFullError,
    LibraryError,
    SessionBusyError,
    SessionExistsError,
    SessionNotFoundError,
)
from sala_core.store.base import SESSION_QUERY, find_session, session_row
from sala_core.store.checkpoints import (
    SEGMENT_SUFFIX,
    SNAPSHOT_SUFFIX,
    Forest,
    delete_checkpoints,
    drop_rolling_snapshots,
)
from sala_core.store.database import insert_row
from sala_core.store.integrity.records import drop_unused_runs, remove_records
from sala_core.store.integrity.soundness import Soundness
from sala_core.store.locks import forget_lock, hold_lock
from sala_core.store.rows import SessionRow
from sala_core.store.sources import SOURCE_COLUMNS

_MAX_NAME_CHARS = 200
SERVED, FOR_OTHERS = "api: ", "for others: "
"""How the names of sessions begin that serve other programs (`turns.served`) and other Salas: no list shows them."""
_NAME_OF_OTHERS = re.compile(rf"{SERVED}\S+ [0-9a-f]{{32}}|{FOR_OTHERS}[0-9a-f]{{32}} \S+")
_TRIGRAM_CHARS = 3

_MATCHING_SESSIONS = """
SELECT s.id FROM sessions s WHERE s.row IN (SELECT rowid FROM sessions_fts WHERE sessions_fts MATCH :match)
UNION SELECT m.session_id FROM messages m
  WHERE m.row IN (SELECT rowid FROM messages_fts WHERE messages_fts MATCH :match)
UNION SELECT p.session_id FROM parts p JOIN documents d ON d.id = p.document_id
  WHERE d.row IN (SELECT rowid FROM documents_fts WHERE documents_fts MATCH :match)
"""
_CONTAINING_SESSIONS = """
SELECT id FROM sessions WHERE instr(lower(name), lower(:word))
UNION SELECT session_id FROM messages WHERE instr(lower(text), lower(:word))
UNION SELECT p.session_id FROM parts p JOIN documents d ON d.id = p.document_id
  WHERE instr(lower(d.name), lower(:word))
"""
_SHARING_SESSION = """
WITH RECURSIVE later(name) AS (
  SELECT ?
  UNION ALL
  SELECT c.name FROM later JOIN checkpoints c ON c.parent = later.name
)
SELECT name FROM sessions WHERE head IN (SELECT name FROM later) AND id != ?
  AND id NOT IN (SELECT session_id FROM session_marks WHERE binned_at IS NOT NULL) ORDER BY updated_at DESC LIMIT 1
"""
_IN_BIN = "session {!r} is in the bin; `restore` brings it back, `delete --now` removes it for good"


def is_served(name: str) -> bool:
    """Whether a session of this name serves another program."""
    return name.startswith(SERVED)


def is_own(name: str) -> bool:
    """Whether a session of this name is the user's."""
    return _NAME_OF_OTHERS.fullmatch(name) is None


class Sessions(Soundness):
    """The part of the library that manages sessions."""

    def create_session(self, name: str, *, model: str, fingerprint: str) -> SessionRow:
        """Create an empty session. model: name of the model. fingerprint: of its states.

        Raises SessionExistsError if the name is taken, LibraryError if it is not a valid name.
        """
        session_id, now = new_id(), time.time()
        with self.database.write() as conn:
            _check_name(conn, name)
            values = {
                "id": session_id,
                "name": name,
                "model": model,
                "fingerprint": fingerprint,
                "created_at": now,
                "updated_at": now,
            }
            insert_row(conn, "sessions", values)
            return find_session(conn, session_id)

    def session(self, name_or_id: str, *, in_bin: bool = False) -> SessionRow:
        """Return one session by its id or name. Raises SessionNotFoundError.

        in_bin: also one that is in the bin, by its id.
        """
        with self.database.read() as conn:
            row = conn.execute("SELECT 1 FROM session_marks WHERE former_name = ?", [name_or_id]).fetchone()
            try:
                session = find_session(conn, name_or_id)
            except SessionNotFoundError:
                if row is None:
                    raise
                raise SessionNotFoundError(_IN_BIN.format(name_or_id)) from None
        if session.binned_at is not None and not in_bin:
            raise SessionNotFoundError(_IN_BIN.format(session.name))
        return session

    def sessions(self, search: str | None = None) -> list[SessionRow]:
        """Return all sessions that are not in the bin: the pinned ones, then the most recently used first.

        Those of other programs are not among them (`sessions_of_others`).

        search: only sessions that contain each of its words in their name, a document's name or a message. Case is
        ignored, and a word matches within longer words. Any text is a valid search; white space finds all sessions.
        """
        with self.database.read() as conn:
            listed = f"{SESSION_QUERY} WHERE k.binned_at IS NULL"
            rows = conn.execute(f"{listed} ORDER BY pinned DESC, s.updated_at DESC, s.row DESC").fetchall()
            rows = [row for row in rows if is_own(row["name"])]
            for word in (search or "").replace("\0", " ").split():
                matching = _sessions_with(conn, word)
                rows = [row for row in rows if row["id"] in matching]
        return [session_row(row) for row in rows]

    def sessions_of_others(self, start: str = "") -> list[SessionRow]:
        """The sessions of other programs whose names begin so, the one used last first; "" for all of them."""
        with self.database.read() as conn:
            query = f"{SESSION_QUERY} WHERE substr(s.name, 1, ?) = ? ORDER BY s.updated_at DESC, s.row DESC"
            rows = [session_row(row) for row in conn.execute(query, [len(start), start])]
        return [row for row in rows if not is_own(row.name)]

    def rename_session(self, session_id: str, name: str) -> SessionRow:
        """Rename a session. Raises as `session` and `create_session`."""
        with self.database.write() as conn:
            session = find_session(conn, session_id)
            if name != session.name:
                _check_name(conn, name)
                conn.execute("UPDATE sessions SET name = ? WHERE id = ?", [name, session.id])
            return find_session(conn, session.id)

    def fork_session(self, session_id: str, new_name: str) -> SessionRow:
        """Copy a session's rows under another name. Both sessions share all files and token runs.

        Jobs are not copied. Raises as `session` and `create_session`.
        """
        fork_id, now = new_id(), time.time()
        with self.database.write() as conn:
            session = find_session(conn, session_id)
            _check_name(conn, new_name)
            conn.execute(
                "INSERT INTO sessions (id, name, model, fingerprint, head, position, created_at, updated_at)"
                " SELECT ?, ?, model, fingerprint, head, position, ?, ? FROM sessions WHERE id = ?",
                [fork_id, new_name, now, now, session.id],
            )
            for table, columns in (
                ("parts", "ordinal, kind, start_token, end_token, run, document_id, body_start, message_id"),
                ("messages", "id, ordinal, role, text, thinking, status, evidence, stats, created_at"),
                ("sources", SOURCE_COLUMNS),
                ("former_documents", "document_id"),
                ("session_marks", "system_prompt"),
                ("hidden_turns", "id, parent, created_at, hidden_order, content"),
            ):
                conn.execute(
                    f"INSERT INTO {table} (session_id, {columns}) SELECT ?, {columns} FROM {table}"
                    " WHERE session_id = ? ORDER BY rowid",
                    [fork_id, session.id],
                )
            return find_session(conn, fork_id)

    def delete_session(self, session_id: str, *, only_in_bin: bool = False) -> int:
        """Delete a session, its messages, its jobs, and all files that no other session uses; return the bytes freed.

        only_in_bin: leave one that was brought back from the bin. Raises SessionNotFoundError; SessionBusyError if the
        session is locked for writing.
        """
        session = self.session(session_id, in_bin=True)

        def delete() -> tuple[list[str], list[str]]:
            with self.database.write() as conn:
                row = find_session(conn, session.id)
                if only_in_bin and row.binned_at is None:
                    raise SessionNotFoundError(f"session {row.name!r} is not in the bin any more")
                states = _release_states(conn, row)
                documents = _release_stream(conn, session.id)
                remove_records(self.records_folder, session.id)  # before the commit: a crash must not bring it back
            return states, documents

        with self.room_to_delete(), self._held(session):
            try:
                states, documents = self.deleting(delete)
            except DiskFullError:
                self._free_states(session)
                states, documents = delete()
            freed = self.remove_files([self.states_folder / name for name in states])
            freed += self.remove_files([self.documents_folder / name for name in documents])
        forget_lock(self.locks_folder, session.id)
        return freed

    def delete_if_blank(self, session_id: str) -> bool:
        """Delete a session that holds neither a document nor a message; return whether it did.

        One that is locked for writing, or not there, is left alone.
        """
        try:
            session = self.session(session_id)
            with self._held(session):
                with self.database.write() as conn:
                    row = find_session(conn, session.id)
                    if row.num_documents or row.num_messages:
                        return False
                    states = _release_states(conn, row)
                    _release_stream(conn, row.id)
                    remove_records(self.records_folder, row.id)
                self.remove_files([self.states_folder / name for name in states])
        except (SessionBusyError, SessionNotFoundError):
            return False
        forget_lock(self.locks_folder, session.id)
        return True

    def drop_state(self, session_id: str) -> int:
        """Delete the part of a session's saved state that no other session shares; return the bytes freed.

        Texts, tokens and messages stay: the next reading or question prefills the tokens again. Raises
        SessionNotFoundError; SessionBusyError if the session is locked for writing.
        """
        session = self.session(session_id)

        def release() -> list[str]:
            with self.database.write() as conn:
                return _release_states(conn, find_session(conn, session.id))

        with self.room_to_delete(), self._held(session):
            return self.remove_files([self.states_folder / name for name in self.deleting(release)])

    @contextmanager
    def _held(self, session: SessionRow) -> Iterator[None]:
        """Hold the session's lock, also where a full disk has no room for its file."""
        with ExitStack() as stack:
            self.deleting(lambda: stack.enter_context(hold_lock(self.locks_folder, session.id, session.name)))
            yield

    def _free_states(self, session: SessionRow) -> None:
        """Delete the files of the states that only this session needs, before their rows, to make room for deleting.

        If that fails too, the session has lost nothing but time: its tokens are read again.
        """
        with self.database.read() as conn:
            forest = Forest(conn)
            heads = conn.execute("SELECT head FROM sessions WHERE id != ?", [session.id]).fetchall()
        own = forest.with_ancestors([session.head]) - forest.with_ancestors([row["head"] for row in heads])
        for name in forest.with_descendants(own):
            for suffix in (SEGMENT_SUFFIX, SNAPSHOT_SUFFIX):
                with suppress(OSError):
                    (self.states_folder / (name + suffix)).unlink(missing_ok=True)

    def session_that_shares(self, checkpoint: str, session_id: str) -> str | None:
        """The name of another session whose state includes this checkpoint, the one used last; None if none does."""
        with self.database.read() as conn:
            row = conn.execute(_SHARING_SESSION, [checkpoint, session_id]).fetchone()
        return None if row is None else str(row["name"])

    @contextmanager
    def lock_session(self, session_id: str) -> Iterator[SessionRow]:
        """Lock a session for writing during the block; yield its row.

        The lock is exclusive across threads and processes, and not reentrant. Raises SessionNotFoundError;
        SessionBusyError at once, with the name of the holder.
        """
        session = self.session(session_id)
        with hold_lock(self.locks_folder, session.id, session.name):
            self.check_session(session.id)
            yield self.session(session.id)


def _check_name(conn: sqlite3.Connection, name: str) -> None:
    """Raise LibraryError for an invalid name, SessionExistsError for one that is taken."""
    is_reserved = name.startswith((SERVED, FOR_OTHERS)) and is_own(name)
    if not name.strip() or len(name) > _MAX_NAME_CHARS or not name.isprintable() or is_reserved:
        raise LibraryError(
            f"{name[:_MAX_NAME_CHARS]!r} cannot be a session's name; use 1 to {_MAX_NAME_CHARS} printable characters, "
            f"and another beginning than {SERVED!r} and {FOR_OTHERS!r}"
        )
    if conn.execute("SELECT 1 FROM sessions WHERE name = ?", [name]).fetchone() is not None:
        raise SessionExistsError(f"a session called {name!r} exists already; choose another name")


def _sessions_with(conn: sqlite3.Connection, word: str) -> set[str]:
    """Ids of the sessions that contain `word`. The trigram index cannot find words of less than 3 characters."""
    word = word.encode("utf-8", "replace").decode()
    if len(word) < _TRIGRAM_CHARS:
        rows = conn.execute(_CONTAINING_SESSIONS, {"word": word})
    else:
        rows = conn.execute(_MATCHING_SESSIONS, {"match": '"' + word.replace('"', '""') + '"'})
    return {row[0] for row in rows}


def _release_states(conn: sqlite3.Connection, session: SessionRow) -> list[str]:
    """Delete the rows of the checkpoints that only this session needs; return the names of their files."""
    conn.execute("UPDATE sessions SET head = NULL, position = 0 WHERE id = ?", [session.id])
    if session.head is None:
        return []
    forest = Forest(conn)
    others = [row["head"] for row in conn.execute("SELECT head FROM sessions WHERE head IS NOT NULL")]
    own = forest.with_ancestors([session.head]) - forest.with_ancestors(others)
    files = delete_checkpoints(conn, forest.with_descendants(own))
    return files + drop_rolling_snapshots(conn, session.head)


def _release_stream(conn: sqlite3.Connection, session_id: str) -> list[str]:
    """Delete the session's rows, and the token runs and documents that only it uses; return the documents' files."""
    documents = _column(
        conn,
        "SELECT document_id FROM parts WHERE session_id = ?1 UNION"
        " SELECT document_id FROM former_documents WHERE session_id = ?1",
        session_id,
    )
    runs = _column(conn, "SELECT DISTINCT run FROM parts WHERE session_id = ?", session_id)
    conn.execute("DELETE FROM messages WHERE session_id = ?", [session_id])
    conn.execute("DELETE FROM sessions WHERE id = ?", [session_id])
    drop_unused_runs(conn, runs)
    conn.executemany(
        "DELETE FROM documents WHERE id = ? AND NOT EXISTS (SELECT 1 FROM parts WHERE document_id = documents.id)"
        " AND NOT EXISTS (SELECT 1 FROM former_documents WHERE document_id = documents.id)",
        [(document,) for document in documents],
    )
    conn.execute("PRAGMA incremental_vacuum")
    return [f"{document}.safetensors" for document in documents if document is not None]


def _column(conn: sqlite3.Connection, query: str, session_id: str) -> Sequence[object]:
    return [row[0] for row in conn.execute(query, [session_id])]
