"""The tree of turns. The shown path is in `messages` and `parts`, as if there were no other; the rest is hidden here.

A turn is a question with its answer. Turns that were put aside, because another version took their place, are rows of
`hidden_turns`: each knows the turn that it follows, both messages with their evidence, and their tokens. What follows a
version was hidden together with it, and comes back together with it.
"""

import base64
import json
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from sala_core.errors import CorruptStateError, LibraryError
from sala_core.store.database import insert_row
from sala_core.store.integrity.records import drop_unused_runs, load_run
from sala_core.store.integrity.row_checksums import is_sound
from sala_core.store.rows import PartDraft

FIRST = ""
"""The parent of turns that follow no other."""
_MESSAGE_COLUMNS = ("id", "role", "text", "thinking", "status", "evidence", "stats", "created_at")
_ROLES = ("user", "assistant")

Message = dict[str, Any]
"""The columns of a row of `messages` that say what the message is."""


@dataclass(frozen=True, kw_only=True)
class Span:
    """A turn of the shown path. first: ordinal of its question's part; its answer's is the next one.

    start, end: its tokens in the stream. id, answer_id: of its two messages; a turn has the id of its question.
    """

    id: str
    answer_id: str
    first: int
    start: int
    end: int


@dataclass(frozen=True, kw_only=True)
class HiddenTurn:
    """A turn that is not shown.

    parent: id of the turn that it follows. order: grows with every change that hides turns. messages: question and
    answer. tokens: those of both, int32 [n].
    """

    id: str
    parent: str
    created_at: float
    order: int
    messages: tuple[Message, Message]
    tokens: tuple[np.ndarray, np.ndarray]

    @property
    def drafts(self) -> list[PartDraft]:
        """The turn's two parts of the stream."""
        return [
            PartDraft(kind=role, token_ids=ids, message_id=message["id"])
            for role, ids, message in zip(_ROLES, self.tokens, self.messages, strict=True)
        ]

    @property
    def content(self) -> str:
        """Messages and tokens as the text that is stored."""
        encoded = [base64.b64encode(ids.astype("<i4").tobytes()).decode() for ids in self.tokens]
        return json.dumps({"messages": self.messages, "tokens": encoded}, ensure_ascii=False)


def shown_turns(parts: Sequence[sqlite3.Row]) -> list[Span]:
    """The turns of the shown path. parts: rows of `parts`, in order."""
    turns = []
    for part, follower in pairwise(parts):
        if (part["kind"], follower["kind"]) == _ROLES and part["message_id"] and follower["message_id"]:
            turns.append(
                Span(
                    id=part["message_id"],
                    answer_id=follower["message_id"],
                    first=part["ordinal"],
                    start=part["start_token"],
                    end=follower["end_token"],
                )
            )
    return turns


def find_turn(turns: Sequence[Span], turn_id: str) -> int:
    """The index of a turn by the id of its question or of its answer. Raises LibraryError."""
    for index, turn in enumerate(turns):
        if turn_id in (turn.id, turn.answer_id):
            return index
    raise LibraryError("this turn is not part of the conversation any more; look at the session again")


def stored_parts(conn: sqlite3.Connection, session_id: str) -> list[sqlite3.Row]:
    """The rows of a session's parts, in order."""
    return conn.execute("SELECT * FROM parts WHERE session_id = ? ORDER BY ordinal", [session_id]).fetchall()


def hidden_turns(conn: sqlite3.Connection, session_id: str) -> list[HiddenTurn]:
    """The turns of a session that are not shown, the oldest first. Raises CorruptStateError for a damaged row."""
    rows = conn.execute("SELECT * FROM hidden_turns WHERE session_id = ? ORDER BY created_at, id", [session_id])
    return [_from_row(row) for row in rows]


def put_hidden(conn: sqlite3.Connection, session_id: str, turn: HiddenTurn) -> None:
    """Add a hidden turn."""
    values = {
        "session_id": session_id,
        "id": turn.id,
        "parent": turn.parent,
        "created_at": turn.created_at,
        "hidden_order": turn.order,
        "content": turn.content,
    }
    insert_row(conn, "hidden_turns", values)


def hide_from(conn: sqlite3.Connection, session_id: str, index: int) -> None:
    """Hide the turns of the shown path from `index` on: their messages and parts go, and are kept as hidden turns.

    No document may stand behind the first of them. Raises LibraryError if one does, CorruptStateError if a message or
    a run of tokens is damaged.
    """
    parts = stored_parts(conn, session_id)
    turns = shown_turns(parts)
    first = turns[index].first
    if any(part["document_id"] is not None for part in parts[first:]):
        raise LibraryError("a document stands behind this turn; it has to stand before it first")
    order = next_order(conn, session_id)
    parent = turns[index - 1].id if index else FIRST
    for turn in turns[index:]:
        put_hidden(conn, session_id, as_hidden(conn, session_id, parts, turn, parent, order))
        parent = turn.id
    drop_messages(conn, session_id, [name for turn in turns[index:] for name in (turn.id, turn.answer_id)])
    conn.execute("DELETE FROM parts WHERE session_id = ? AND ordinal >= ?", [session_id, first])
    drop_unused_runs(conn, [part["run"] for part in parts[first:]])


def drop_messages(conn: sqlite3.Connection, session_id: str, ids: Sequence[str]) -> None:
    """Delete messages, and close the gaps that they leave in the conversation."""
    conn.executemany("DELETE FROM messages WHERE session_id = ? AND id = ?", [(session_id, each) for each in ids])
    rows = conn.execute(
        "SELECT id, ordinal FROM messages WHERE session_id = ? ORDER BY ordinal", [session_id]
    ).fetchall()
    for ordinal, row in enumerate(rows):  # in ascending order, each moves down to a place that is free by then
        if row["ordinal"] != ordinal:
            conn.execute(
                "UPDATE messages SET ordinal = ? WHERE session_id = ? AND id = ?", [ordinal, session_id, row["id"]]
            )


def take_out(conn: sqlite3.Connection, session_id: str, path: Sequence[HiddenTurn]) -> None:
    """Make hidden turns messages again, behind the present ones. The caller adds their parts (`HiddenTurn.drafts`)."""
    (ordinal,) = conn.execute("SELECT count(*) FROM messages WHERE session_id = ?", [session_id]).fetchone()
    for turn in path:
        conn.execute("DELETE FROM hidden_turns WHERE session_id = ? AND id = ?", [session_id, turn.id])
        for message in turn.messages:
            insert_row(conn, "messages", {"session_id": session_id, "ordinal": ordinal, **message})
            ordinal += 1


def continuation(turns: Sequence[HiddenTurn], first: HiddenTurn) -> list[HiddenTurn]:
    """The turn, and the hidden ones that followed it when it was shown last."""
    path = [first]
    while followers := [turn for turn in turns if turn.parent == path[-1].id]:
        path.append(max(followers, key=lambda turn: (turn.order, turn.created_at)))
    return path


def next_order(conn: sqlite3.Connection, session_id: str) -> int:
    """The order of turns that are hidden now."""
    query = "SELECT coalesce(max(hidden_order), 0) + 1 FROM hidden_turns WHERE session_id = ?"
    return int(conn.execute(query, [session_id]).fetchone()[0])


def hidden_from_json(raw: Mapping[str, Any]) -> HiddenTurn:
    """The turn that `hidden_to_json` wrote.

    Raises KeyError, TypeError, ValueError or AttributeError for anything that is none.
    """
    first, second = raw["messages"]
    tokens = [np.frombuffer(base64.b64decode(text, validate=True), dtype="<i4") for text in raw["tokens"]]
    messages = tuple(_message_columns(message) for message in (first, second))
    for message in messages:
        json.loads(message["evidence"]), json.loads(message["stats"])
    if [message["role"] for message in messages] != list(_ROLES) or messages[0]["id"] != raw["id"]:
        raise ValueError("a version of a turn without its question or answer")
    if len(tokens) != len(_ROLES) or any(ids.size and int(ids.min()) < 0 for ids in tokens):
        raise ValueError("a version of a turn with tokens that cannot be")
    return HiddenTurn(
        id=str(raw["id"]),
        parent=str(raw["parent"]),
        created_at=float(raw["created_at"]),
        order=int(raw["order"]),
        messages=(messages[0], messages[1]),
        tokens=(tokens[0], tokens[1]),
    )


def hidden_to_json(turn: HiddenTurn) -> dict[str, Any]:
    """The turn as JSON types."""
    about = {"id": turn.id, "parent": turn.parent, "created_at": turn.created_at, "order": turn.order}
    return about | json.loads(turn.content)


def cited_by(turn: HiddenTurn) -> list[Message]:
    """The rows that say what the turn refers to: its answer, with the columns `evidence` and `stats`."""
    return [turn.messages[1]]


def _from_row(row: sqlite3.Row) -> HiddenTurn:
    if not is_sound("hidden_turns", row):
        raise CorruptStateError(
            "a hidden version of a turn does not match its checksum; `repair` makes it anew from the session's record"
        )
    about = {key: row[key] for key in ("id", "parent", "created_at")} | {"order": row["hidden_order"]}
    return hidden_from_json(about | json.loads(row["content"]))


def as_hidden(
    conn: sqlite3.Connection, session_id: str, parts: Sequence[sqlite3.Row], turn: Span, parent: str, order: int
) -> HiddenTurn:
    """A turn of the shown path as a hidden one.

    Args:
        conn: in a write transaction.
        session_id: the session.
        parts: its rows of `parts`.
        turn: which turn.
        parent: the turn before it.
        order: of this change.
    """
    messages = []
    for name in (turn.id, turn.answer_id):
        row = conn.execute("SELECT * FROM messages WHERE session_id = ? AND id = ?", [session_id, name]).fetchone()
        if row is None or not is_sound("messages", row):
            raise CorruptStateError("a message of this turn is damaged; `repair` makes it anew from its record")
        messages.append(_message_columns(row))
    return HiddenTurn(
        id=turn.id,
        parent=parent,
        created_at=messages[0]["created_at"],
        order=order,
        messages=(messages[0], messages[1]),
        tokens=(load_run(conn, parts[turn.first]["run"]), load_run(conn, parts[turn.first + 1]["run"])),
    )


def _message_columns(row: Mapping[str, Any] | sqlite3.Row) -> Message:
    kinds = {"created_at": float}
    return {column: kinds.get(column, str)(row[column]) for column in _MESSAGE_COLUMNS}
