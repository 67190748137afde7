"""Sessions that serve other programs: what they have sent, and forks of sessions that they ask about. No list has them.

Such a session is an ordinary one, so that its states are shared, checked, evicted and collected like all others. Its
name begins with SERVED, which no other session may have, and tells what it belongs to (its key).
"""

from collections.abc import Sequence

from sala_core.disk.files import new_id
from sala_core.store.base import find_session
from sala_core.store.checkpoints import Forest
from sala_core.store.integrity.soundness import longest_state
from sala_core.store.rows import PartDraft, SessionRow
from sala_core.store.sessions import SERVED
from sala_core.store.streams import append_parts, part_row, replace_parts, set_head
from sala_core.store.turns.operations import Turns
from sala_core.store.turns.tree import drop_messages, shown_turns, stored_parts

KEPT_SESSIONS = 64
"""So many small sessions are kept beside the large ones."""
MAX_RESPONSES = 4096
_RESPONSE = "response_"
SMALL_TOKENS = 32_768
"""A session is small if fewer tokens than these would have to be read again without it."""


class Served(Turns):
    """The part of the library that keeps them."""

    def served_sessions(self, key: str = "") -> list[SessionRow]:
        """The sessions with this key, the one used last first; "" for those of all keys."""
        return self.sessions_of_others(f"{SERVED}{key}{' ' if key else ''}")

    def create_served(self, key: str, *, model: str, fingerprint: str, parts: Sequence[PartDraft]) -> SessionRow:
        """Create a session of this key, which stands on the longest stored state of its tokens, whoever has read them.

        Args:
            key: what it belongs to; no white space.
            model: name of the model that will read it.
            fingerprint: of its states.
            parts: its stream, at least one part.

        Raises as `append_parts`.
        """
        with self.database.write() as conn:
            row = self.create_session(_new_name(key), model=model, fingerprint=fingerprint)
            append_parts(conn, row.id, parts)
            set_head(conn, row.id, *longest_state(conn, row.id))
            return find_session(conn, row.id)

    def advance_served(self, session_id: str) -> None:
        """Let a session stand on the longest stored state of its tokens, if another one has read further meanwhile."""
        with self.database.write() as conn:
            row = find_session(conn, session_id)
            head, position = longest_state(conn, row.id)
            if position > row.position:
                set_head(conn, row.id, head, position)

    def fork_served(self, session_id: str, key: str, num_turns: int) -> SessionRow:
        """Copy a session with its documents and its first turns. Both share all files; nothing is read again.

        session_id: which session. key: of the copy. num_turns: how many turns the copy has. Raises as `fork_session`.
        """
        with self.database.write() as conn:
            session = self.fork_session(session_id, _new_name(key))
            parts = stored_parts(conn, session.id)
            later = shown_turns(parts)[num_turns:]
            conn.execute("DELETE FROM hidden_turns WHERE session_id = ?", [session.id])
            drop_messages(conn, session.id, [name for turn in later for name in (turn.id, turn.answer_id)])
            gone = {ordinal for turn in later for ordinal in (turn.first, turn.first + 1)}
            dropped: list[str] = []
            if gone:
                replace_parts(conn, session.id, [part_row(part) for part in parts if part["ordinal"] not in gone])
                dropped = set_head(conn, session.id, *longest_state(conn, session.id))
            row = find_session(conn, session.id)
        self.remove_files([self.states_folder / name for name in dropped])
        return row

    def note_response(self, response_id: str, session_id: str, answer_id: str) -> None:
        """Keep which answer a response is, so that a later request can go on from it. The last MAX_RESPONSES are kept.

        response_id: chosen by the server. session_id, answer_id: the session, and the message in it.
        """
        with self.database.write() as conn:
            conn.execute(
                "INSERT OR REPLACE INTO library (key, value) VALUES (?, ?)",
                [f"{_RESPONSE}{response_id}", f"{session_id} {answer_id}"],
            )
            conn.execute(
                "DELETE FROM library WHERE key GLOB ? AND rowid NOT IN"
                " (SELECT rowid FROM library WHERE key GLOB ? ORDER BY rowid DESC LIMIT ?)",
                [f"{_RESPONSE}*", f"{_RESPONSE}*", MAX_RESPONSES],
            )

    def response(self, response_id: str) -> tuple[str, str] | None:
        """The session and the answer of a response; None if it is not known, or not there any more."""
        with self.database.read() as conn:
            row = conn.execute("SELECT value FROM library WHERE key = ?", [f"{_RESPONSE}{response_id}"]).fetchone()
            if row is None:
                return None
            session_id, _, answer_id = row["value"].partition(" ")
            query = "SELECT 1 FROM messages WHERE session_id = ? AND id = ?"
            is_there = conn.execute(query, [session_id, answer_id]).fetchone() is not None
        return (session_id, answer_id) if is_there else None

    def forget_response(self, response_id: str) -> None:
        """Forget which answer a response is."""
        with self.database.write() as conn:
            conn.execute("DELETE FROM library WHERE key = ?", [f"{_RESPONSE}{response_id}"])

    def surplus_served(self) -> list[SessionRow]:
        """The small sessions beyond KEPT_SESSIONS, the one used last first: what they hold costs little to read again.

        Large ones stay until the quota takes their states, or their user deletes them.
        """
        rows = self.served_sessions()
        if len(rows) <= KEPT_SESSIONS:
            return []
        with self.database.read() as conn:
            forest = Forest(conn)
            heads = {row["id"]: row["head"] for row in conn.execute("SELECT id, head FROM sessions")}
        small = []
        for row in rows:
            others = [head for session_id, head in heads.items() if session_id != row.id]
            own = forest.with_ancestors([row.head]) - forest.with_ancestors(others)
            if sum(forest.rows[name].end - forest.rows[name].start for name in own) < SMALL_TOKENS:
                small.append(row)
        return small[KEPT_SESSIONS:]


def _new_name(key: str) -> str:
    return f"{SERVED}{key} {new_id()}"
