"""A full check of a library, or of one session: every row, record, text and state file is read and compared."""

import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from sala_core.disk.files import checksum, read_whole
from sala_core.disk.layout import decode_blocks
from sala_core.errors import CorruptStateError, LibraryError, SessionNotFoundError, StateError
from sala_core.stopping import never
from sala_core.store.base import find_session
from sala_core.store.checkpoints import BODY, SEGMENT_SUFFIX, SNAPSHOT_SUFFIX, chain_of, checkpoint_row
from sala_core.store.integrity import seal
from sala_core.store.integrity.records import load_run, read_record, record_path, revisions
from sala_core.store.integrity.row_checksums import COVERED, damaged_rows
from sala_core.store.library import Library
from sala_core.store.rows import CheckpointRow


@dataclass(frozen=True, kw_only=True)
class Checked:
    """One thing that was checked. problem: what is wrong with it, "" for nothing. done, total: things so far and in
    all."""

    kind: str
    name: str
    problem: str
    done: int
    total: int


@dataclass(frozen=True, kw_only=True)
class _Check:
    """A check that is still to be done. run: returns what is wrong, "" for nothing."""

    kind: str
    name: str
    run: Callable[[], str]


def verify_library(
    library: Library, session: str | None = None, should_stop: Callable[[], bool] = never
) -> Iterator[Checked]:
    """Check everything, or what one session needs; yield one record for each thing that was checked.

    Nothing is changed. Ends early once `should_stop()` is true. Raises SessionNotFoundError.

    Args:
        library: an open library.
        session: name or id; None for the whole library.
        should_stop: is asked before each check.
    """
    row = None if session is None else library.session(session, in_bin=True)
    checks = _row_checks(library, row.id if row else None) + _file_checks(library, row.id if row else None)
    for done, check in enumerate(checks, start=1):
        if should_stop():
            return
        yield Checked(kind=check.kind, name=check.name, problem=check.run(), done=done, total=len(checks))


def _row_checks(library: Library, session_id: str | None) -> list[_Check]:
    checks = [_Check(kind="database", name="library.db", run=partial(_pages, library))]
    if session_id is None:
        checks.append(_Check(kind="database", name=seal.COPY, run=partial(_copy, library.folder)))
        checks += [_Check(kind="rows", name=table, run=partial(_rows, library, table)) for table in COVERED]
    with library.database.read() as conn:
        where = "SELECT id, name FROM sessions" + (" WHERE id = ?" if session_id else "")
        sessions = conn.execute(where, [session_id] if session_id else []).fetchall()
        runs = conn.execute(
            "SELECT DISTINCT r.row AS row FROM token_runs r"
            + (" JOIN parts p ON p.run = r.row WHERE p.session_id = ?" if session_id else ""),
            [session_id] if session_id else [],
        ).fetchall()
    for session in sessions:
        identity, name = session["id"], session["name"]
        checks.append(_Check(kind="session", name=name, run=partial(_session, library, identity)))
        checks.append(_Check(kind="record", name=name, run=partial(_record, library, identity)))
    rows = [row["row"] for row in runs]
    return [
        *checks,
        *(_Check(kind="tokens", name=f"run {row}", run=partial(_run, library, row)) for row in rows),
    ]


def _file_checks(library: Library, session_id: str | None) -> list[_Check]:
    with library.database.read() as conn:
        documents = conn.execute(
            "SELECT id, name, file_bytes FROM documents"
            + (" WHERE id IN (SELECT document_id FROM parts WHERE session_id = ?)" if session_id else ""),
            [session_id] if session_id else [],
        ).fetchall()
        states = _states(conn, session_id)
    checks = [
        _Check(
            kind="text",
            name=row["name"],
            run=partial(_whole, _text(library, row["id"]), row["file_bytes"], row["id"]),
        )
        for row in documents
    ]
    for state in states:
        files = [(SEGMENT_SUFFIX, state.segment_bytes, state.segment_checksum)]
        if state.snapshot_checksum is not None:
            files.append((SNAPSHOT_SUFFIX, state.snapshot_bytes, state.snapshot_checksum))
        for suffix, num_bytes, digest in files:
            path = library.states_folder / (state.name + suffix)
            checks.append(
                _Check(
                    kind=suffix.split(".")[1],
                    name=path.name,
                    run=partial(_state_file, path, num_bytes, digest, state),
                )
            )
    return checks


def _text(library: Library, document_id: str) -> Path:
    return library.documents_folder / f"{document_id}.safetensors"


def _states(conn: sqlite3.Connection, session_id: str | None) -> list[CheckpointRow]:
    if session_id is None:
        return [checkpoint_row(row) for row in conn.execute("SELECT * FROM checkpoints ORDER BY end_token, name")]
    head = find_session(conn, session_id).head
    try:
        return [] if head is None else chain_of(conn, head)
    except StateError:  # reported by the session's own check
        return []


def _pages(library: Library) -> str:
    try:
        problem = library.database.outside(seal.check_pages)
    except LibraryError as error:
        return str(error)
    if problem or library.is_behind:
        return problem or "it is older than the files beside it"
    with library.database.read() as conn:
        return "rows refer to rows that are not there" if conn.execute("PRAGMA foreign_key_check").fetchall() else ""


def _copy(folder: Path) -> str:
    exists = (folder / seal.COPY).exists()
    return "it is not what was kept" if exists and seal.sound_copy(folder) is None else ""


def _rows(library: Library, table: str) -> str:
    with library.database.read() as conn:
        count = len(damaged_rows(conn, table))
    return f"{count:,} rows do not match their checksum" if count else ""


def _session(library: Library, session_id: str) -> str:
    try:
        row = library.session(session_id, in_bin=True)
        if library.is_session_damaged(session_id):
            return "rows of it do not match their checksum"
        with library.database.read() as conn:
            if row.head is not None and chain_of(conn, row.head)[-1].end != row.position:
                return "its saved state does not end where the session stands"
    except (StateError, SessionNotFoundError) as error:
        return str(error)
    return ""


def _record(library: Library, session_id: str) -> str:
    with library.database.read() as conn:
        row = conn.execute("SELECT revision FROM sessions WHERE id = ?", [session_id]).fetchone()
        empty = conn.execute("SELECT 1 FROM parts WHERE session_id = ?", [session_id]).fetchone() is None
    kept = revisions(library.records_folder).get(session_id, [])
    if row["revision"] not in kept:
        return "" if empty else "its record is missing or not up to date"
    try:
        read_record(record_path(library.records_folder, session_id, row["revision"]))
    except CorruptStateError as error:
        return str(error)
    return ""


def _run(library: Library, row: int) -> str:
    try:
        with library.database.read() as conn:
            load_run(conn, row)
    except CorruptStateError as error:
        return str(error)
    return ""


def _whole(path: Path, num_bytes: int, digest: str) -> str:
    """Whether a file has this length and checksum."""
    try:
        return "" if checksum(read_whole(path, num_bytes)) == digest else "its checksum does not match"
    except FileNotFoundError:
        return "it is missing"
    except (OSError, EOFError) as error:
        return str(error)


def _state_file(path: Path, num_bytes: int, digest: str, row: CheckpointRow) -> str:
    """Whether a state file is what was written, and describes the checkpoint that its row names."""
    if problem := _whole(path, num_bytes, digest):
        return problem
    try:
        _, about = decode_blocks(read_whole(path, num_bytes))
    except (OSError, EOFError, ValueError) as error:
        return str(error)
    about.pop(BODY, None)
    expected = (row.name, row.parent or "", row.fingerprint, str(row.start), str(row.end), str(row.format))
    found = tuple(about.get(key) for key in ("name", "parent", "fingerprint", "start", "end", "format"))
    return "" if found == expected else "it describes another state"
