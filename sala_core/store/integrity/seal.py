"""The checksum of the database while nobody has it open, and a copy of it from the last sound start."""

import json
import os
import sqlite3
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import xxhash

from sala_core.disk.files import displace_folder, open_regular, sync_folder, write_file
from sala_core.errors import LibraryDamagedError, LibraryError
from sala_core.store.integrity.library_folder import DATABASE
from sala_core.store.integrity.row_checksums import define_function, row_checksum

SEAL = "library.seal"
COPY = "library.copy.db"
SCHEMA = "schema"
"""Key of that checksum in the table `library`."""
_COPIED = "library.copy.json"
_QUICK_BYTES = 64 << 20
"""A larger database is checked without comparing its indexes with its tables, which takes seconds."""
_READ_BYTES = 1 << 20
_MAX_JSON_BYTES = 4096
_COPY_AGE_S = 600.0


def seal(folder: Path) -> None:
    """Keep the checksum of the database, if its last connection is closed. Does nothing where it is kept already."""
    if (folder / SEAL).exists() or _has_journal(folder):
        return
    with suppress(OSError, LibraryError):
        digest = digest_file(folder / DATABASE)
        text = json.dumps({"size": (folder / DATABASE).stat().st_size, "checksum": digest})
        write_file(folder / SEAL, [memoryview(text.encode())])


def break_seal(folder: Path) -> None:
    """Delete the checksum before the first change, durably: a crash must not leave one that is out of date."""
    path = folder / SEAL
    if path.exists():
        displace_folder(path)
        with suppress(FileNotFoundError):
            path.unlink()
        sync_folder(folder)


def check_seal(folder: Path) -> bool:
    """Compare the database with the checksum that was kept of it; return whether there is one.

    Raises LibraryDamagedError if they differ: nothing of this program has written it since. Raises OSError.
    """
    try:
        kept = _read_json(folder / SEAL)
        expected = (int(kept["size"]), str(kept["checksum"]))
    except (OSError, ValueError, KeyError, TypeError):
        return False
    database = folder / DATABASE
    if _has_journal(folder):  # a process has it open, or was killed: SQLite's own checks apply
        return False
    if (database.stat().st_size, digest_file(database)) != expected:
        raise LibraryDamagedError(
            f"{database} is not what it was when it was closed: it is damaged, or another copy was put in its place; "
            "nothing was changed; `repair` compares it with the files beside it and mends it"
        )
    return True


def _has_journal(folder: Path) -> bool:
    """Whether a change of the database is in a file beside it."""
    return any((folder / f"{DATABASE}{suffix}").exists() for suffix in ("-wal", "-journal"))


def check_pages(conn: sqlite3.Connection) -> str:
    """Return what SQLite finds wrong with a database, "" for nothing. Raises sqlite3.Error."""
    (pages,), (page_bytes,) = (conn.execute(f"PRAGMA {name}").fetchone() for name in ("page_count", "page_size"))
    check = "integrity_check" if pages * page_bytes <= _QUICK_BYTES else "quick_check"
    found = [str(row[0]) for row in conn.execute(f"PRAGMA {check}(1)")]
    if found != ["ok"]:
        return found[0]
    kept = conn.execute("SELECT value FROM library WHERE key = ?", [SCHEMA]).fetchone()
    return "" if kept is None or kept[0] == schema_checksum(conn) else "the description of a table has changed"


def schema_checksum(conn: sqlite3.Connection) -> str:
    """Return the checksum of what the database says of its tables, indexes and triggers."""
    rows = conn.execute("SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY type, name")
    return row_checksum(*(value for row in rows for value in row))


def keep_copy(conn: sqlite3.Connection, folder: Path) -> bool:
    """Copy the database beside itself if it has changed since the last copy; return whether a copy was made.

    The copy replaces the last one only after SQLite has found it sound. conn: of the database, outside a transaction.
    Raises OSError, sqlite3.Error, LibraryError.
    """
    database, target = folder / DATABASE, folder / COPY
    state = [database.stat().st_size, database.stat().st_mtime_ns]
    with suppress(OSError, ValueError, KeyError, TypeError):
        kept = _read_json(folder / _COPIED)
        if target.is_file() and (kept["of"] == state or time.time() - target.stat().st_mtime < _COPY_AGE_S):
            return False
    temporary = folder / f"{COPY}.tmp"
    try:
        temporary.unlink(missing_ok=True)
        os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        with closing(sqlite3.connect(temporary)) as copy:
            conn.backup(copy)
            copy.execute("PRAGMA journal_mode = DELETE")
            define_function(copy)
            if check_pages(copy):
                return False
        descriptor = os.open(temporary, os.O_RDWR)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
            known = [digest_file(temporary), *([digest_file(target)] if target.is_file() else [])]
        about = json.dumps({"of": state, "checksums": known})  # first: a crash in between leaves the earlier copy
        displace_folder(folder / _COPIED)
        write_file(folder / _COPIED, [memoryview(about.encode())])
        displace_folder(target)
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
    return True


def forget_copy(folder: Path) -> None:
    """Let the next call of `keep_copy` make one. Raises OSError."""
    displace_folder(folder / _COPIED)
    (folder / _COPIED).unlink(missing_ok=True)


def sound_copy(folder: Path) -> Path | None:
    """The copy of the database, if it is what was kept; else None."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        if digest_file(folder / COPY) in _read_json(folder / _COPIED)["checksums"]:
            return folder / COPY
    return None


def _read_json(path: Path) -> dict[str, Any]:
    """A small JSON object. Raises OSError, also for a pipe, which would never answer; ValueError."""
    with os.fdopen(open_regular(path), "rb") as file:
        raw = json.loads(file.read(_MAX_JSON_BYTES))
    if not isinstance(raw, dict):
        raise ValueError("it is no object")
    return raw


def digest_file(path: Path) -> str:
    """Return the xxh3-128 of a file, hexadecimal. Raises OSError."""
    digest = xxhash.xxh3_128()
    with os.fdopen(open_regular(path.resolve()), "rb", buffering=0) as file:
        while data := file.read(_READ_BYTES):
            digest.update(data)
    return digest.hexdigest()
