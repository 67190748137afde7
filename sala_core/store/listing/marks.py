"""What a user has set for one session: whether it is pinned, and its system prompt."""

import sqlite3

from sala_core.errors import LibraryError
from sala_core.store.base import find_session
from sala_core.store.integrity.soundness import Soundness
from sala_core.store.rows import SessionRow

MAX_PROMPT_CHARS = 8_000


class Marks(Soundness):
    """The part of the library that keeps these marks."""

    def pin_session(self, session_id: str, *, pinned: bool) -> SessionRow:
        """Keep a session at the top of the list, or no longer. Raises SessionNotFoundError."""
        with self.database.write() as conn:
            row = find_session(conn, session_id)
            if row.pinned != pinned:
                set_marks(conn, row.id, pinned=int(pinned))
            return find_session(conn, row.id)

    def set_system_prompt(self, session_id: str, text: str) -> SessionRow:
        """Keep a session's own system prompt; "" for the program's. It holds from the next reading of the whole
        session on, because a stream begins with it.

        Raises SessionNotFoundError; LibraryError for one of more than MAX_PROMPT_CHARS characters.
        """
        text = text.strip()
        if len(text) > MAX_PROMPT_CHARS:
            raise LibraryError(
                f"the system prompt has {len(text):,} characters, and may have {MAX_PROMPT_CHARS:,}; shorten it"
            )
        with self.database.write() as conn:
            row = find_session(conn, session_id)
            if row.system_prompt != text:
                set_marks(conn, row.id, system_prompt=text)
            return find_session(conn, row.id)

    def fact(self, key: str) -> str | None:
        """A fact about the library as a whole that `note_fact` has kept; None if there is none."""
        with self.database.read() as conn:
            row = conn.execute("SELECT value FROM library WHERE key = ?", [f"fact_{key}"]).fetchone()
        return None if row is None else str(row["value"])

    def note_fact(self, key: str, value: str) -> None:
        """Keep a fact about the library as a whole, such as that its sample was made once."""
        with self.database.write() as conn:
            conn.execute("INSERT OR REPLACE INTO library (key, value) VALUES (?, ?)", [f"fact_{key}", value])


def set_marks(conn: sqlite3.Connection, session_id: str, **values: object) -> None:
    """Set columns of a session's row in `session_marks`, which is made if it does not exist.

    values: columns of that table and their values.
    """
    conn.execute("INSERT INTO session_marks (session_id) VALUES (?) ON CONFLICT DO NOTHING", [session_id])
    changes = ", ".join(f"{column} = ?" for column in values)
    conn.execute(f"UPDATE session_marks SET {changes} WHERE session_id = ?", [*values.values(), session_id])
