"""The key of the API: other programs send it as `Authorization: Bearer KEY`. It is never the page's cookie."""

from __future__ import annotations

import secrets
from pathlib import Path

from app.server.key import private_folder, read_private, write_private
from sala_core.errors import LibraryError

_FILE = "api-key"
_START = "sala-"
_KEY_CHARS = 43
_MAX_FILE_BYTES = 256


def api_key(library: Path) -> str:
    """The key of a library's API; it is made on the first call. Raises LibraryError.

    library: the library's folder. It is in a file that only its owner can read; one that others can read, or that is
    damaged, is replaced, and programs then need the new one.
    """
    file = private_folder(library) / _FILE
    try:
        key = _read(file)
        if key is None:
            write_private(file, f"{_START}{secrets.token_urlsafe(32)}\n".encode())
            key = _read(file)
    except OSError as error:
        raise LibraryError(f"the key of the API cannot be kept in {file} ({error.strerror}); delete it") from error
    if key is None:
        raise LibraryError(f"the key of the API cannot be kept in {file}; delete that file")
    return key


def _read(file: Path) -> str | None:
    """The key in a file; None if there is none, or one that others can read or that is no key."""
    data = read_private(file, _MAX_FILE_BYTES)
    key = data.decode("ascii", "replace").strip() if data is not None else ""
    return key if key.startswith(_START) and len(key) == len(_START) + _KEY_CHARS and key.isprintable() else None
