"""One SQLite connection, shared by several threads. It has only whole transactions and raises the library's errors."""

import sqlite3
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from sala_core.errors import DiskFullError, LibraryError

MIN_SQLITE = (3, 37, 0)
"""3.37 has STRICT tables; the trigram tokenizer and RETURNING are older."""

BUSY_TIMEOUT_S = 30.0

MIGRATIONS = frozenset(("m001_library",))
"""Names of all migrations in `sala_core.store.migrations`. That module is loaded only to apply one: it needs
sqlite-utils, which loads pandas."""

_MIGRATION_SET = "sala-library"
_PRAGMAS = (
    "PRAGMA recursive_triggers = ON",
    "PRAGMA auto_vacuum = INCREMENTAL",
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    "PRAGMA fullfsync = ON",
    "PRAGMA foreign_keys = ON",
    "PRAGMA journal_size_limit = 67108864",
)


class Database:
    """The library's tables. A lock admits one thread at a time; SQLite separates processes.

    A commit is durable when it returns (WAL, synchronous=FULL).
    """

    def __init__(self, path: Path) -> None:
        """Open or create the database, and apply the migrations that it lacks.

        The caller makes sure that only one process does so at a time. Raises LibraryError if the file is not a
        library, is damaged, or was written by a newer version of the program.
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
        applied = _applied_migrations(self._conn)
        newer = sorted(applied - MIGRATIONS)
        if newer:
            raise LibraryError(
                f"{self.path} was written by a newer version of this program (it knows {', '.join(newer)}); "
                "update the program, or choose another library folder"
            )
        for pragma in _PRAGMAS:
            self._conn.execute(pragma)
        if applied != MIGRATIONS:
            from sala_core.store.migrations import apply_migrations

            apply_migrations(self._conn)

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """Open a transaction in which all queries see the same state of the library. Raises as `write`."""
        with self._transaction("BEGIN") as conn:
            yield conn

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """Open the only write transaction of all processes. It commits at the end and rolls back on any exception.

        Raises DiskFullError if the disk is full; LibraryError if another process holds the library for longer than
        BUSY_TIMEOUT_S, or if the file is damaged, read-only or closed.
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
        """Close the connection. Can be called again."""
        with self._lock:
            self._conn.close()

    def _fail(self, error: sqlite3.Error) -> NoReturn:
        """Raise the library's error for an SQLite error with an external cause. Re-raise others: they are our bugs."""
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


def _applied_migrations(conn: sqlite3.Connection) -> set[str]:
    """Return the names that sqlite-utils has recorded; none for a new database."""
    table = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = '_sqlite_migrations'"
    if conn.execute(table).fetchone() is None:
        return set()
    names = conn.execute("SELECT name FROM _sqlite_migrations WHERE migration_set = ?", [_MIGRATION_SET])
    return {row["name"] for row in names}


def insert_row(conn: sqlite3.Connection, table: str, values: Mapping[str, object]) -> int:
    """Insert one row; return its rowid."""
    columns = ", ".join(values)
    marks = ", ".join(f":{column}" for column in values)
    cursor = conn.execute(f"INSERT INTO {table} ({columns}) VALUES ({marks})", values)
    assert cursor.lastrowid is not None, "an inserted row has an id"
    return cursor.lastrowid
