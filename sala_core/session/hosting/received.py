"""The documents that a client has sent: each a file named by its hash, and a partial one while it arrives."""

import os
import secrets
import threading
from pathlib import Path

from sala_core.disk.files import make_folder, storage_error, sync_folder, write_file
from sala_core.errors import UploadError, UploadGoneError, UploadOffsetError
from sala_core.ingest import Document
from sala_core.remote.sala.parcel import MAX_PARCEL_BYTES, decompress, parcel_hash, unpack

_PART = ".part"


class Received:
    """One client's documents, on disk. Safe to call from any thread. Errors of the disk: DiskFullError, LibraryError.

    A document counts as sent by a client only if this client has sent it: knowing a hash gives no text of others.
    """

    def __init__(self, folder: Path) -> None:
        """folder: of this client alone; it is made when the first byte comes."""
        self._folder = folder
        self._writers: dict[str, str] = {}
        self._lock = threading.Lock()

    def has(self, name: str) -> bool:
        """Whether a document is here whole."""
        return (self._folder / name).is_file()

    def num_received(self, name: str) -> int:
        """How many of a document's compressed bytes are here, while it is not whole; 0 if it is."""
        try:
            return (self._folder / (name + _PART)).stat().st_size
        except OSError:
            return 0

    def begin(self, name: str, offset: int, total: int = MAX_PARCEL_BYTES) -> str:
        """Begin to receive bytes from `offset` on; return the writer's ticket. An earlier writer's bytes are refused.

        More bytes than `total` are another compression's, and are dropped. Raises UploadOffsetError if other bytes are
        next.
        """
        with self._lock:
            received = self.num_received(name)
            if received > total:
                (self._folder / (name + _PART)).unlink(missing_ok=True)
                received = 0
            if offset != received:
                raise UploadOffsetError(received)
            ticket = self._writers[name] = secrets.token_hex(8)
        return ticket

    def add(self, name: str, ticket: str, data: bytes) -> int:
        """Append bytes; return how many are here. Raises UploadOffsetError if another writer has taken over."""
        path = self._folder / (name + _PART)
        with self._lock:
            if self._writers.get(name) != ticket:
                raise UploadOffsetError(self.num_received(name))
            try:
                make_folder(self._folder, 0o700)
                descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
                try:
                    view = memoryview(data)
                    while view:
                        view = view[os.write(descriptor, view) :]
                finally:
                    os.close(descriptor)
                return path.stat().st_size
            except OSError as error:
                raise storage_error(error, path, self.num_received(name)) from error

    def finish(self, name: str) -> None:
        """Check a document whose bytes are all here, and keep it. One that is not what its name says is dropped.

        Raises UploadError.
        """
        part = self._folder / (name + _PART)
        with self._lock:
            try:
                data = part.read_bytes()
                parcel = decompress(data)
                if parcel_hash(parcel) != name:
                    raise ValueError("its bytes are not those that its hash names")
                unpack(parcel)
            except FileNotFoundError:
                raise UploadGoneError("the document is not here; send it again") from None
            except ValueError as error:
                part.unlink(missing_ok=True)
                raise UploadError(f"a document did not arrive as it was sent: {error}; send it again") from error
            try:
                write_file(self._folder / name, [memoryview(data)])
                part.unlink(missing_ok=True)
            except OSError as error:
                raise storage_error(error, part, len(data)) from error
            self._writers.pop(name, None)

    def load(self, name: str) -> Document:
        """A document that was received. Raises UploadGoneError where it is not here, or not whole any more."""
        path = self._folder / name
        try:
            parcel = decompress(path.read_bytes(), MAX_PARCEL_BYTES)
            if parcel_hash(parcel) != name:
                raise ValueError("its bytes have changed")
            return unpack(parcel)
        except (OSError, ValueError):
            path.unlink(missing_ok=True)
            raise UploadGoneError(f"the document {name[:12]} is not at the server; send it again") from None

    def keep_only(self, names: set[str]) -> None:
        """Remove all documents but these, and what has arrived of others."""
        with self._lock:
            for path in self._folder.glob("*"):
                if path.name not in names:
                    path.unlink(missing_ok=True)
            if self._folder.is_dir():
                sync_folder(self._folder)
