"""The library's tables, as a list of migrations that only ever grows.

sqlite-utils records every applied migration in the table `_sqlite_migrations`. A database with a name that is unknown
here was written by a newer version of the program. `sala_core.store.database` lists all names.
"""

import sqlite3

from sqlite_utils import Database as Tables
from sqlite_utils import Migrations

from sala_core.store.integrity.records import session_tables
from sala_core.store.integrity.row_checksums import COVERED, triggers
from sala_core.store.integrity.seal import SCHEMA, schema_checksum

migrations = Migrations("sala-library")


def apply_migrations(conn: sqlite3.Connection) -> None:
    """Bring the tables to this version. Each migration is one transaction."""
    if conn.execute("SELECT 1 FROM sqlite_master WHERE name = 'library'").fetchone():
        conn.execute("DELETE FROM library WHERE key = ?", [SCHEMA])
    migrations.apply(Tables(conn, execute_plugins=False))
    conn.execute("INSERT OR REPLACE INTO library (key, value) VALUES (?, ?)", [SCHEMA, schema_checksum(conn)])


@migrations()
def m001_library(tables: Tables) -> None:
    """Create checkpoints, sessions, documents, token streams, messages and jobs, with full-text search over names
    and messages."""
    tables.executescript(_CHECKPOINTS + _SESSIONS + _STREAMS + _JOBS)
    for table, column in _SEARCHED:
        tables.table(table).enable_fts([column], create_triggers=True, tokenize="trigram")


@migrations()
def m002_sources(tables: Tables) -> None:
    """Create the files that documents came from, the documents that only earlier answers refer to, and the folders
    that are watched. The origin of documents read before is unknown."""
    tables.executescript(_SOURCES)


@migrations()
def m003_integrity(tables: Tables) -> None:
    """Add checksums of rows, what a record of a session needs, and facts about the library itself."""
    for statement in _INTEGRITY:
        tables.execute(statement)
    for table in (name for name in COVERED if name in tables.table_names()):
        tables.execute(f"ALTER TABLE {table} ADD COLUMN checksum TEXT NOT NULL DEFAULT ''")
        for statement in triggers(table):
            tables.execute(statement)
    for table in session_tables(tables.conn):
        _count_changes(tables, table)
    tables.execute(
        "CREATE TRIGGER sessions_revision AFTER UPDATE OF name, model, fingerprint ON sessions BEGIN"
        " UPDATE sessions SET revision = revision + 1 WHERE id = NEW.id; END"
    )
    for table, column in _SEARCHED:
        tables.execute(f"DROP TRIGGER {table}_au")  # it would run for a new checksum, before the row is in the index
        tables.execute(
            f"CREATE TRIGGER {table}_au AFTER UPDATE OF {column} ON {table} BEGIN"
            f" INSERT INTO {table}_fts ({table}_fts, rowid, {column}) VALUES ('delete', OLD.rowid, OLD.{column});"
            f" INSERT INTO {table}_fts (rowid, {column}) VALUES (NEW.rowid, NEW.{column}); END"
        )


@migrations()
def m004_turns(tables: Tables) -> None:
    """Create the versions of turns that are not shown."""
    tables.execute(_HIDDEN_TURNS)
    for statement in triggers("hidden_turns"):
        tables.execute(statement)
    _count_changes(tables, "hidden_turns")


@migrations()
def m005_sessions(tables: Tables) -> None:
    """Create what a user has set for a session: pinned, in the bin, its own system prompt."""
    tables.execute(_MARKS)
    for statement in triggers("session_marks"):
        tables.execute(statement)
    _count_changes(tables, "session_marks")


def _count_changes(tables: Tables, table: str) -> None:
    """Count every change of a table's rows in the revision of the session that they belong to."""
    for event, row in (("INSERT", "NEW"), ("UPDATE", "NEW"), ("DELETE", "OLD")):
        tables.execute(
            f"CREATE TRIGGER {table}_revision_{event.lower()} AFTER {event} ON {table} BEGIN"
            f" UPDATE sessions SET revision = revision + 1 WHERE id = {row}.session_id; END"
        )


_SEARCHED = (("sessions", "name"), ("documents", "name"), ("messages", "text"))
_INTEGRITY = (
    "ALTER TABLE sessions ADD COLUMN revision INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE sessions ADD COLUMN bytes_written INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE documents ADD COLUMN page_starts TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE documents ADD COLUMN tokens_hash TEXT NOT NULL DEFAULT ''",
    "CREATE TABLE library (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT",
    "INSERT INTO library SELECT 'born_at', coalesce(min(created_at), unixepoch()) FROM sessions",
)
"""`born_at`: a file without a row that is older than the database was not left by it, and is never collected."""

_CHECKPOINTS = """
CREATE TABLE checkpoints (
  name TEXT PRIMARY KEY,
  parent TEXT REFERENCES checkpoints(name) DEFERRABLE INITIALLY DEFERRED,
  fingerprint TEXT NOT NULL,
  format INTEGER NOT NULL,
  start_token INTEGER NOT NULL CHECK (start_token >= 0),
  end_token INTEGER NOT NULL CHECK (end_token > start_token),
  keep INTEGER NOT NULL,
  segment_bytes INTEGER NOT NULL,
  segment_checksum TEXT NOT NULL,
  snapshot_bytes INTEGER NOT NULL DEFAULT 0,
  snapshot_checksum TEXT,
  created_at REAL NOT NULL,
  used_at REAL NOT NULL
) STRICT;
CREATE INDEX checkpoints_parent ON checkpoints(parent);
"""

_SESSIONS = """
CREATE TABLE sessions (
  row INTEGER PRIMARY KEY,
  id TEXT NOT NULL UNIQUE,
  name TEXT NOT NULL UNIQUE,
  model TEXT NOT NULL,
  fingerprint TEXT NOT NULL,
  head TEXT REFERENCES checkpoints(name) DEFERRABLE INITIALLY DEFERRED,
  position INTEGER NOT NULL DEFAULT 0,
  created_at REAL NOT NULL,
  updated_at REAL NOT NULL
) STRICT;
CREATE INDEX sessions_head ON sessions(head);
CREATE TABLE documents (
  row INTEGER PRIMARY KEY,
  id TEXT NOT NULL UNIQUE,
  name TEXT NOT NULL,
  media_type TEXT NOT NULL,
  num_bytes INTEGER NOT NULL,
  num_chars INTEGER NOT NULL,
  num_tokens INTEGER NOT NULL,
  num_pages INTEGER NOT NULL,
  warnings TEXT NOT NULL,
  content_hash TEXT NOT NULL,
  tokenizer_fingerprint TEXT NOT NULL,
  file_bytes INTEGER NOT NULL,
  created_at REAL NOT NULL,
  used_at REAL NOT NULL
) STRICT;
"""

_STREAMS = """
CREATE TABLE messages (
  row INTEGER PRIMARY KEY,
  session_id TEXT NOT NULL REFERENCES sessions(id) ON DELETE CASCADE,
  id TEXT NOT NULL,
  ordinal INTEGER NOT NULL,
  role TEXT NOT NULL,
  text TEXT NOT NULL,
  thinking TEXT NOT NULL,
  status TEXT NOT NULL,
  evidence TEXT NOT NULL,
  stats TEXT NOT NULL,
  created_at REAL NOT NULL,
  UNIQUE (session_id, id),
  UNIQUE (session_id, ordinal)
) STRICT;
CREATE TABLE token_runs (
  row INTEGER PRIMARY KEY,
  hash TEXT NOT NULL UNIQUE,
  ids BLOB NOT NULL
) STRICT;
CREATE TABLE parts (
  session_id TEXT NOT NULL REFERENCES sessions(id) ON DELETE CASCADE,
  ordinal INTEGER NOT NULL,
  kind TEXT NOT NULL,
  start_token INTEGER NOT NULL,
  end_token INTEGER NOT NULL,
  run INTEGER NOT NULL REFERENCES token_runs(row),
  document_id TEXT REFERENCES documents(id),
  body_start INTEGER NOT NULL,
  message_id TEXT,
  PRIMARY KEY (session_id, ordinal)
) STRICT;
CREATE INDEX parts_run ON parts(run);
CREATE INDEX parts_document ON parts(document_id);
"""

_JOBS = """
CREATE TABLE jobs (
  id TEXT PRIMARY KEY,
  session_id TEXT NOT NULL REFERENCES sessions(id) ON DELETE CASCADE,
  kind TEXT NOT NULL,
  status TEXT NOT NULL,
  request TEXT NOT NULL,
  progress TEXT NOT NULL,
  result TEXT,
  error TEXT,
  owner_pid INTEGER NOT NULL,
  owner_started REAL NOT NULL,
  created_at REAL NOT NULL,
  updated_at REAL NOT NULL
) STRICT;
CREATE INDEX jobs_session ON jobs(session_id, created_at);
"""

_SOURCES = """
CREATE TABLE sources (
  session_id TEXT NOT NULL REFERENCES sessions(id) ON DELETE CASCADE,
  path TEXT NOT NULL,
  root TEXT NOT NULL,
  name TEXT NOT NULL,
  content_hash TEXT NOT NULL,
  num_bytes INTEGER NOT NULL,
  mtime_ns INTEGER NOT NULL,
  file_hash TEXT NOT NULL,
  status TEXT NOT NULL,
  num_changes INTEGER NOT NULL,
  PRIMARY KEY (session_id, path)
) STRICT;
CREATE TABLE former_documents (
  session_id TEXT NOT NULL REFERENCES sessions(id) ON DELETE CASCADE,
  document_id TEXT NOT NULL REFERENCES documents(id),
  PRIMARY KEY (session_id, document_id)
) STRICT;
CREATE INDEX former_documents_document ON former_documents(document_id);
CREATE TABLE watched_folders (
  session_id TEXT NOT NULL REFERENCES sessions(id) ON DELETE CASCADE,
  root TEXT NOT NULL,
  PRIMARY KEY (session_id, root)
) STRICT;
"""

_HIDDEN_TURNS = """
CREATE TABLE hidden_turns (
  session_id TEXT NOT NULL REFERENCES sessions(id) ON DELETE CASCADE,
  id TEXT NOT NULL,
  parent TEXT NOT NULL,
  created_at REAL NOT NULL,
  hidden_order INTEGER NOT NULL,
  content TEXT NOT NULL,
  checksum TEXT NOT NULL DEFAULT '',
  PRIMARY KEY (session_id, id)
) STRICT;
"""

_MARKS = """
CREATE TABLE session_marks (
  session_id TEXT PRIMARY KEY REFERENCES sessions(id) ON DELETE CASCADE,
  pinned INTEGER NOT NULL DEFAULT 0,
  binned_at REAL,
  former_name TEXT NOT NULL DEFAULT '',
  system_prompt TEXT NOT NULL DEFAULT '',
  checksum TEXT NOT NULL DEFAULT ''
) STRICT;
"""
