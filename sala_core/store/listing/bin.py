"""The bin: a deleted session stays in it for 30 days, and can be brought back until then.

A session in the bin keeps all its rows and files. It gives up its name, so that another session may take it, and cannot
be opened. Its states are the first that a quota takes. To put a session there, or to bring it back, is one transaction:
a program that is killed has done it or not.
"""

import sqlite3
import time
from contextlib import suppress

from sala_core.errors import SessionBusyError, SessionNotFoundError
from sala_core.store.base import SESSION_QUERY, find_session, session_row
from sala_core.store.checkpoints import Forest
from sala_core.store.listing.marks import set_marks
from sala_core.store.rows import SessionRow
from sala_core.store.sessions import Sessions

BIN_S = 30 * 86_400.0
"""How long a session stays in the bin."""


class Bin(Sessions):
    """The part of the library that keeps deleted sessions for a while."""

    def bin_session(self, session_id: str) -> SessionRow:
        """Move a session to the bin; return its row, with the name that it had.

        Raises SessionNotFoundError; SessionBusyError if the session is locked for writing.
        """
        session = self.session(session_id)

        def move() -> SessionRow:
            with self.database.write() as conn:
                row = find_session(conn, session.id)
                if row.binned_at is None:
                    set_marks(conn, row.id, binned_at=time.time(), former_name=row.name, pinned=0)
                    conn.execute("UPDATE sessions SET name = ? WHERE id = ?", [f"(in the bin: {row.id})", row.id])
                    _forget_use(conn, row)
                return find_session(conn, row.id)

        with self._held(session):
            return self.deleting(move)

    def sessions_in_bin(self) -> list[SessionRow]:
        """The sessions in the bin, the one deleted last first."""
        with self.database.read() as conn:
            rows = [session_row(row) for row in conn.execute(SESSION_QUERY)]
        found = [row for row in rows if row.binned_at is not None]
        return sorted(found, key=lambda row: row.binned_at or 0.0, reverse=True)

    def in_bin(self, name_or_id: str) -> SessionRow:
        """The session in the bin with this id, or the one deleted last with this name. Raises SessionNotFoundError."""
        for row in self.sessions_in_bin():
            if name_or_id in (row.id, row.name):
                return row
        raise SessionNotFoundError(f"no session {name_or_id!r} is in the bin; `sessions --bin` lists those that are")

    def restore_session(self, name_or_id: str) -> SessionRow:
        """Bring a session back from the bin; return its row.

        Where its name is taken by now, it gets a number behind it. Raises SessionNotFoundError; SessionBusyError while
        it is being deleted for good.
        """
        binned = self.in_bin(name_or_id)
        with self._held(binned), self.database.write() as conn:
            row = find_session(conn, binned.id)
            if row.binned_at is not None:
                conn.execute("UPDATE sessions SET name = ? WHERE id = ?", [_free_name(conn, row.name), row.id])
                set_marks(conn, row.id, binned_at=None, former_name="")
            return find_session(conn, row.id)

    def empty_bin(self, older_than_s: float = BIN_S) -> int:
        """Delete for good the sessions that have been in the bin for longer than this; return the bytes freed.

        One that another process is just bringing back stays.
        """
        oldest = time.time() - older_than_s
        freed = 0
        for row in self.sessions_in_bin():
            if row.binned_at is not None and row.binned_at <= oldest:
                with suppress(SessionNotFoundError, SessionBusyError):
                    freed += self.delete_session(row.id, only_in_bin=True)
        return freed


def _forget_use(conn: sqlite3.Connection, session: SessionRow) -> None:
    """Let the states that only this session needs be the first to make room."""
    forest = Forest(conn)
    heads = conn.execute(
        "SELECT head FROM sessions WHERE head IS NOT NULL AND id NOT IN"
        " (SELECT session_id FROM session_marks WHERE binned_at IS NOT NULL)"
    )
    own = forest.with_ancestors([session.head]) - forest.with_ancestors([row["head"] for row in heads])
    conn.executemany("UPDATE checkpoints SET used_at = 0 WHERE name = ?", [(name,) for name in own])


def _free_name(conn: sqlite3.Connection, name: str) -> str:
    """`name`, or `name (2)`, `name (3)`, ...: the first that no session has."""
    number, free = 1, name
    while conn.execute("SELECT 1 FROM sessions WHERE name = ?", [free]).fetchone() is not None:
        number += 1
        free = f"{name[:180]} ({number})"
    return free
