"""One SQLite connection, shared by several threads. It has only whole transactions and raises the library's errors."""

import os
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn, TypeVar

from sala_core.disk.files import is_full, storage_error
from sala_core.errors import DiskFullError, LibraryDamagedError, LibraryError
from sala_core.store.integrity.row_checksums import define_function

T = TypeVar("T")

MIN_SQLITE = (3, 38, 0)
"""3.38 has `unixepoch`, 3.37 STRICT tables; the trigram tokenizer and RETURNING are older."""

BUSY_TIMEOUT_S = 30.0

MIGRATIONS = frozenset(("m001_library", "m003_integrity", "m002_sources", "m004_turns", "m005_sessions"))
"""Names of all migrations in `sala_core.store.migrations`. That module is loaded only to apply one: it needs
sqlite-utils, which loads pandas."""

_MIGRATION_SET = "sala-library"
_PRAGMAS = (
    "PRAGMA recursive_triggers = ON",
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

    def __init__(
        self, path: Path, *, read_only: bool = False, before_first_write: Callable[[], None] | None = None
    ) -> None:
        """Open or create the database, and apply the migrations that it lacks.

        The caller makes sure that only one process does so at a time. Raises LibraryError if the file is not a
        library, is damaged, or was written by a newer version of the program.

        path: of the file. read_only: change nothing, not even the folder, and need no right to. before_first_write: is
        called once, before anything is written.
        """
        if sqlite3.sqlite_version_info < MIN_SQLITE:
            raise LibraryError(
                f"SQLite {sqlite3.sqlite_version} is too old for the library; "
                f"use a Python built with {'.'.join(map(str, MIN_SQLITE))} or later"
            )
        self.path = path
        self.read_only = read_only
        self._lock = threading.RLock()
        self._open: str | None = None
        self._is_closed = False
        self.before_first_write = before_first_write
        self.after_commit: Callable[[], None] | None = None
        """Is called after every write transaction, which is durable by then."""
        address = f"{path.absolute().as_uri()}?immutable=1" if read_only else str(path)
        try:
            self._conn = sqlite3.connect(
                address, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False, uri=read_only
            )
        except sqlite3.Error as error:
            self._fail(error)
        try:
            self._prepare()
        except sqlite3.Error as error:
            self._conn.close()
            self._fail(error)
        except UnicodeDecodeError as error:
            self._conn.close()
            raise self._damaged(error) from error
        except BaseException:
            self._conn.close()
            raise

    def _prepare(self) -> None:
        self._conn.row_factory = sqlite3.Row
        self._conn.text_factory = _text
        define_function(self._conn)
        applied = _applied_migrations(self._conn)
        newer = sorted(applied - MIGRATIONS)
        if newer:
            raise LibraryError(
                f"{self.path} was written by a newer version of this program (it knows {', '.join(newer)}); "
                "update the program, or choose another library folder"
            )
        if self.read_only:
            if applied != MIGRATIONS:
                raise LibraryError(
                    f"{self.path} was written by an earlier version of this program and cannot be brought to this one, "
                    "because it is read-only; open it once with the right to write"
                )
            return
        if not applied:
            self._conn.execute("PRAGMA auto_vacuum = INCREMENTAL")  # would write to a database that has it
        if self._conn.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
            self._prepare_write()  # the first of these changes the database then
        for pragma in _PRAGMAS:
            self._conn.execute(pragma)
        if applied != MIGRATIONS:
            self._prepare_write()
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
            is_write = begin != "BEGIN"
            if is_write:
                self._prepare_write()
            try:
                self._conn.execute(begin)
                self._open = begin
                yield self._conn
                self._conn.execute("COMMIT")
            except sqlite3.Error as error:
                self._fail(error)
            except UnicodeDecodeError as error:  # of a name in the schema
                raise self._damaged(error) from error
            finally:
                self._open = None
                self._roll_back()
            if is_write and (follow := self.after_commit) is not None:
                self.after_commit = None  # its own transactions are not followed
                try:
                    follow()
                finally:
                    self.after_commit = follow

    def outside(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Return work(connection), outside of a transaction. Raises as `write`, and OSError as `work` does."""
        with self._lock:
            assert self._open is None, "a transaction is open"
            try:
                return work(self._conn)
            except sqlite3.Error as error:
                self._fail(error)

    def _prepare_write(self) -> None:
        prepare, self.before_first_write = self.before_first_write, None
        try:
            if prepare is not None:
                prepare()
        except OSError as error:
            self.before_first_write = prepare
            raise storage_error(error, self.path) from error

    def _roll_back(self) -> None:
        try:
            if self._conn.in_transaction:
                self._conn.execute("ROLLBACK")
        except sqlite3.Error as error:
            self._fail(error)

    @property
    def is_closed(self) -> bool:
        """Whether the connection is closed."""
        return self._is_closed

    def close(self) -> None:
        """Close the connection. Can be called again."""
        with self._lock:
            self._is_closed = True
            self._conn.close()

    def _damaged(self, error: Exception) -> LibraryDamagedError:
        return _damaged(error, self.path)

    def _fail(self, error: sqlite3.Error) -> NoReturn:
        """Raise the library's error for an SQLite error with an external cause. Re-raise others: they are our bugs."""
        known = library_error(error, self.path, read_only=self.read_only)
        if known is None:
            raise error
        raise known from error


def library_error(error: sqlite3.Error, path: Path, *, read_only: bool = False) -> LibraryError | None:
    """Return the library's error for an SQLite error with an external cause; None for another one.

    path: of the database. read_only: whether it was opened only to be read.
    """
    code = getattr(error, "sqlite_errorcode", None)
    primary = None if code is None else code & 0xFF
    if primary == sqlite3.SQLITE_FULL or (primary in _UNUSABLE and is_full(path.parent)):
        return DiskFullError(
            f"the disk that holds {path} is full; nothing was lost; delete sessions or other files and try again"
        )
    if primary in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return LibraryError(f"another process kept {path} locked for {BUSY_TIMEOUT_S:.0f} s; try again")
    if primary in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return _damaged(error, path)
    if primary == sqlite3.SQLITE_READONLY:
        return LibraryError(
            f"the library {path.parent} is read-only; it can be shown, but nothing can be added or changed; "
            "use a copy of it, or --library with another folder"
        )
    if primary in _UNUSABLE:
        step = "check the folder's permissions" if _is_refused(path, read_only=read_only) else "check the disk"
        return LibraryError(f"cannot use {path}: {error}; {step} and try again")
    if isinstance(error, sqlite3.ProgrammingError) and "closed database" in str(error):
        return LibraryError(f"the library {path} is closed; open it again")
    return None


def _damaged(error: Exception, path: Path) -> LibraryDamagedError:
    return LibraryDamagedError(
        f"{path} is damaged or no library ({error}); `repair` makes it anew from the files beside it"
    )


def _is_refused(path: Path, *, read_only: bool) -> bool:
    """Whether this process lacks a right to the database or its folder."""
    there = [each for each in (path.parent, path) if each.exists()]
    return not all(os.access(each, os.R_OK if read_only else os.R_OK | os.W_OK) for each in there)


_UNUSABLE = (
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_AUTH,
)


def _text(data: bytes) -> str:
    """Decode a text. A damaged one still decodes, and does not match the checksum of its row."""
    return data.decode("utf-8", "surrogateescape")


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
