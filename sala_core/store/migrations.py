"""The library's tables, as a list of migrations that only ever grows.

sqlite-utils records every applied migration in the table `_sqlite_migrations`. A database with a name that is unknown
here was written by a newer version of the program. `sala_core.store.database` lists all names.
"""

import sqlite3

from sqlite_utils import Database as Tables
from sqlite_utils import Migrations

migrations = Migrations("sala-library")


def apply_migrations(conn: sqlite3.Connection) -> None:
    """Bring the tables to this version. Each migration is one transaction."""
    migrations.apply(Tables(conn, execute_plugins=False))


@migrations()
def m001_library(tables: Tables) -> None:
    """Create checkpoints, sessions, documents, token streams, messages and jobs, with full-text search over names
    and messages."""
    tables.executescript(_CHECKPOINTS + _SESSIONS + _STREAMS + _JOBS)
    for table, column in (("sessions", "name"), ("documents", "name"), ("messages", "text")):
        tables.table(table).enable_fts([column], create_triggers=True, tokenize="trigram")


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
