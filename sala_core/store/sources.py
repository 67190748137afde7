"""Where a session's documents came from, and the change of stream that follows when these files change."""

import json
import sqlite3
from collections.abc import Sequence
from typing import Any

from sala_core.errors import LibraryError, StateError
from sala_core.store.base import LibraryBase, find_session
from sala_core.store.checkpoints import chain_of
from sala_core.store.database import insert_row
from sala_core.store.rows import DocumentRow, PartDraft, PartRow, SourceRow
from sala_core.store.streams import replace_parts, set_head
from sala_core.store.turns.tree import cited_by, hidden_turns

SOURCE_COLUMNS = "path, root, name, content_hash, num_bytes, mtime_ns, file_hash, status, num_changes"
_MAX_LISTED = 20

_FIRST_CHANGED = """
SELECT min(p.start_token) FROM parts p JOIN documents d ON d.id = p.document_id
WHERE p.session_id = ?1
  AND d.content_hash IN (SELECT content_hash FROM sources WHERE session_id = ?1 AND num_changes > 0)
"""


class Sources(LibraryBase):
    """The part of the library that knows the files behind the documents."""

    def sources(self, session_id: str) -> list[SourceRow]:
        """Return the files that a session has read, by path. Documents without one were read by an early version."""
        with self.database.read() as conn:
            rows = conn.execute(
                f"SELECT {SOURCE_COLUMNS} FROM sources WHERE session_id = ? ORDER BY path",
                [find_session(conn, session_id).id],
            )
            return [SourceRow(**row) for row in rows]

    def file_hashes(self) -> set[str]:
        """Return the hashes of all files that any session has read, also of sessions in the bin."""
        with self.database.read() as conn:
            return {row["file_hash"] for row in conn.execute("SELECT DISTINCT file_hash FROM sources")}

    def put_sources(self, session_id: str, sources: Sequence[SourceRow]) -> None:
        """Make these the session's files, and leave its stream as it is. Raises SessionNotFoundError."""
        with self.database.write() as conn:
            _replace_sources(conn, find_session(conn, session_id).id, sources)

    def change_stream(
        self,
        session_id: str,
        parts: Sequence[PartRow | PartDraft],
        sources: Sequence[SourceRow],
        *,
        head: str | None,
        position: int,
    ) -> None:
        """Give a session another stream, and other files behind it, in one transaction.

        Texts that leave the stream stay in the library as long as an earlier answer refers to them.

        Args:
            session_id: which session.
            parts: the whole stream: parts that the session has, in any order, and new ones.
            sources: all files behind it.
            head, position: the checkpoint that the new stream begins with, and where it ends; None and 0 for none.

        Raises as `append_parts` and `set_head`; nothing is changed then.
        """
        with self.database.write() as conn:
            session_id = find_session(conn, session_id).id
            before = _document_ids(conn, session_id)
            replace_parts(conn, session_id, parts)
            dropped = set_head(conn, session_id, head, position)
            _keep_cited(conn, session_id, before - _document_ids(conn, session_id))
            _replace_sources(conn, session_id, sources)
        self.remove_files([self.states_folder / name for name in dropped])

    def outdated_answers(self, session_id: str) -> dict[str, tuple[str, ...]]:
        """Return, by message id, what answers referred to that the session does not hold any more.

        In words: "an earlier version of a.txt", or "b.txt, which was taken out".
        """
        with self.database.read() as conn:
            session_id = find_session(conn, session_id).id
            present = _document_ids(conn, session_id)
            names = {
                row["name"]
                for row in conn.execute(
                    "SELECT d.name FROM parts p JOIN documents d ON d.id = p.document_id WHERE p.session_id = ?",
                    [session_id],
                )
            }
            rows = conn.execute(
                "SELECT id, evidence, stats FROM messages WHERE session_id = ?", [session_id]
            ).fetchall()
        found: dict[str, tuple[str, ...]] = {}
        for row in rows:
            gone = {item["document"] for item in _cited(row) if item.get("document_id") not in present}
            if gone:
                found[row["id"]] = tuple(
                    f"an earlier version of {name}" if name in names else f"{name}, which was taken out"
                    for name in sorted(gone)
                )
        return found

    def first_changed_token(self, session_id: str) -> int | None:
        """Where the first document begins of which an earlier version was read; None if there is none."""
        with self.database.read() as conn:
            (start,) = conn.execute(_FIRST_CHANGED, [session_id]).fetchone()
        return None if start is None else int(start)

    def last_kept_token(self, head: str, position: int) -> int:
        """Where the last snapshot on the chain to `head` ends, at `position` or before; 0 if there is none."""
        with self.database.read() as conn:
            try:
                chain = chain_of(conn, head)
            except StateError:
                return 0
        return max((row.end for row in chain if row.has_snapshot and row.end <= position), default=0)

    def watched_folders(self, session_id: str | None = None) -> list[tuple[str, str]]:
        """Return (session id, path) of the folders that are watched, of one session or of all, without the bin."""
        with self.database.read() as conn:
            rows = conn.execute(
                "SELECT session_id, root FROM watched_folders WHERE session_id = coalesce(?, session_id)"
                " AND session_id NOT IN (SELECT session_id FROM session_marks WHERE binned_at IS NOT NULL)"
                " ORDER BY session_id, root",
                [session_id],
            )
            return [(row["session_id"], row["root"]) for row in rows]

    def set_watched_folders(self, session_id: str, roots: Sequence[str]) -> None:
        """Make `roots` the folders that are watched for a session. Raises SessionNotFoundError."""
        with self.database.write() as conn:
            session_id = find_session(conn, session_id).id
            conn.execute("DELETE FROM watched_folders WHERE session_id = ?", [session_id])
            for root in roots:
                insert_row(conn, "watched_folders", {"session_id": session_id, "root": root})


def find_document(documents: Sequence[DocumentRow], text: str) -> DocumentRow:
    """Return the document with this id, this name, or a name that ends with these parts of a path.

    Raises LibraryError if none or several fit; the message lists them.
    """
    wanted = text.removeprefix("./").replace("\\", "/")
    tests = (
        lambda row: row.id == text,
        lambda row: row.name == text,
        lambda row: row.name.endswith("/" + wanted),
        lambda row: row.name.endswith(wanted) and bool(wanted),
    )
    for test in tests:
        found = [row for row in documents if test(row)]
        if len(found) == 1:
            return found[0]
        if found:
            shown = [row.name if len({row.name for row in found}) > 1 else f"{row.name} (id {row.id})" for row in found]
            raise LibraryError(f"{text!r} fits {len(found)} documents: {_listed(shown)}; write more of the name")
    known = _listed([row.name for row in documents]) or "it has no document"
    raise LibraryError(f"the session has no document {text!r}; it has: {known}")


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MAX_LISTED:,} more" if len(names) > _MAX_LISTED else ""
    return ", ".join(names[:_MAX_LISTED]) + more


def _document_ids(conn: sqlite3.Connection, session_id: str) -> set[str]:
    rows = conn.execute(
        "SELECT DISTINCT document_id FROM parts WHERE session_id = ? AND document_id IS NOT NULL", [session_id]
    )
    return {row["document_id"] for row in rows}


def _keep_cited(conn: sqlite3.Connection, session_id: str, document_ids: set[str]) -> None:
    """Keep those of these documents that answers of the session refer to."""
    if not document_ids:
        return
    rows = conn.execute("SELECT evidence, stats FROM messages WHERE session_id = ?", [session_id]).fetchall()
    hidden = [each for turn in hidden_turns(conn, session_id) for each in cited_by(turn)]
    cited = {str(item.get("document_id")) for row in (*rows, *hidden) for item in _cited(row)}
    conn.executemany(
        "INSERT OR IGNORE INTO former_documents (session_id, document_id) VALUES (?, ?)",
        [(session_id, document_id) for document_id in sorted(document_ids & cited)],
    )


def _cited(message: sqlite3.Row | dict[str, Any]) -> list[dict[str, Any]]:
    """The passages that an answer refers to, as JSON objects: its evidence and its quotations."""
    return [*json.loads(message["evidence"]), *(json.loads(message["stats"]).get("quotations") or ())]


def _replace_sources(conn: sqlite3.Connection, session_id: str, sources: Sequence[SourceRow]) -> None:
    columns = SOURCE_COLUMNS.split(", ")
    marks = ", ".join("?" * (len(columns) + 1))
    conn.execute("DELETE FROM sources WHERE session_id = ?", [session_id])
    conn.executemany(
        f"INSERT INTO sources (session_id, {SOURCE_COLUMNS}) VALUES ({marks})",
        [(session_id, *(getattr(source, column) for column in columns)) for source in sources],
    )
