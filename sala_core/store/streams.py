"""A session's token stream and conversation: ordered parts, messages, and the turn that commits both."""

import json
import sqlite3
import time
from collections.abc import Sequence

import numpy as np

from sala_core.errors import LibraryError, StateError
from sala_core.events import AnswerStats, Evidence
from sala_core.store.base import find_session
from sala_core.store.checkpoints import drop_rolling_snapshots, find_checkpoint
from sala_core.store.database import insert_row
from sala_core.store.integrity.records import drop_unused_runs, load_run, store_run
from sala_core.store.integrity.row_checksums import is_sound
from sala_core.store.integrity.soundness import LOST_MESSAGE, Soundness
from sala_core.store.rows import MessageDraft, MessageRow, PartDraft, PartRow
from sala_core.store.turns.tree import HiddenTurn, find_turn, hide_from, put_hidden, shown_turns, stored_parts


class Streams(Soundness):
    """The part of the library that keeps the sessions' token streams and conversations."""

    _last_run: tuple[str, np.ndarray] | None = None

    def append_parts(self, session_id: str, parts: Sequence[PartDraft]) -> None:
        """Append runs of tokens to the session's stream, all or none.

        Raises SessionNotFoundError; LibraryError for a document that is not stored, or for ids that are not int32 [n].
        """
        with self.database.write() as conn:
            session_id = find_session(conn, session_id).id
            append_parts(conn, session_id, parts)
            _mark_updated(conn, session_id)

    def parts(self, session_id: str) -> list[PartRow]:
        """Return the session's parts in order. Raises SessionNotFoundError."""
        with self.database.read() as conn:
            rows = conn.execute(
                "SELECT * FROM parts WHERE session_id = ? ORDER BY ordinal",
                [find_session(conn, session_id).id],
            )
            return [part_row(row) for row in rows]

    def token_ids(self, session_id: str, start: int, end: int) -> np.ndarray:
        """Return tokens [start, end) of the session's stream, int32 [end - start].

        Raises SessionNotFoundError; LibraryError if the range is not within the stream; CorruptStateError if a run of
        tokens does not match its hash.
        """
        with self.database.read() as conn:
            session = find_session(conn, session_id)
            if not 0 <= start <= end <= session.num_tokens:
                raise LibraryError(
                    f"tokens {start:,} to {end:,} of session {session.name!r} were asked for; "
                    f"it has {session.num_tokens:,}"
                )
            ids = np.empty(end - start, dtype="<i4")
            rows = conn.execute(
                "SELECT run, start_token, end_token FROM parts"
                " WHERE session_id = ? AND end_token > ? AND start_token < ? ORDER BY ordinal",
                [session.id, start, end],
            ).fetchall()
            for run, first, last in rows:
                low, high = max(start, first), min(end, last)
                ids[low - start : high - start] = self._run(conn, run)[low - first : high - first]
        return ids

    def _run(self, conn: sqlite3.Connection, row: int) -> np.ndarray:
        """A run of tokens, int32 [n], verified. The last one stays in memory: a reading takes it in many slices."""
        (key,) = conn.execute("SELECT hash FROM token_runs WHERE row = ?", [row]).fetchone()
        if self._last_run is None or self._last_run[0] != key:
            self._last_run = (key, load_run(conn, row))
        return self._last_run[1]

    def messages(self, session_id: str) -> list[MessageRow]:
        """Return the session's messages in order. Raises SessionNotFoundError.

        Damaged ones are made anew from the session's record; if that is not possible, their text says so.
        """
        for is_last in (False, True):
            with self.database.read() as conn:
                session_id = find_session(conn, session_id).id
                rows = conn.execute(
                    "SELECT * FROM messages WHERE session_id = ? ORDER BY ordinal", [session_id]
                ).fetchall()
                sound = [is_sound("messages", row) for row in rows]
                if all(sound) or is_last or self.database.read_only:
                    each = zip(rows, sound, strict=True)
                    return [_message_row(row) if is_whole else _lost_message(row) for row, is_whole in each]
            self.notices += self.mend_session(session_id)
        raise AssertionError("the second look returns")

    def commit_turn(
        self,
        session_id: str,
        parts: Sequence[PartDraft],
        messages: Sequence[MessageDraft],
        head: str | None,
        position: int,
        *,
        instead_of: str | None = None,
    ) -> None:
        """Append a turn's parts and messages and move the session's head, in one transaction.

        Args:
            session_id: which session.
            parts: the turn's tokens.
            messages: the question and the answer.
            head, position: as `set_head` takes them.
            instead_of: id of the turn of which this is another version: it is hidden, with what follows it. No document
                may stand behind it. None: the turn follows the last one.

        Raises as `append_parts` and `set_head`; nothing is changed then.
        """
        with self.database.write() as conn:
            session_id = find_session(conn, session_id).id
            if instead_of is not None:
                hide_from(conn, session_id, find_turn(shown_turns(stored_parts(conn, session_id)), instead_of))
            append_parts(conn, session_id, parts)
            append_messages(conn, session_id, messages)
            dropped = set_head(conn, session_id, head, position)
            self._store_written(conn, session_id)
        self.remove_files([self.states_folder / name for name in dropped])

    def count_written(self, session_id: str, num_bytes: int) -> None:
        """Count bytes of state that were written for a session; they are stored when its head moves."""
        self._written[session_id] = self._written.get(session_id, 0) + num_bytes

    def _store_written(self, conn: sqlite3.Connection, session_id: str) -> None:
        if written := self._written.pop(session_id, 0):
            conn.execute("UPDATE sessions SET bytes_written = bytes_written + ? WHERE id = ?", [written, session_id])

    def set_head(self, session_id: str, head: str | None, position: int) -> None:
        """Make the checkpoint `head`, which ends at `position`, the session's state; None and 0 for no state.

        The snapshot of the former head is dropped if it was a rolling one. Raises SessionNotFoundError; StateError if
        the checkpoint does not exist, has no snapshot, belongs to another model or does not end at `position`.
        """
        with self.database.write() as conn:
            dropped = set_head(conn, find_session(conn, session_id).id, head, position)
            self._store_written(conn, session_id)
        self.remove_files([self.states_folder / name for name in dropped])

    def reset_session(
        self,
        session_id: str,
        *,
        model: str,
        fingerprint: str,
        parts: Sequence[PartDraft] | None = None,
        hidden: Sequence[HiddenTurn] = (),
    ) -> None:
        """Hand a session to another model. Its state is dropped, its conversation stays.

        Args:
            session_id: which session.
            model, fingerprint: of the new model.
            parts: the whole stream, tokenized for the new model; None keeps the stored one.
            hidden: the versions of turns that are not shown, tokenized for it too. Without parts they stay as they are.

        Raises as `append_parts`.
        """
        with self.database.write() as conn:
            session_id = find_session(conn, session_id).id
            dropped = set_head(conn, session_id, None, 0)
            conn.execute(
                "UPDATE sessions SET model = ?, fingerprint = ? WHERE id = ?",
                [model, fingerprint, session_id],
            )
            if parts is not None:
                conn.execute("DELETE FROM parts WHERE session_id = ?", [session_id])
                append_parts(conn, session_id, parts)
                conn.execute("DELETE FROM hidden_turns WHERE session_id = ?", [session_id])
                for turn in hidden:
                    put_hidden(conn, session_id, turn)
                drop_unused_runs(conn)
        self.remove_files([self.states_folder / name for name in dropped])


def replace_parts(conn: sqlite3.Connection, session_id: str, parts: Sequence[PartRow | PartDraft]) -> None:
    """Give a session another stream: parts that it has, in any order, and new ones. What is left out is dropped.

    The caller sets the head afterwards. Raises as `append_parts`.
    """
    stored = conn.execute("SELECT * FROM parts WHERE session_id = ? ORDER BY ordinal", [session_id]).fetchall()
    same = 0
    while same < min(len(parts), len(stored)) and getattr(parts[same], "ordinal", None) == same:
        same += 1
    conn.execute("DELETE FROM parts WHERE session_id = ? AND ordinal >= ?", [session_id, same])
    position = stored[same - 1]["end_token"] if same else 0
    for ordinal, part in enumerate(parts[same:], start=same):
        if isinstance(part, PartDraft):
            append_parts(conn, session_id, [part])
            position += len(part.token_ids)
            continue
        row = stored[part.ordinal]
        length = row["end_token"] - row["start_token"]
        kept = {name: row[name] for name in ("session_id", "kind", "run", "document_id", "body_start", "message_id")}
        place = {"ordinal": ordinal, "start_token": position, "end_token": position + length}
        insert_row(conn, "parts", kept | place)
        position += length
    drop_unused_runs(conn, [row["run"] for row in stored[same:]])


def append_parts(conn: sqlite3.Connection, session_id: str, parts: Sequence[PartDraft]) -> None:
    """Append runs of tokens to a session's stream, in a write transaction. Raises as `Streams.append_parts`."""
    ordinal, position = conn.execute(
        "SELECT count(*), coalesce(max(end_token), 0) FROM parts WHERE session_id = ?", [session_id]
    ).fetchone()
    for part in parts:
        ids = as_token_ids(part.token_ids)
        if part.document_id is not None and not _exists(conn, "documents", part.document_id):
            raise LibraryError(f"document {part.document_id} is not in the library; read its file again")
        if not 0 <= part.body_start <= len(ids):
            raise LibraryError(f"a part of {len(ids):,} tokens cannot have its body at token {part.body_start:,}")
        values = {
            "session_id": session_id,
            "ordinal": ordinal,
            "kind": part.kind,
            "start_token": position,
            "end_token": position + len(ids),
            "run": store_run(conn, ids),
            "document_id": part.document_id,
            "body_start": part.body_start,
            "message_id": part.message_id,
        }
        insert_row(conn, "parts", values)
        ordinal, position = ordinal + 1, position + len(ids)


def as_token_ids(token_ids: np.ndarray) -> np.ndarray:
    """Return the ids as little-endian int32 [n].

    Raises LibraryError if they are not integers of that range.
    """
    ids = np.asarray(token_ids)
    bounds = np.iinfo(np.int32)
    if ids.ndim != 1 or (ids.size and ids.dtype.kind not in "iu"):
        raise LibraryError(f"token ids must be integers [n], not {ids.dtype} {list(ids.shape)}")
    if ids.size and (int(ids.min()) < 0 or int(ids.max()) > bounds.max):
        raise LibraryError(f"token ids must lie between 0 and {bounds.max:,}; found {ids.min()} to {ids.max()}")
    return np.ascontiguousarray(ids, dtype="<i4")


def append_messages(conn: sqlite3.Connection, session_id: str, messages: Sequence[MessageDraft]) -> None:
    """Append messages to a session's conversation, in a write transaction."""
    (count,) = conn.execute("SELECT count(*) FROM messages WHERE session_id = ?", [session_id]).fetchone()
    now = time.time()
    for ordinal, message in enumerate(messages, start=count):
        values = {"session_id": session_id, "ordinal": ordinal, "created_at": now, **message_columns(message)}
        insert_row(conn, "messages", values)


def message_columns(message: MessageDraft | MessageRow) -> dict[str, str]:
    """What a row of `messages` says of the message itself: not its session, its place and its time."""
    return {
        "id": message.id,
        "role": message.role,
        "text": message.text,
        "thinking": message.thinking,
        "status": message.status,
        "evidence": json.dumps([item.to_json() for item in message.evidence]),
        "stats": json.dumps(message.stats.to_json() if message.stats is not None else {}),
    }


def set_head(conn: sqlite3.Connection, session_id: str, head: str | None, position: int) -> list[str]:
    """Move the head; return the names of the snapshot files that are no longer needed.

    Args:
        conn: in a write transaction.
        session_id: the session.
        head: name of the checkpoint that the session then stands on; None for the beginning.
        position: tokens that its state holds, where the checkpoint ends.

    Raises StateError for a checkpoint that the session cannot stand on.
    """
    session = find_session(conn, session_id)
    row = None if head is None else find_checkpoint(conn, head)
    end = row.end if row is not None else 0
    if head is not None and (row is None or not row.has_snapshot):
        raise StateError(f"session {session.name!r} cannot stand on {head}: it is not saved with a snapshot")
    if row is not None and row.fingerprint != session.fingerprint:
        raise StateError(f"session {session.name!r} belongs to {session.model!r}; {head} is another model's state")
    if position != end or position > session.num_tokens:
        raise StateError(
            f"session {session.name!r} has {session.num_tokens:,} tokens and its state ends at token {end:,};"
            f" it cannot stand at {position:,}"
        )
    conn.execute("UPDATE sessions SET head = ?, position = ? WHERE id = ?", [head, position, session_id])
    _mark_updated(conn, session_id)
    return drop_rolling_snapshots(conn, session.head) if head != session.head else []


def _mark_updated(conn: sqlite3.Connection, session_id: str) -> None:
    conn.execute("UPDATE sessions SET updated_at = ? WHERE id = ?", [time.time(), session_id])


def _exists(conn: sqlite3.Connection, table: str, key: str) -> bool:
    return conn.execute(f"SELECT 1 FROM {table} WHERE id = ?", [key]).fetchone() is not None


def part_row(row: sqlite3.Row) -> PartRow:
    """Convert one row of the table `parts` to its record."""
    return PartRow(
        ordinal=row["ordinal"],
        kind=row["kind"],
        start=row["start_token"],
        end=row["end_token"],
        document_id=row["document_id"],
        body_start=row["body_start"],
        message_id=row["message_id"],
    )


def _lost_message(row: sqlite3.Row) -> MessageRow:
    """What is shown of a message whose row is damaged, and of which there is no other copy."""
    return MessageRow(
        id=str(row["id"]),
        role=row["role"] if row["role"] in ("user", "assistant") else "assistant",
        text=LOST_MESSAGE,
        thinking="",
        status="done",
        evidence=(),
        stats=None,
        created_at=float(row["created_at"]),
    )


def _message_row(row: sqlite3.Row) -> MessageRow:
    stats = json.loads(row["stats"])
    return MessageRow(
        id=row["id"],
        role=row["role"],
        text=row["text"],
        thinking=row["thinking"],
        status=row["status"],
        evidence=tuple(Evidence.from_json(item) for item in json.loads(row["evidence"])),
        stats=AnswerStats.from_json(stats) if stats else None,
        created_at=row["created_at"],
    )
