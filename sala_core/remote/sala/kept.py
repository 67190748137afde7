"""What a client keeps between two starts: its secret, and what it knows of servers and of its documents' hashes."""

import json
import os
import secrets
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sala_core.disk.files import make_folder, storage_error, write_file
from sala_core.errors import LibraryError

_FOLDER = "engines"
_SECRET = "client-secret"
_KNOWN = "sala.json"
_SECRET_BYTES = 32
_MAX_PARCELS = 200_000


@dataclass(frozen=True, kw_only=True)
class KnownModel:
    """The model that a session was read by at a server. fingerprint: of its states."""

    name: str
    fingerprint: str


class Kept:
    """One library's files for engines elsewhere. What is lost of them costs time, but for the secret: with another one
    the sessions at servers are no longer this library's, and everything is sent and read again."""

    def __init__(self, library: Path) -> None:
        """library: its folder."""
        self._folder = library / _FOLDER
        self._known: dict[str, Any] | None = None

    def secret(self) -> str:
        """The library's secret, by which servers know it; made on the first call, for its owner alone.

        Raises LibraryError where other users can read it, or it cannot be kept.
        """
        file = self._folder / _SECRET
        try:
            make_folder(self._folder, 0o700)
            if not file.exists():
                write_file(file, [memoryview(secrets.token_urlsafe(_SECRET_BYTES).encode())])
            mode = file.lstat().st_mode
            text = file.read_text(encoding="ascii")
        except (OSError, ValueError) as error:
            failed = error if isinstance(error, OSError) else OSError(str(error))
            raise storage_error(failed, file) from error
        if os.name == "posix" and (not stat.S_ISREG(mode) or mode & 0o077):
            raise LibraryError(f"other users can read {file}; run: chmod 600 {file}")
        return text

    def model(self, address: str, session_id: str) -> KnownModel | None:
        """By which model a session was read at a server, as far as that is known."""
        raw = self._load()["models"].get(f"{address} {session_id}")
        if not isinstance(raw, list) or len(raw) != 2 or not all(isinstance(text, str) for text in raw):
            return None
        return KnownModel(name=raw[0], fingerprint=raw[1])

    def set_model(self, address: str, session_id: str, model: KnownModel) -> None:
        """Note by which model a session is read at a server."""
        if self.model(address, session_id) != model:
            self._load()["models"][f"{address} {session_id}"] = [model.name, model.fingerprint]
            self.save()

    def parcel(self, document_id: str) -> str | None:
        """The hash of a document's parcel; None if it was not packed yet. The id is that of its content here."""
        found = self._load()["parcels"].get(document_id)
        return found if isinstance(found, str) else None

    def set_parcel(self, document_id: str, name: str) -> None:
        """Note the hash of a document's parcel; `save` writes it."""
        parcels = self._load()["parcels"]
        if len(parcels) >= _MAX_PARCELS:
            parcels.clear()
        parcels[document_id] = name

    def save(self) -> None:
        """Write what is known. Raises DiskFullError, LibraryError."""
        file = self._folder / _KNOWN
        try:
            make_folder(self._folder, 0o700)
            write_file(file, [memoryview(json.dumps(self._load()).encode())])
        except OSError as error:
            raise storage_error(error, file) from error

    def _load(self) -> dict[str, Any]:
        if self._known is None:
            raw: Any = None
            with suppress(OSError, ValueError, RecursionError):
                raw = json.loads((self._folder / _KNOWN).read_bytes())
            kept = raw if isinstance(raw, dict) else {}
            names = ("models", "parcels")
            self._known = {name: kept[name] if isinstance(kept.get(name), dict) else {} for name in names}
        return self._known
