"""A checksum in every row that a session consists of, written by triggers and compared whenever a row is used.

SQLite's own checks find a damaged page structure, not a changed letter. A trigger calls the function `sala_checksum`,
which every connection of the library defines, so that no statement can forget it.
"""

import sqlite3
from collections.abc import Iterable

import xxhash

COVERED: dict[str, tuple[str, ...]] = {
    "sessions": ("id", "name", "model", "fingerprint", "head", "position", "revision"),
    "documents": (
        "id", "name", "media_type", "num_bytes", "num_chars", "num_tokens", "num_pages", "warnings", "content_hash",
        "tokenizer_fingerprint", "file_bytes", "page_starts", "tokens_hash",
    ),
    "messages": (
        "session_id", "id", "ordinal", "role", "text", "thinking", "status", "evidence", "stats", "created_at",
    ),
    "parts": (
        "session_id", "ordinal", "kind", "start_token", "end_token", "run", "document_id", "body_start", "message_id",
    ),
    "hidden_turns": ("session_id", "id", "parent", "created_at", "hidden_order", "content"),
    "session_marks": ("session_id", "pinned", "binned_at", "former_name", "system_prompt"),
    "checkpoints": (
        "name", "parent", "fingerprint", "format", "start_token", "end_token", "keep", "segment_bytes",
        "segment_checksum", "snapshot_bytes", "snapshot_checksum",
    ),
}  # fmt: skip
"""Table -> the columns that its checksum covers. Times of use are not covered: a wrong one loses nothing."""

_FUNCTION = "sala_checksum"


def row_checksum(*values: object) -> str:
    """Return the xxh3-128 of the values of one row, hexadecimal. values: str, int, float or None, in order."""
    digest = xxhash.xxh3_128()
    for value in values:
        data = repr(value).encode() if not isinstance(value, str) else value.encode("utf-8", "surrogatepass")
        digest.update(f"{type(value).__name__}:{len(data)}:".encode())
        digest.update(data)
    return digest.hexdigest()


def define_function(conn: sqlite3.Connection) -> None:
    """Define the function that the triggers call, for this connection."""
    conn.create_function(_FUNCTION, -1, row_checksum, deterministic=True)


def triggers(table: str) -> tuple[str, ...]:
    """Return SQL that fills the column `checksum` of all rows, and keeps it right after every insert and update.

    The checksum is taken of the row as it is by then: another trigger may have changed it further.
    """
    columns = COVERED[table]
    update = f"UPDATE {table} SET checksum = {_FUNCTION}({', '.join(columns)}) WHERE rowid = NEW.rowid"
    return (
        f"UPDATE {table} SET checksum = {_FUNCTION}({', '.join(columns)})",
        f"CREATE TRIGGER {table}_checksum_insert AFTER INSERT ON {table} BEGIN {update}; END",
        f"CREATE TRIGGER {table}_checksum_update AFTER UPDATE OF {', '.join(columns)} ON {table} BEGIN {update}; END",
    )


def is_sound(table: str, row: sqlite3.Row) -> bool:
    """Whether a row is what was written. row: with all columns of its table."""
    return bool(row["checksum"] == row_checksum(*(row[column] for column in COVERED[table])))


def damaged_rows(conn: sqlite3.Connection, table: str, where: str = "1", values: Iterable[object] = ()) -> list[int]:
    """Return the rowids of the rows whose checksum does not match.

    Args:
        conn: an open transaction.
        table: a key of COVERED.
        where, values: which rows, as SQL and its parameters.
    """
    rows = conn.execute(f"SELECT rowid AS damaged_row, * FROM {table} WHERE {where}", list(values))
    return [row["damaged_row"] for row in rows if not is_sound(table, row)]
