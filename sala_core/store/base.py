"""The base of every part of the library: its folders, its database, and safe removal of files."""

import sqlite3
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from sala_core.errors import SessionNotFoundError
from sala_core.store.checkpoints import is_registered
from sala_core.store.database import Database
from sala_core.store.integrity.library_folder import RECORDS
from sala_core.store.rows import SessionRow

_REMOVALS_AT_ONCE = 32

SESSION_QUERY = """
SELECT s.*,
  coalesce((SELECT max(end_token) FROM parts WHERE session_id = s.id), 0) AS num_tokens,
  (SELECT count(DISTINCT document_id) FROM parts WHERE session_id = s.id) AS num_documents,
  (SELECT count(*) FROM messages WHERE session_id = s.id) AS num_messages,
  coalesce(k.pinned, 0) AS pinned, k.binned_at, k.former_name, coalesce(k.system_prompt, '') AS system_prompt
FROM sessions s LEFT JOIN session_marks k ON k.session_id = s.id
"""


class LibraryBase:
    """Folders and database of an open library. max_state_bytes: quota for states, None for no quota."""

    def __init__(self, folder: Path, database: Database, max_state_bytes: int | None) -> None:
        """Take an open database. The folders must exist."""
        self.folder = folder
        self.database = database
        self.max_state_bytes = max_state_bytes
        self.notices: list[str] = []
        """What was found damaged and mended, for the user."""
        self.ahead: set[str] = set()
        """Ids of sessions that the files beside the database know in a later form, or that it does not have."""
        self.is_behind = False
        """Whether the database is older than the files beside it; nothing is collected then."""
        self._written: dict[str, int] = {}
        self._recorded: dict[str, int] | None = None

    @property
    def states_folder(self) -> Path:
        """Folder of segments and snapshots."""
        return self.folder / "states"

    @property
    def documents_folder(self) -> Path:
        """Folder of texts with their token ids and source maps."""
        return self.folder / "documents"

    @property
    def records_folder(self) -> Path:
        """Folder of the records from which sessions can be made anew."""
        return self.folder / RECORDS

    @property
    def locks_folder(self) -> Path:
        """Folder of lock files, one for each session."""
        return self.folder / "locks"

    def remove_files(self, files: Sequence[Path]) -> int:
        """Delete those of `files` that no row registers; return the bytes freed.

        Check and deletion are in one write transaction, so that a file which another process registers under the same
        name at this moment stays. A file that cannot be deleted now (on Windows, while it is open) is left to garbage
        collection.
        """
        freed = 0
        for first in range(0, len(files), _REMOVALS_AT_ONCE):
            with self.database.write() as conn:
                for file in files[first : first + _REMOVALS_AT_ONCE]:
                    if not is_registered(conn, file):
                        with suppress(OSError):
                            num_bytes = file.stat().st_size
                            file.unlink()
                            freed += num_bytes
        return freed


def find_session(conn: sqlite3.Connection, name_or_id: str) -> SessionRow:
    """Return the session with this id, or else with this name. Raises SessionNotFoundError."""
    for column in ("id", "name"):
        row = conn.execute(f"{SESSION_QUERY} WHERE s.{column} = ?", [name_or_id]).fetchone()
        if row is not None:
            return session_row(row)
    raise SessionNotFoundError(f"no session is called {name_or_id!r}; `sessions` lists those there are")


def session_row(row: sqlite3.Row) -> SessionRow:
    """Convert one row of SESSION_QUERY to its record."""
    return SessionRow(
        id=row["id"],
        name=row["name"] if row["binned_at"] is None else row["former_name"],
        model=row["model"],
        fingerprint=row["fingerprint"],
        head=row["head"],
        position=row["position"],
        num_tokens=row["num_tokens"],
        num_documents=row["num_documents"],
        num_messages=row["num_messages"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        bytes_written=row["bytes_written"],
        pinned=bool(row["pinned"]),
        binned_at=row["binned_at"],
        system_prompt=row["system_prompt"],
    )
