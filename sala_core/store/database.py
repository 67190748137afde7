"""One SQLite connection that several threads share, with whole transactions and the library's own errors."""

import sqlite3
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import sqlite_utils

from sala_core.errors import DiskFullError, LibraryError
from sala_core.store.migrations import migrations

MIN_SQLITE = (3, 37, 0)
"""STRICT tables came with 3.37; the trigram tokenizer and RETURNING are older."""

BUSY_TIMEOUT_S = 30.0

_PRAGMAS = (
    "PRAGMA auto_vacuum = INCREMENTAL",
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    "PRAGMA fullfsync = ON",
    "PRAGMA foreign_keys = ON",
    "PRAGMA journal_size_limit = 67108864",
)


class Database:
    """The library's tables. A lock lets one thread in at a time; SQLite keeps other processes apart.

    Commits are durable when they return (WAL, synchronous=FULL).
    """

    def __init__(self, path: Path) -> None:
        """Open or create the database and bring it to this version's tables.

        The caller keeps two processes from doing so at once. Raises LibraryError if the file is not a
        library, is damaged, or was written by a newer version.
        """
        if sqlite3.sqlite_version_info < MIN_SQLITE:
            raise LibraryError(
                f"SQLite {sqlite3.sqlite_version} is too old for the library; "
                f"use a Python built with {'.'.join(map(str, MIN_SQLITE))} or later"
            )
        self.path = path
        self._lock = threading.RLock()
        self._open: str | None = None
        try:
            self._conn = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
        except sqlite3.Error as error:
            self._fail(error)
        try:
            self._prepare()
        except sqlite3.Error as error:
            self._conn.close()
            self._fail(error)
        except BaseException:
            self._conn.close()
            raise

    def _prepare(self) -> None:
        self._conn.row_factory = sqlite3.Row
        tables = sqlite_utils.Database(self._conn, execute_plugins=False)
        applied = {migration.name for migration in migrations.applied(tables)}
        newer = sorted(applied - _own_names())
        if newer:
            raise LibraryError(
                f"{self.path} was written by a newer version of this program (it knows {', '.join(newer)}); "
                "update the program, or choose another library folder"
            )
        for pragma in _PRAGMAS:
            self._conn.execute(pragma)
        migrations.apply(tables)

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """Several queries that see one state of the library. Raises LibraryError as `write` does."""
        with self._transaction("BEGIN") as conn:
            yield conn

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """Hold the only write transaction of all processes; commit at the end, undo on any exception.

        Raises DiskFullError when the disk is full, LibraryError when another process holds the library for
        longer than BUSY_TIMEOUT_S, or the file is damaged, read-only or closed.
        """
        with self._transaction("BEGIN IMMEDIATE") as conn:
            yield conn

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[sqlite3.Connection]:
        with self._lock:
            if self._open is not None:
                assert begin in ("BEGIN", self._open), "a write needs a transaction that began as a write"
                yield self._conn
                return
            try:
                self._conn.execute(begin)
                self._open = begin
                yield self._conn
                self._conn.execute("COMMIT")
            except sqlite3.Error as error:
                self._fail(error)
            finally:
                self._open = None
                self._roll_back()

    def _roll_back(self) -> None:
        try:
            if self._conn.in_transaction:
                self._conn.execute("ROLLBACK")
        except sqlite3.Error as error:
            self._fail(error)

    def close(self) -> None:
        """Close the connection; idempotent."""
        with self._lock:
            self._conn.close()

    def _fail(self, error: sqlite3.Error) -> NoReturn:
        """Raise the library's error for one of SQLite's that the world causes; pass our own mistakes on."""
        code = getattr(error, "sqlite_errorcode", None)
        primary = None if code is None else code & 0xFF
        if primary == sqlite3.SQLITE_FULL:
            raise DiskFullError(
                f"the disk that holds {self.path} is full; nothing was lost; free some space and try again"
            ) from error
        if primary in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise LibraryError(
                f"another process kept {self.path} locked for {BUSY_TIMEOUT_S:.0f} s; try again"
            ) from error
        if primary in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            raise LibraryError(
                f"{self.path} is damaged or no library ({error}); restore it from a backup or choose another folder"
            ) from error
        if primary in _UNUSABLE:
            raise LibraryError(
                f"cannot use {self.path}: {error}; check the folder's permissions and its disk"
            ) from error
        if isinstance(error, sqlite3.ProgrammingError) and "closed database" in str(error):
            raise LibraryError(f"the library {self.path} is closed; open it again") from error
        raise error


_UNUSABLE = (
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_AUTH,
)


def _own_names() -> set[str]:
    empty = sqlite_utils.Database(memory=True, execute_plugins=False)
    try:
        return {migration.name for migration in migrations.pending(empty)}
    finally:
        empty.close()


def insert_row(conn: sqlite3.Connection, table: str, values: Mapping[str, object]) -> int:
    """Insert one row; return its rowid."""
    columns = ", ".join(values)
    marks = ", ".join(f":{column}" for column in values)
    cursor = conn.execute(f"INSERT INTO {table} ({columns}) VALUES ({marks})", values)
    assert cursor.lastrowid is not None, "an inserted row has an id"
    return cursor.lastrowid
