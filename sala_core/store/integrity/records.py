"""Records of sessions: one file for each, from which its rows can be made anew if the database is lost.

A record holds a session's row, its conversation, its documents' rows and its token stream; of a document's tokens only
those before and after the document's own, which stand in the document's file. It is written after the commit that it
describes, and its name carries the session's revision: `ID.REVISION.json`. So a record is never ahead of the database,
unless the database was lost or an earlier copy of it was put in its place; one that is behind is written again.
"""

import base64
import json
import os
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from sala_core.disk.files import (
    checksum,
    displace_folder,
    open_regular,
    read_whole,
    storage_error,
    sync_folder,
    write_file,
)
from sala_core.errors import CorruptStateError
from sala_core.store.integrity.row_checksums import COVERED, is_sound
from sala_core.store.integrity.unreadable import refuse_unreadable

FORMAT = 1
SUFFIX = ".json"
_OWN_TABLES = ("jobs",)
"""Tables with sessions that a record leaves out: a job is over when its process is."""

Row = dict[str, Any]
DocumentTokens = Callable[[str], np.ndarray]
"""Id of a document -> its token ids, int32 [T]. Raises LibraryError or StateError if its file cannot be used."""


@dataclass(frozen=True, kw_only=True)
class SessionRecord:
    """What a record holds. tables: name -> rows, in order; `parts` among them, with their tokens."""

    session: Row
    documents: list[Row]
    tables: dict[str, list[Row]]

    @property
    def id(self) -> str:
        """The session's id."""
        return str(self.session["id"])

    @property
    def revision(self) -> int:
        """The session's revision."""
        return int(self.session["revision"])


def revisions(folder: Path) -> dict[str, list[int]]:
    """Session id -> the revisions of its records in `folder`, ascending. No file is opened."""
    found: dict[str, list[int]] = {}
    with suppress(FileNotFoundError):
        for path in folder.iterdir():
            session_id, _, revision = path.name.removesuffix(SUFFIX).partition(".")
            if path.name.endswith(SUFFIX) and revision.isdecimal():
                found.setdefault(session_id, []).append(int(revision))
    return {session_id: sorted(numbers) for session_id, numbers in found.items()}


def record_path(folder: Path, session_id: str, revision: int) -> Path:
    """The file of a record."""
    return folder / f"{session_id}.{revision}{SUFFIX}"


def remove_records(folder: Path, session_id: str, *, below: int | None = None) -> None:
    """Delete the records of a session, durably; below: only those of earlier revisions.

    Raises LibraryError if one cannot be deleted: it would bring a deleted session back.
    """
    doomed = [each for each in revisions(folder).get(session_id, []) if below is None or each < below]
    path = folder
    try:
        for revision in doomed:
            path = record_path(folder, session_id, revision)
            displace_folder(path)
            path.unlink(missing_ok=True)
        if below is None and doomed:
            sync_folder(folder)
    except OSError as error:
        raise storage_error(error, path) from error


def write_record(conn: sqlite3.Connection, folder: Path, session_id: str) -> int:
    """Write the record of a session as it is in this transaction; return its revision.

    Nothing is written for a session without tokens. Raises CorruptStateError if a row is damaged, which must not
    replace a sound record; DiskFullError, LibraryError, OSError.
    """
    record = collect(conn, session_id)
    if record.tables["parts"]:
        body = json.dumps(
            {"session": record.session, "documents": record.documents, "tables": record.tables}, ensure_ascii=False
        ).encode()
        head = json.dumps({"format": FORMAT, "checksum": checksum(body)}).encode() + b"\n"
        target = record_path(folder, session_id, record.revision)
        displace_folder(target)
        write_file(target, [memoryview(head), memoryview(body)])
    return record.revision


def collect(conn: sqlite3.Connection, session_id: str) -> SessionRecord:
    """Read what a record holds from the database, and check it. Raises CorruptStateError."""
    session = _checked(conn, "sessions", "id = ?", [session_id])[0]
    tables = {
        table: _checked(conn, table, "session_id = ? ORDER BY rowid", [session_id]) for table in session_tables(conn)
    }
    named = {row["document_id"] for rows in tables.values() for row in rows if row.get("document_id") is not None}
    documents = {name: _checked(conn, "documents", "id = ?", [name])[0] for name in sorted(named)}
    for part in tables["parts"]:
        ids = load_run(conn, part.pop("run"))
        part["tokens"] = _encode_tokens(part, ids, documents.get(part["document_id"]))
    return SessionRecord(session=session, documents=list(documents.values()), tables=tables)


def read_record(path: Path) -> SessionRecord:
    """Read a record and verify its checksum. Raises CorruptStateError."""
    try:
        data = bytes(read_whole(path, _size(path)))
        head, _, body = data.partition(b"\n")
        about = json.loads(head)
        if about["format"] != FORMAT:
            raise ValueError(f"its format is {about['format']}")
        if about["checksum"] != checksum(body):
            raise ValueError("its checksum does not match")
        record = SessionRecord(**json.loads(body))
        if record_path(path.parent, record.id, record.revision) != path:
            raise ValueError("it is the record of another session, or of an earlier form")
        return record
    except (OSError, EOFError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise CorruptStateError(f"the record {path.name} cannot be used ({error}); `repair` writes it again") from error


def latest_record(folder: Path, session_id: str) -> SessionRecord | None:
    """The latest record of a session that is sound, or None. Raises LibraryError if one is there, but unreadable."""
    for revision in reversed(revisions(folder).get(session_id, [])):
        path = record_path(folder, session_id, revision)
        try:
            return read_record(path)
        except CorruptStateError as error:
            refuse_unreadable(path, error.__cause__)
    return None


def restore_record(conn: sqlite3.Connection, record: SessionRecord, document_tokens: DocumentTokens) -> list[str]:
    """Replace all rows of the record's session by what the record says; return what could not be restored.

    The session then stands on no state. Where the text of a document is lost, its part is left out of the stream.
    """
    conn.execute("PRAGMA defer_foreign_keys = ON")
    lost: list[str] = []
    position, parts = 0, []
    names = {row["id"]: row["name"] for row in record.documents}
    for part in record.tables["parts"]:
        try:
            ids = decode_tokens(conn, part, document_tokens)
        except CorruptStateError as error:
            lost.append(f"{names.get(part['document_id'], part['kind'])}: {error}")
            continue
        parts.append({**part, "start_token": position, "end_token": position + len(ids), "run": store_run(conn, ids)})
        position += len(ids)
    kept = {part["document_id"] for part in parts}
    session = {**record.session, "head": None, "position": 0}
    _delete_rows(conn, record.id)
    for row in record.documents:
        if row["id"] in kept or not record.tables["parts"]:
            _put(conn, "documents", row)
    _put(conn, "sessions", session)
    for table, rows in record.tables.items():
        if table in session_tables(conn):
            for ordinal, row in enumerate(parts if table == "parts" else rows):
                if table != "former_documents" or _has(conn, "documents", row["document_id"]):
                    _put(conn, table, {**row, "ordinal": ordinal} if table == "parts" else row)
    return lost


def decode_tokens(conn: sqlite3.Connection, part: Mapping[str, Any], document_tokens: DocumentTokens) -> np.ndarray:
    """Return the tokens of a record's part, int32 [n]. Raises CorruptStateError if its document's file is needed and
    cannot be used, and the database does not hold them either."""
    tokens = part["tokens"]
    known = conn.execute("SELECT ids FROM token_runs WHERE hash = ?", [tokens["hash"]]).fetchone()
    if known is not None and checksum(known["ids"]) == tokens["hash"]:
        return np.frombuffer(known["ids"], dtype="<i4")
    if "ids" in tokens:
        ids = _from_base64(tokens["ids"])
    else:
        own = document_tokens(part["document_id"])
        ids = np.concatenate([_from_base64(tokens["before"]), own, _from_base64(tokens["after"])])
    if checksum(ids.tobytes()) != tokens["hash"]:
        raise CorruptStateError("its tokens do not match their checksum; read the file again")
    return ids


def load_run(conn: sqlite3.Connection, row: int) -> np.ndarray:
    """Return the tokens of a run, int32 [n]. Raises CorruptStateError if they do not match their hash."""
    run = conn.execute("SELECT hash, ids FROM token_runs WHERE row = ?", [row]).fetchone()
    if run is None or checksum(run["ids"]) != run["hash"]:
        raise CorruptStateError(
            "stored tokens of the session do not match their checksum; `repair` makes them anew from its record, "
            "`read SESSION --again` from its texts"
        )
    return np.frombuffer(run["ids"], dtype="<i4")


def store_run(conn: sqlite3.Connection, ids: np.ndarray) -> int:
    """Store a run of tokens unless it is there; return its row. A damaged one of the same hash is replaced."""
    data = ids.tobytes()
    key = checksum(data)
    known = conn.execute("SELECT row, ids FROM token_runs WHERE hash = ?", [key]).fetchone()
    if known is None:
        return int(conn.execute("INSERT INTO token_runs (hash, ids) VALUES (?, ?)", [key, data]).lastrowid or 0)
    if known["ids"] != data:
        conn.execute("UPDATE token_runs SET ids = ? WHERE row = ?", [data, known["row"]])
    return int(known["row"])


def drop_unused_runs(conn: sqlite3.Connection, rows: Iterable[object] | None = None) -> None:
    """Delete runs of tokens that no part has, in a write transaction. rows: only those among them; None for all."""
    unused = "NOT EXISTS (SELECT 1 FROM parts WHERE run = token_runs.row)"
    if rows is None:
        conn.execute(f"DELETE FROM token_runs WHERE {unused}")
    else:
        conn.executemany(f"DELETE FROM token_runs WHERE row = ? AND {unused}", [(row,) for row in rows])


def session_tables(conn: sqlite3.Connection) -> list[str]:
    """The tables whose rows belong to a session, and that a record holds."""
    rows = conn.execute(
        "SELECT m.name FROM sqlite_master m WHERE m.type = 'table' AND EXISTS"
        " (SELECT 1 FROM pragma_table_info(m.name) WHERE name = 'session_id') ORDER BY m.name"
    )
    return [row["name"] for row in rows if row["name"] not in _OWN_TABLES]


def _checked(conn: sqlite3.Connection, table: str, where: str, values: Sequence[object]) -> list[Row]:
    rows = conn.execute(f"SELECT * FROM {table} WHERE {where}", list(values)).fetchall()
    if table in COVERED and not all(is_sound(table, row) for row in rows):
        raise CorruptStateError(f"a row of {table} does not match its checksum; run `repair`")
    if table in ("sessions", "documents") and not rows:
        raise CorruptStateError(f"a row of {table} is missing; run `repair`")
    left_out = {"row", "checksum", "session_id" if table == "sessions" else ""}
    return [{key: row[key] for key in row.keys() if key not in left_out} for row in rows]  # noqa: SIM118


def _encode_tokens(part: Row, ids: np.ndarray, document: Row | None) -> Row:
    """The tokens of a part as JSON types: all of them, or those around the document's own."""
    tokens: Row = {"hash": xxhash.xxh3_128_hexdigest(ids.tobytes())}
    if document is not None:
        end = part["body_start"] + document["num_tokens"]
        if checksum(ids[part["body_start"] : end].tobytes()) == document["tokens_hash"]:
            return tokens | {"before": _to_base64(ids[: part["body_start"]]), "after": _to_base64(ids[end:])}
    return tokens | {"ids": _to_base64(ids)}


def _to_base64(ids: np.ndarray) -> str:
    return base64.b64encode(ids.tobytes()).decode()


def _from_base64(text: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text, validate=True), dtype="<i4")


def _delete_rows(conn: sqlite3.Connection, session_id: str) -> None:
    for table in session_tables(conn):
        conn.execute(f"DELETE FROM {table} WHERE session_id = ?", [session_id])


def _put(conn: sqlite3.Connection, table: str, row: Row) -> None:
    """Insert a row, or give the present one these values. Columns that the table does not have are left out."""
    known = {each["name"] for each in conn.execute("SELECT name FROM pragma_table_info(?)", [table])}
    values = {key: value for key, value in row.items() if key in known}
    columns, marks = ", ".join(values), ", ".join("?" for _ in values)
    changes = ", ".join(f"{column} = excluded.{column}" for column in values)
    conflict = f"ON CONFLICT(id) DO UPDATE SET {changes}" if table in ("sessions", "documents") else ""
    conn.execute(f"INSERT INTO {table} ({columns}) VALUES ({marks}) {conflict}", list(values.values()))


def _has(conn: sqlite3.Connection, table: str, key: str) -> bool:
    return conn.execute(f"SELECT 1 FROM {table} WHERE id = ?", [key]).fetchone() is not None


def _size(path: Path) -> int:
    descriptor = open_regular(path)
    try:
        return os.fstat(descriptor).st_size
    finally:
        os.close(descriptor)
