"""What this machine has measured: token counts of files, the speed of readings, and the time that saved states spared.

One small SQLite file in the user's cache folder, shared by all libraries. It can be deleted at any time: counts and
speeds are then measured again, and the time that was saved begins at zero.
"""

import sqlite3
import threading
import time
import weakref
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import platformdirs

from sala_core.assets import APP_NAME

STRETCH_TOKENS = 1 << 14
"""Speeds are kept for stretches of so many positions."""

_MAX_STRETCH_TOKENS = 4 * STRETCH_TOKENS
"""Once so many tokens of a stretch were read, older readings count half with each new one."""
_MAX_COUNTS = 200_000
_TIMEOUT_S = 5.0
_FILE = "measured.db"
_TABLES = """
CREATE TABLE IF NOT EXISTS counts (
  key TEXT PRIMARY KEY, tokens INTEGER NOT NULL, pages INTEGER NOT NULL, used_at REAL NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS speeds (
  model TEXT NOT NULL, stretch INTEGER NOT NULL, tokens REAL NOT NULL, seconds REAL NOT NULL,
  PRIMARY KEY (model, stretch)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS openings (
  session_id TEXT PRIMARY KEY, number INTEGER NOT NULL, saved_s REAL NOT NULL
) STRICT, WITHOUT ROWID;
"""
_ADD_SPEED = """
INSERT INTO speeds VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO UPDATE SET
  tokens = tokens * iif(tokens > ?5, 0.5, 1) + ?3, seconds = seconds * iif(tokens > ?5, 0.5, 1) + ?4
"""
_ADD_OPENING = """
INSERT INTO openings VALUES (?1, 1, ?2) ON CONFLICT DO UPDATE SET number = number + 1, saved_s = saved_s + ?2
"""


@dataclass(frozen=True, kw_only=True)
class Count:
    """Tokens of a file's text, without the header that names it, and its pages (0 without pages)."""

    num_tokens: int
    num_pages: int


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """How long the tokens took that were read at positions from `start` on, up to STRETCH_TOKENS later."""

    start: int
    num_tokens: float
    seconds: float

    @property
    def token_s(self) -> float:
        """Seconds per token."""
        return self.seconds / self.num_tokens


def cache_folder() -> Path:
    """The folder of the file."""
    return platformdirs.user_cache_path(APP_NAME, appauthor=False)


class Measured:
    """The file, opened at the first call. Safe to call from any thread and process.

    A file that is damaged is made anew, and one that cannot be written keeps nothing: what it holds can be measured
    again.
    """

    def __init__(self, folder: Path | None = None) -> None:
        """folder: None for the user's cache folder."""
        self._folder = folder
        self._lock = threading.Lock()
        self._tables: sqlite3.Connection | None = None

    def count(self, key: str) -> Count | None:
        """The count that `put_count` stored under this key, if it is still there."""
        rows = self._run("SELECT tokens, pages FROM counts WHERE key = ?", key)
        return Count(num_tokens=rows[0][0], num_pages=rows[0][1]) if rows else None

    def put_count(self, key: str, count: Count) -> None:
        """Store a count. key: of file contents, format and tokenizer."""
        query = "INSERT OR REPLACE INTO counts VALUES (?, ?, ?, ?)"
        self._run(query, key, count.num_tokens, count.num_pages, time.time())

    def forget_oldest(self) -> None:
        """Keep the counts that were stored last, at most _MAX_COUNTS."""
        newest = "SELECT used_at FROM counts ORDER BY used_at DESC LIMIT 1 OFFSET ?"
        self._run(f"DELETE FROM counts WHERE used_at <= ({newest})", _MAX_COUNTS)

    def add_reading(self, model: str, start: int, end: int, seconds: float) -> None:
        """Note how long it took to read the tokens at positions start ... end - 1.

        Args:
            model: the model in its number formats, and the device.
            start, end: positions in a stream.
            seconds: for all of them.
        """
        if end <= start:
            return
        for stretch in range(start // STRETCH_TOKENS, (end - 1) // STRETCH_TOKENS + 1):
            first = max(start, stretch * STRETCH_TOKENS)
            num_tokens = min(end, (stretch + 1) * STRETCH_TOKENS) - first
            share = seconds * num_tokens / (end - start)
            self._run(_ADD_SPEED, model, stretch, float(num_tokens), share, _MAX_STRETCH_TOKENS)

    def stretches(self, model: str) -> list[Stretch]:
        """What was measured of a model, by position."""
        rows = self._run("SELECT stretch, tokens, seconds FROM speeds WHERE model = ? ORDER BY stretch", model)
        return [Stretch(start=row[0] * STRETCH_TOKENS, num_tokens=row[1], seconds=row[2]) for row in rows]

    def add_opening(self, session_id: str, saved_s: float) -> None:
        """Note that a session was opened from disk, and how many seconds faster that was than to read it."""
        self._run(_ADD_OPENING, session_id, max(0.0, saved_s))

    def saved_s(self, session_id: str) -> float:
        """Seconds of reading that the openings of a session saved; 0 if there were none."""
        rows = self._run("SELECT saved_s FROM openings WHERE session_id = ?", session_id)
        return float(rows[0][0]) if rows else 0.0

    def close(self) -> None:
        """Close the file. A later call opens it again."""
        with self._lock:
            if self._tables is not None:
                self._tables.close()
            self._tables = None

    def _run(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """The rows of one query, which is one transaction; none where the file cannot be used."""
        with self._lock:
            try:
                self._tables = self._tables or self._open()
                return self._tables.execute(query, values).fetchall()
            except sqlite3.OperationalError:  # it is locked, or the disk is full
                return []
            except (sqlite3.DatabaseError, OSError):
                self._tables = None
                with suppress(OSError):
                    self._file.unlink()
                return []

    @property
    def _file(self) -> Path:
        return (self._folder or cache_folder()) / _FILE

    def _open(self) -> sqlite3.Connection:
        self._file.parent.mkdir(parents=True, exist_ok=True)
        tables = sqlite3.connect(self._file, timeout=_TIMEOUT_S, isolation_level=None, check_same_thread=False)
        weakref.finalize(self, tables.close)
        tables.execute("PRAGMA journal_mode = WAL")
        tables.execute("PRAGMA synchronous = NORMAL")
        tables.executescript(_TABLES)
        return tables
