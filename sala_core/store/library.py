"""The library: all sessions, documents and states of a user, in one folder.

library.db       sessions, documents, token streams, messages, jobs and the list of checkpoints (SQLite)
states/          segments and snapshots of the model's state
documents/       texts with their token ids and source maps
sessions/        a record of each session, from which its rows can be made anew
locks/           one lock per session, held while it is written
"""

from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from filelock import Timeout

from sala_core.disk.files import storage_error
from sala_core.errors import DiskFullError, LibraryError
from sala_core.store.database import Database
from sala_core.store.documents import Documents
from sala_core.store.integrity import seal
from sala_core.store.integrity.library_folder import (
    DATABASE,
    can_write,
    free_reserve,
    prepare_folder,
    refuse_lost_database,
)
from sala_core.store.jobs import Jobs
from sala_core.store.listing.bin import Bin
from sala_core.store.listing.hits import Hits
from sala_core.store.listing.marks import Marks
from sala_core.store.listing.sizes import Sizes
from sala_core.store.locks import library_lock
from sala_core.store.sources import Sources
from sala_core.store.space import Space
from sala_core.store.streams import Streams
from sala_core.store.turns.served import Served

_OPEN_TIMEOUT_S = 30.0
_CLOSE_TIMEOUT_S = 5.0


class Library(Bin, Served, Marks, Hits, Sizes, Streams, Documents, Sources, Jobs, Space):
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

        max_state_bytes: quota for segments and snapshots; None for the one that is kept in the library, if any. Raises
        LibraryDamagedError if the database is damaged, or missing beside files that belong to it; LibraryError if the
        folder cannot be used, is open to other users, or a newer version of the program wrote it.
        """
        try:
            return cls._open(folder, max_state_bytes)
        except DiskFullError:
            if not free_reserve(folder):
                raise
            return cls._open(folder, max_state_bytes)

    @classmethod
    def open_to_read(cls, folder: Path) -> Self:
        """Open the library, which may be on a disk or in a folder that this process cannot write to.

        Everything can be read then, and every change raises LibraryError. What another process is just writing is not
        seen. Raises as `open`.
        """
        if can_write(folder):
            return cls.open(folder)
        try:
            refuse_lost_database(folder)
            is_sealed = seal.check_seal(folder)
        except OSError as error:
            raise LibraryError(
                f"cannot read the library {folder}: {error.strerror or error}; its owner has to allow it"
            ) from error
        library = cls(folder, Database(folder / DATABASE, read_only=True), None)
        library._start(is_sealed=is_sealed)
        return library

    @classmethod
    def _open(cls, folder: Path, max_state_bytes: int | None) -> Self:
        try:
            prepare_folder(folder)
            with library_lock(folder, _OPEN_TIMEOUT_S):
                is_sealed = seal.check_seal(folder)
                database = Database(folder / DATABASE, before_first_write=lambda: seal.break_seal(folder))
        except Timeout:
            raise LibraryError(f"another process is opening the library {folder}; try again") from None
        except OSError as error:
            raise _unusable(folder, error) from error
        library = cls(folder, database, max_state_bytes)
        library._start(is_sealed=is_sealed)
        return library

    def _start(self, *, is_sealed: bool) -> None:
        try:
            self.start(is_sealed=is_sealed)
            if self.max_state_bytes is None:
                self.max_state_bytes = self.quota()
        except BaseException:
            self.database.close()
            raise

    def tidy(self) -> None:
        """Empty the bin of what is too old, drop surplus sessions of other programs, then as `Space.tidy`.

        A failure does not concern work that is done.
        """
        if not self.is_behind and not self.database.read_only:
            with suppress(LibraryError):
                self.empty_bin()
                for row in self.surplus_served():
                    self.delete_session(row.id)
        super().tidy()

    def close(self) -> None:
        """Close the database. Can be called again. All that was committed is on disk already.

        The last process that closes it keeps its checksum, which the next one compares.
        """
        if self.database.read_only or self.database.is_closed:
            self.database.close()
            return
        try:
            with library_lock(self.folder, _CLOSE_TIMEOUT_S):
                self.database.close()
                seal.seal(self.folder)
        except (Timeout, OSError):  # the next start checks the database page by page instead
            self.database.close()

    def __enter__(self) -> Self:
        """Return the library itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the library."""
        self.close()


def _unusable(folder: Path, error: OSError) -> LibraryError:
    """The error for a folder that cannot become or be a library."""
    full = storage_error(error, folder / DATABASE)
    if isinstance(full, DiskFullError):
        return full
    return LibraryError(f"cannot use {folder} as a library: {error.strerror or error}; choose another folder")
