"""A stream and a conversation that are given from outside, in the place of those that a session has."""

from collections.abc import Collection, Sequence

from sala_core.store.base import find_session
from sala_core.store.rows import MessageDraft, PartDraft, PartRow
from sala_core.store.streams import Streams, append_messages, replace_parts, set_head
from sala_core.store.turns.tree import drop_messages


def set_given_stream(
    library: Streams,
    session_id: str,
    parts: Sequence[PartRow | PartDraft],
    kept: Collection[str],
    messages: Sequence[MessageDraft],
    *,
    head: str | None,
    position: int,
) -> None:
    """Give a session another stream and another conversation, in one transaction. No version of a turn stays hidden.

    Args:
        library: holds the session.
        session_id: which session.
        parts: the whole stream: parts that the session has, in any order, and new ones.
        kept: ids of the messages that stay.
        messages: new ones, which follow them.
        head, position: the checkpoint that the new stream begins with, and where it ends; None and 0 for none.

    Raises as `append_parts` and `set_head`; nothing is changed then.
    """
    with library.database.write() as conn:
        session_id = find_session(conn, session_id).id
        replace_parts(conn, session_id, parts)
        rows = conn.execute("SELECT id FROM messages WHERE session_id = ?", [session_id]).fetchall()
        drop_messages(conn, session_id, [row["id"] for row in rows if row["id"] not in kept])
        append_messages(conn, session_id, messages)
        conn.execute("DELETE FROM hidden_turns WHERE session_id = ?", [session_id])
        dropped = set_head(conn, session_id, head, position)
    library.remove_files([library.states_folder / name for name in dropped])
