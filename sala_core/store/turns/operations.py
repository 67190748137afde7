"""What can be done with any turn of a conversation: delete it, show another version of it, branch off behind it."""

import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from sala_core.errors import LibraryError
from sala_core.store.base import find_session
from sala_core.store.integrity.soundness import longest_state
from sala_core.store.rows import MessageDraft, PartDraft, PartRow, SessionRow
from sala_core.store.sessions import Sessions
from sala_core.store.streams import append_messages, append_parts, part_row, replace_parts, set_head
from sala_core.store.turns.tree import (
    FIRST,
    HiddenTurn,
    as_hidden,
    continuation,
    drop_messages,
    find_turn,
    hidden_turns,
    hide_from,
    next_order,
    put_hidden,
    shown_turns,
    stored_parts,
    take_out,
)


@dataclass(frozen=True, kw_only=True)
class TurnRow:
    """A turn of the conversation as it is shown. The first has the number 1.

    id, answer_id: of its two messages. versions: ids of all versions of it, the oldest first; it is one of them.
    start, end: its tokens in the stream. document_tokens_behind: those of documents that were read after it, which are
    read again where another version of it is asked for.
    """

    id: str
    answer_id: str
    number: int
    versions: tuple[str, ...]
    start: int
    end: int
    document_tokens_behind: int

    @property
    def version(self) -> int:
        """Which of its versions this is, counted from 1."""
        return self.versions.index(self.id) + 1


@dataclass(frozen=True, kw_only=True)
class DeletedTurn:
    """A turn that was deleted, for `Turns.restore_turn`.

    index: where it stood among the turns, from 0. was_last: whether nothing followed it. followers: ids of the hidden
    turns that followed it.
    """

    turn: HiddenTurn
    index: int
    was_last: bool
    followers: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class TurnChange:
    """What a change of the conversation costs at the next question.

    document_tokens: tokens of documents that are then read again. turn_tokens: those of turns. left_out: documents that
    a branch does not have, because they were read after its last turn. deleted: what a deletion has taken out.
    """

    session: SessionRow
    document_tokens: int
    turn_tokens: int
    left_out: int = 0
    deleted: DeletedTurn | None = None


def numbered(turns: Sequence[TurnRow], number: int) -> TurnRow:
    """The turn with this number, counted from 1; 0 for the last one. Raises LibraryError if there is none."""
    if not turns or number > len(turns):
        known = f"it has {len(turns)}" if turns else "nothing was asked yet"
        raise LibraryError(f"the conversation has no turn {number or 1}: {known}; `turns` lists them")
    return turns[number - 1]


class Turns(Sessions):
    """The part of the library that changes conversations turn by turn. Nothing here needs the model."""

    def turns(self, session_id: str) -> list[TurnRow]:
        """Return the turns that are shown, in order. Raises SessionNotFoundError, CorruptStateError."""
        with self.database.read() as conn:
            session_id = find_session(conn, session_id).id
            parts = stored_parts(conn, session_id)
            query = "SELECT id, parent, created_at FROM hidden_turns WHERE session_id = ?"
            others = [(row["created_at"], row["id"], row["parent"]) for row in conn.execute(query, [session_id])]
            query = "SELECT id, created_at FROM messages WHERE session_id = ?"
            times = {row["id"]: row["created_at"] for row in conn.execute(query, [session_id])}
        rows, parent, shown = [], FIRST, shown_turns(parts)
        for number, turn in enumerate(shown, start=1):
            versions = [(time, name) for time, name, follows in others if follows == parent]
            versions = sorted([*versions, (times.get(turn.id, 0.0), turn.id)])
            behind = [part for part in parts[turn.first :] if part["document_id"] is not None]
            rows.append(
                TurnRow(
                    id=turn.id,
                    answer_id=turn.answer_id,
                    number=number,
                    versions=tuple(name for _, name in versions),
                    start=turn.start,
                    end=turn.end,
                    document_tokens_behind=sum(part["end_token"] - part["start_token"] for part in behind),
                )
            )
            parent = turn.id
        return rows

    def delete_turn(self, session_id: str, turn_id: str) -> TurnChange:
        """Take a turn out of a conversation, in the version that is shown. `restore_turn` can take that back.

        What follows it stays. If nothing does and it has other versions, the one before it, or else behind it, is
        shown. turn_id: id of its question or answer. Raises SessionNotFoundError; LibraryError if there is no such
        turn; SessionBusyError if the session is in use.
        """

        def delete(conn: sqlite3.Connection, session: SessionRow) -> list[str]:
            parts = stored_parts(conn, session.id)
            turns = shown_turns(parts)
            index = find_turn(turns, turn_id)
            turn, parent = turns[index], turns[index - 1].id if index else FIRST
            is_last = index == len(turns) - 1
            gone = as_hidden(conn, session.id, parts, turn, parent, next_order(conn, session.id))
            followers = conn.execute(
                "UPDATE hidden_turns SET parent = ? WHERE session_id = ? AND parent = ? RETURNING id",
                [parent, session.id, turn.id],
            ).fetchall()
            names = tuple(row["id"] for row in followers)
            deleted.append(DeletedTurn(turn=gone, index=index, was_last=is_last, followers=names))
            drop_messages(conn, session.id, [turn.id, turn.answer_id])
            path = _neighbour(hidden_turns(conn, session.id), parent, gone.created_at) if is_last else []
            take_out(conn, session.id, path)
            kept = [part for part in parts if part["ordinal"] not in (turn.first, turn.first + 1)]
            return _restream(conn, session, _documents_first(kept, turn.first), path)

        deleted: list[DeletedTurn] = []
        change = self._change(session_id, delete)
        return replace(change, deleted=deleted[-1])

    def restore_turn(self, session_id: str, deleted: DeletedTurn) -> TurnChange:
        """Take a deletion back, as long as what stood before the turn is still shown. Raises as `delete_turn`."""

        def restore(conn: sqlite3.Connection, session: SessionRow) -> list[str]:
            parts = stored_parts(conn, session.id)
            turns = shown_turns(parts)
            before = turns[deleted.index - 1].id if 0 < deleted.index <= len(turns) else FIRST
            if before != deleted.turn.parent:
                raise LibraryError("the conversation has changed since; the turn cannot be brought back")
            back = list(deleted.followers)
            dropped: list[str] = []
            if len(turns) > deleted.index:
                dropped = _restream(conn, session, _documents_first(parts, turns[deleted.index].first), [])
                hide_from(conn, session.id, deleted.index)
                back += [] if deleted.was_last else [turns[deleted.index].id]
            put_hidden(conn, session.id, deleted.turn)
            conn.executemany(
                "UPDATE hidden_turns SET parent = ? WHERE session_id = ? AND id = ?",
                [(deleted.turn.id, session.id, name) for name in back],
            )
            path = continuation(hidden_turns(conn, session.id), deleted.turn)
            take_out(conn, session.id, path)
            present = [part_row(part) for part in stored_parts(conn, session.id)]
            return dropped + _restream(conn, find_session(conn, session.id), present, path)

        return self._change(session_id, restore)

    def show_version(self, session_id: str, turn_id: str, step: int) -> TurnChange:
        """Show another version of a turn, with what followed it when it was shown last. What is shown now is kept.

        Args:
            session_id: which session.
            turn_id: id of the question or answer of the version that is shown.
            step: -1 for the version before it, 1 for the one after it.

        Raises LibraryError if there is none; otherwise as `delete_turn`.
        """

        def show(conn: sqlite3.Connection, session: SessionRow) -> list[str]:
            row = next((row for row in self.turns(session.id) if turn_id in (row.id, row.answer_id)), None)
            wanted = row.version - 1 + step if row is not None else -1
            if row is None or not 0 <= wanted < len(row.versions):
                raise LibraryError("there is no such version of this turn any more; look at the session again")
            parts = stored_parts(conn, session.id)
            index = find_turn(shown_turns(parts), turn_id)
            dropped = _restream(conn, session, _documents_first(parts, shown_turns(parts)[index].first), [])
            hide_from(conn, session.id, index)
            hidden = hidden_turns(conn, session.id)
            path = continuation(hidden, next(turn for turn in hidden if turn.id == row.versions[wanted]))
            take_out(conn, session.id, path)
            present = [part_row(part) for part in stored_parts(conn, session.id)]
            return dropped + _restream(conn, find_session(conn, session.id), present, path)

        return self._change(session_id, show)

    def gather_documents(self, session_id: str, turn_id: str) -> TurnChange:
        """Let the documents that were read after a turn stand before it, so that another version can be asked for."""

        def gather(conn: sqlite3.Connection, session: SessionRow) -> list[str]:
            parts = stored_parts(conn, session.id)
            turns = shown_turns(parts)
            return _restream(conn, session, _documents_first(parts, turns[find_turn(turns, turn_id)].first), [])

        with self.database.write() as conn:
            before = find_session(conn, session_id)
            dropped = gather(conn, before)
            change = _change_of(conn, before.id)
        self.remove_files([self.states_folder / name for name in dropped])
        return change

    def branch_session(self, session_id: str, new_name: str, turn_id: str) -> TurnChange:
        """Copy a session up to a turn, which the copy includes. Both share all files; nothing is read again.

        Documents that were read after the turn are not in the copy. Raises as `fork_session`; LibraryError if there is
        no such turn.
        """
        with self.database.write() as conn:
            old = find_session(conn, session_id)
            session = self.fork_session(old.id, new_name)
            parts = stored_parts(conn, session.id)
            turns = shown_turns(parts)
            index = find_turn(turns, turn_id)
            end = turns[index].first + 2
            left_out = [part for part in parts[end:] if part["document_id"] is not None]
            later = [name for turn in turns[index + 1 :] for name in (turn.id, turn.answer_id)]
            drop_messages(conn, session.id, later)
            _drop_hidden_below(conn, session.id, [turns[index].id, *(turn.id for turn in turns[index + 1 :])])
            dropped = _restream(conn, session, [part_row(part) for part in parts[:end]], [])
            conn.execute(
                "DELETE FROM sources WHERE session_id = ?1 AND content_hash NOT IN (SELECT d.content_hash FROM parts p"
                " JOIN documents d ON d.id = p.document_id WHERE p.session_id = ?1)",
                [session.id],
            )
            change = _change_of(conn, session.id, left_out=len(left_out))
        self.remove_files([self.states_folder / name for name in dropped])
        return change

    def hidden_turns(self, session_id: str) -> list[HiddenTurn]:
        """Return the versions of turns that are not shown, the oldest first. Raises CorruptStateError."""
        with self.database.read() as conn:
            return hidden_turns(conn, find_session(conn, session_id).id)

    def append_turn(self, session_id: str, parts: Sequence[PartDraft], messages: Sequence[MessageDraft]) -> None:
        """Append a turn's parts and messages to the session, whose state stays where it is.

        For a question that was answered while a reading goes on: its turn stands behind all documents, and is read once
        they are. Raises as `append_parts`; nothing is changed then.
        """
        with self.database.write() as conn:
            session_id = find_session(conn, session_id).id
            append_parts(conn, session_id, parts)
            append_messages(conn, session_id, messages)

    def _change(self, session_id: str, work: Callable[[sqlite3.Connection, SessionRow], list[str]]) -> TurnChange:
        """Do `work` in one transaction while the session's lock is held, also on a full disk."""
        session = self.session(session_id)

        def change() -> tuple[list[str], TurnChange]:
            with self.database.write() as conn:
                dropped = work(conn, find_session(conn, session.id))
                return dropped, _change_of(conn, session.id)

        with self.room_to_delete(), self._held(session):
            self.check_session(session.id)
            dropped, done = self.deleting(change)
            self.remove_files([self.states_folder / name for name in dropped])
        return done


def _neighbour(hidden: Sequence[HiddenTurn], parent: str, asked_at: float) -> list[HiddenTurn]:
    """The version before, or else behind, one that was asked at `asked_at`, with what follows it; [] for none."""
    versions = [turn for turn in hidden if turn.parent == parent]
    if not versions:
        return []
    earlier = [turn for turn in versions if turn.created_at <= asked_at]
    return continuation(hidden, earlier[-1] if earlier else versions[0])


def _documents_first(parts: Sequence[sqlite3.Row], first: int) -> list[PartRow]:
    """The parts, those of documents that stand behind the ordinal `first` moved before all others behind it."""
    before = [part_row(part) for part in parts if part["ordinal"] < first]
    behind = [part_row(part) for part in parts if part["ordinal"] >= first]
    documents = [part for part in behind if part.document_id is not None]
    return [*before, *documents, *(part for part in behind if part.document_id is None)]


def _restream(
    conn: sqlite3.Connection, session: SessionRow, parts: Sequence[PartRow], path: Sequence[HiddenTurn]
) -> list[str]:
    """Give a session these parts and the turns of `path` behind them; it then stands on the longest state that fits.

    Returns the names of the snapshot files that are no longer needed.
    """
    present = [part_row(part) for part in stored_parts(conn, session.id)]
    wanted: list[PartRow | PartDraft] = [*parts, *(draft for turn in path for draft in turn.drafts)]
    if wanted == present:
        return []
    replace_parts(conn, session.id, wanted)
    return set_head(conn, session.id, *longest_state(conn, session.id))


def _change_of(conn: sqlite3.Connection, session_id: str, *, left_out: int = 0) -> TurnChange:
    session = find_session(conn, session_id)
    documents = turns = 0
    for part in stored_parts(conn, session.id):
        unread = max(0, part["end_token"] - max(part["start_token"], session.position))
        if part["document_id"] is not None:
            documents += unread
        else:
            turns += unread
    return TurnChange(session=session, document_tokens=documents, turn_tokens=turns, left_out=left_out)


def _drop_hidden_below(conn: sqlite3.Connection, session_id: str, ids: Sequence[str]) -> None:
    """Delete the hidden turns that follow any of these, and what follows them."""
    doomed = list(ids)
    while doomed:
        parent = doomed.pop()
        gone = conn.execute(
            "DELETE FROM hidden_turns WHERE session_id = ? AND parent = ? RETURNING id", [session_id, parent]
        ).fetchall()
        doomed += [row["id"] for row in gone]
