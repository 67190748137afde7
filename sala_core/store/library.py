"""The library: all sessions, documents and states of a user, in one folder.

library.db       sessions, documents, token streams, messages, jobs and the list of checkpoints (SQLite)
states/          segments and snapshots of the model's state
documents/       texts with their token ids and source maps
locks/           one lock per session, held while it is written
"""

from pathlib import Path
from types import TracebackType
from typing import Self

from filelock import FileLock, Timeout

from sala_core.errors import LibraryError
from sala_core.store.database import Database
from sala_core.store.documents import Documents
from sala_core.store.jobs import Jobs
from sala_core.store.sessions import Sessions
from sala_core.store.space import Space
from sala_core.store.streams import Streams

_OPEN_TIMEOUT_S = 30.0


class Library(Sessions, Streams, Documents, Jobs, Space):
    """An open library.

    Any thread may use it; other processes may have it open too. Example::

        with Library.open(Path("library")) as library:
            for session in library.sessions(search="Tolstoy"):
                for message in library.messages(session.id):
                    print(f"{session.name}, {message.role}: {message.text}")
    """

    @classmethod
    def open(cls, folder: Path, *, max_state_bytes: int | None = None) -> Self:
        """Open the library in `folder`, or create one that only its owner can read.

        max_state_bytes: quota for segments and snapshots; None for no quota. Raises LibraryError if the folder cannot
        be used, the database is damaged, or a newer version of the program wrote it.
        """
        try:
            for path in (folder, folder / "states", folder / "documents", folder / "locks"):
                path.mkdir(mode=0o700, parents=True, exist_ok=True)
            with FileLock(folder / "locks" / "library.lock", timeout=_OPEN_TIMEOUT_S):
                database = Database(folder / "library.db")
        except Timeout:
            raise LibraryError(f"another process is opening the library {folder}; try again") from None
        except OSError as error:
            raise LibraryError(
                f"cannot use {folder} as a library: {error.strerror or error}; choose another folder"
            ) from error
        return cls(folder, database, max_state_bytes)

    def close(self) -> None:
        """Close the database. Can be called again. All that was committed is on disk already."""
        self.database.close()

    def __enter__(self) -> Self:
        """Return the library itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the library."""
        self.close()
