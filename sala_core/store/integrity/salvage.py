"""Sessions made anew from the rows of a damaged database that can still be read, where nothing else holds them.

SQLite refuses only the pages that are damaged. The rows of the others are taken if they match their checksums.
"""

import base64
import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path

from sala_core.disk.files import checksum, read_whole
from sala_core.errors import CorruptStateError, SalaError
from sala_core.store.documents import decode_document
from sala_core.store.integrity import seal
from sala_core.store.integrity.library_folder import DATABASE
from sala_core.store.integrity.records import SessionRecord, restore_record, session_tables
from sala_core.store.integrity.row_checksums import COVERED, is_sound
from sala_core.store.integrity.schema_pages import has_readable_schema, put_schema_back
from sala_core.store.integrity.soundness import LOST_MESSAGE, rebuild_search
from sala_core.store.integrity.unreadable import readable_tokens, refuse_unreadable
from sala_core.store.library import Library

_NAME = "library.salvage.tmp"
_PARTS = ("", "-wal", "-shm", "-journal")
_MAX_PROBES = 200_000
"""How many row numbers are asked for one by one, where the rows around them can be read from both sides."""
_UNKNOWN = "unknown"
_UNREADABLE = (sqlite3.Error, UnicodeDecodeError)
"""What reading damaged rows raises; the second one for names of columns, or messages of SQLite that repeat them."""

Row = dict[str, object]


@dataclass
class _Table:
    """The rows that can be read. is_whole: whether those are all. damaged: rows that do not match their checksum."""

    sound: list[Row] = field(default_factory=list)
    damaged: list[Row] = field(default_factory=list)
    is_whole: bool = True


def salvage_sessions(library: Library, damaged: Path) -> Iterator[str]:
    """Add the sessions that only a damaged database has, or has in a later form and whole; yield what was done, and
    what is lost.

    library: open, and made anew as far as copy and records go. damaged: that database; it is not changed.
    """
    copy = library.folder / _NAME
    with library.database.read() as known:
        names = [*session_tables(known), "sessions", "documents"]
    try:
        for part in _PARTS:
            Path(f"{copy}{part}").unlink(missing_ok=True)
            with suppress(FileNotFoundError):
                shutil.copyfile(f"{damaged}{part}", f"{copy}{part}")
        is_own_schema = has_readable_schema(copy, [*names, "token_runs"])
        if not is_own_schema:
            with suppress(ValueError):
                put_schema_back(copy, seal.sound_copy(library.folder) or library.folder / DATABASE)
        with closing(sqlite3.connect(copy, isolation_level=None)) as conn:
            conn.row_factory = sqlite3.Row
            conn.text_factory = lambda data: data.decode("utf-8", "surrogateescape")
            tables = {name: _readable(conn, name, is_checked=not is_own_schema) for name in names}
            missing = _missing(library, tables)
            for session_id in missing:
                yield from _salvage(library, conn, tables, session_id)
            torn = [name for name, table in tables.items() if not table.is_whole]
            if not any(table.sound for table in tables.values()):
                yield f"no row of {damaged.name} can be read"
            elif missing and torn:
                yield f"not all rows of {', '.join(torn)} can be read: what they held of these sessions is lost"
    finally:
        for part in _PARTS:
            Path(f"{copy}{part}").unlink(missing_ok=True)


def _missing(library: Library, tables: dict[str, _Table]) -> list[str]:
    """Ids of the sessions of which something can be read, and that the library lacks or has in an earlier form."""
    with library.database.read() as conn:
        known = {row["id"]: int(row["revision"]) for row in conn.execute("SELECT id, revision FROM sessions")}
    found = {str(row["session_id"]) for name in ("parts", "messages") for row in tables[name].sound}
    later = {
        str(row["id"]) for row in tables["sessions"].sound if int(str(row["revision"])) > known.get(str(row["id"]), -1)
    }
    is_whole = all(table.is_whole and not table.damaged for table in tables.values())
    return sorted({each for each in found if each not in known} | (later if is_whole else later - known.keys()))


def _salvage(library: Library, conn: sqlite3.Connection, tables: dict[str, _Table], session_id: str) -> Iterator[str]:
    names = tables.keys() - {"sessions", "documents"}
    own = {name: _of(tables[name].sound, session_id) for name in names}
    session = next((row for row in tables["sessions"].sound if row["id"] == session_id), None)
    lost = [] if session else ["its name and its model"]
    session = session or _unknown(session_id)
    parts: list[Row] = []
    for part in sorted(own["parts"], key=lambda row: int(str(row["ordinal"]))):
        run, document_id = part.pop("run"), part["document_id"]
        tokens = _tokens(conn, run)
        if tokens is None:
            lost.append(f"tokens of a part of kind {part['kind']}; `read {session['name']!r} --again` makes them anew")
            tokens = _text_tokens(library, document_id)
            part["body_start"] = 0
        if tokens is not None:
            parts.append({**part, "tokens": tokens})
    lost += _gaps("parts of its stream", own["parts"])
    documents = [row for row in tables["documents"].sound if row["id"] in {part["document_id"] for part in parts}]
    for document_id in {part["document_id"] for part in parts} - {row["id"] for row in documents} - {None}:
        if not _register(library, str(document_id)):
            parts = [part for part in parts if part["document_id"] != document_id]
            lost.append(f"the text {document_id}")
    messages, lost_messages = _messages(own["messages"], _of(tables["messages"].damaged, session_id))
    lost += lost_messages
    name = _free_name(library, str(session["name"]), session_id)
    record = SessionRecord(
        session={**session, "name": name}, documents=documents, tables={**own, "parts": parts, "messages": messages}
    )
    try:
        with library.database.write() as target:
            lost += restore_record(target, record, readable_tokens(library.document_tokens, library.documents_folder))
            rebuild_search(target)
    except (SalaError, sqlite3.Error) as error:
        if isinstance(error.__cause__, OSError):  # the disk is full, or a text cannot be read now
            raise
        yield f"session {name!r} cannot be made anew from the rows of the damaged database ({error})"
        return
    yield f"session {name!r} was made anew from the rows of the damaged database that can be read"
    yield from (f"session {name!r} has lost {each}" for each in lost)


def _of(rows: list[Row], session_id: str) -> list[Row]:
    return [dict(row) for row in rows if row["session_id"] == session_id]


def _unknown(session_id: str) -> Row:
    """The row of a session whose own cannot be read. It belongs to no model: it has to be read again."""
    now = time.time()
    name = f"recovered {session_id[:6]}"
    return {
        "id": session_id, "name": name, "model": _UNKNOWN, "fingerprint": "", "created_at": now, "updated_at": now,
    }  # fmt: skip


def _free_name(library: Library, name: str, session_id: str) -> str:
    with library.database.read() as conn:
        taken = conn.execute("SELECT 1 FROM sessions WHERE name = ? AND id != ?", [name, session_id]).fetchone()
    return f"{name} ({session_id[:6]})" if taken else name


def _gaps(what: str, rows: list[Row]) -> list[str]:
    """What is missing between the rows of a session, by their numbers."""
    missing = max((int(str(row["ordinal"])) for row in rows), default=-1) + 1 - len(rows)
    return [f"{missing:,} {what}"] if missing else []


def _messages(sound: list[Row], damaged: list[Row]) -> tuple[list[Row], list[str]]:
    """The messages of a session, numbered without gaps, and what is lost of them."""
    known = {row["id"] for row in sound}
    empty = {"text": LOST_MESSAGE, "thinking": "", "evidence": "[]", "stats": "{}", "status": "done"}
    kept = sound + [row | empty for row in damaged if row["role"] in ("user", "assistant") and row["id"] not in known]
    kept.sort(key=lambda row: float(str(row["ordinal"])))
    lost = [f"the text of {len(kept) - len(sound):,} messages"] if len(kept) > len(sound) else []
    lost += _gaps("messages", kept)
    return [row | {"ordinal": ordinal} for ordinal, row in enumerate(kept)], lost


def _tokens(conn: sqlite3.Connection, run: object) -> Row | None:
    """The tokens of a part as a record has them, or None."""
    try:
        row = conn.execute("SELECT hash, ids FROM token_runs WHERE row = ?", [run]).fetchone()
    except _UNREADABLE:
        return None
    if row is None or checksum(row["ids"]) != row["hash"]:
        return None
    return {"hash": row["hash"], "ids": base64.b64encode(row["ids"]).decode()}


def _text_tokens(library: Library, document_id: object) -> Row | None:
    """The tokens of a text alone, without the template around them, or None."""
    if document_id is None:
        return None
    read = readable_tokens(library.document_tokens, library.documents_folder)
    try:
        ids = read(str(document_id)).astype("<i4").tobytes()
    except CorruptStateError:
        return None
    return {"hash": checksum(ids), "ids": base64.b64encode(ids).decode()}


def _register(library: Library, document_id: str) -> bool:
    """Make the row of a text anew from its file; return whether that is possible."""
    path = library.documents_folder / f"{document_id}.safetensors"
    try:
        data = read_whole(path, path.lstat().st_size)
        encoded, tokenizer = decode_document(data)
        return library.put_document(encoded, tokenizer) == document_id
    except (OSError, EOFError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        refuse_unreadable(path, error)
        return False


def _readable(conn: sqlite3.Connection, table: str, *, is_checked: bool) -> _Table:
    """The rows of a table that can be read: from both ends, and one by one between them. Raises sqlite3.Error.

    is_checked: only rows with a checksum count, because the table could begin at another page.
    """
    found: dict[int, sqlite3.Row] = {}
    ends: list[int] = []
    is_whole = False
    for order in ("ASC", "DESC"):
        last = None
        try:
            for row in conn.execute(f"SELECT rowid AS salvaged_row, * FROM {table} ORDER BY rowid {order}"):
                last = int(row["salvaged_row"])
                found[last] = row
            is_whole = True
            break
        except _UNREADABLE:
            ends += [] if last is None else [last]
    if not is_whole and len(ends) == 2:
        for number in range(ends[0] + 1, min(ends[1], ends[0] + _MAX_PROBES)):
            with suppress(*_UNREADABLE):
                for row in conn.execute(f"SELECT rowid AS salvaged_row, * FROM {table} WHERE rowid = ?", [number]):
                    found[number] = row
    taken = _Table(is_whole=is_whole and (table in COVERED or not is_checked or not found))
    for row in found.values():
        try:
            is_right = is_sound(table, row) if table in COVERED else not is_checked
        except (TypeError, UnicodeError, IndexError):
            is_right = False
        left_out = {"salvaged_row", "row", "checksum", "session_id" if table == "sessions" else ""}
        kept = {key: row[key] for key in row.keys() if key not in left_out}  # noqa: SIM118
        (taken.sound if is_right else taken.damaged).append(kept)
    return taken
