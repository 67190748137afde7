"""Who a session belongs to: every client has a secret of its own, and sees only what was made under it."""

import hashlib
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from sala_core.disk.files import storage_error
from sala_core.store.sessions import FOR_OTHERS

FOLDER = "for-others"
"""Folder inside the library with what clients have sent."""
_SECRET = re.compile(r"[A-Za-z0-9_-]{32,128}")
_KEY = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True, kw_only=True)
class Client:
    """A client, known by the hash of its secret; the secret itself is not kept."""

    id: str

    @classmethod
    def of(cls, secret: str) -> "Client | None":
        """The client with this secret; None for a text that is none (32 to 128 letters, digits, `-` and `_`)."""
        if not _SECRET.fullmatch(secret):
            return None
        return cls(id=hashlib.sha256(b"sala client\0" + secret.encode()).hexdigest()[:32])

    def folder(self, library: Path) -> Path:
        """The client's folder in a library's."""
        return library / FOLDER / self.id

    def session_name(self, key: str) -> str:
        """The name of the client's session with this key, in the library. Raises ValueError for no valid key."""
        if not _KEY.fullmatch(key):
            raise ValueError("a session's key has 1 to 64 letters, digits, - and _")
        return f"{FOR_OTHERS}{self.id} {key}"

    def key_of(self, name: str) -> str | None:
        """The key of a session by its name in the library; None for one that is not this client's."""
        start = f"{FOR_OTHERS}{self.id} "
        return name.removeprefix(start) if name.startswith(start) else None


def forget_received(library: Path) -> int:
    """Remove what all clients have sent; return the bytes that are free again. They send it again where they need it.

    library: its folder. Raises LibraryError.
    """
    folder = library / FOLDER
    if not folder.is_dir():
        return 0
    try:
        freed = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
        shutil.rmtree(folder)
    except OSError as error:
        raise storage_error(error, folder) from error
    return freed
