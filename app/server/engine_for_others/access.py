"""Who may use the routes: whoever has the key. What they reach: only what was made under their own secret."""

from __future__ import annotations

import errno
import os
import secrets
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from fastapi import Request

from app.server.key import private_folder, write_private
from app.server.security_headers import shows_key
from sala_core.errors import LibraryError

if TYPE_CHECKING:
    from sala_core.session.hosting.client import Client

_FILE = "engine-key"
_START = "sala-engine-"
CLIENT_HEADER = "x-sala-client"


class AccessError(Exception):
    """The request has no right to what it asks for. Becomes a response with status 401."""


def engine_key(library: Path) -> str:
    """The key for these routes alone; it is made on the first call. Raises LibraryError.

    It is not the key of `/v1`: whoever may use this machine as an engine reaches no session of its owner.
    """
    file = private_folder(library) / _FILE
    try:
        if not file.is_file():
            write_private(file, f"{_START}{secrets.token_urlsafe(32)}\n".encode())
        status = file.lstat()
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "it is no file")
        if os.name != "nt" and stat.S_IMODE(status.st_mode) & 0o077:
            raise OSError(errno.EPERM, "other users can read it")
        key = file.read_text(encoding="ascii").strip()
    except (OSError, ValueError) as error:
        raise LibraryError(f"the engine's key cannot be kept in {file} ({error}); delete that file") from error
    if not key.startswith(_START) or len(key) < len(_START) + 32:
        raise LibraryError(f"the engine's key in {file} is damaged; delete that file, and a new one is made")
    return key


def client_of(request: Request, key: str) -> Client:
    """The client behind a request. Raises AccessError for a wrong key, and for a request without a client's secret."""
    from sala_core.session.hosting.client import Client

    if not shows_key(request.headers, key):
        raise AccessError("the key is wrong; `launch.py serve --engine-for-others --show-key` prints it at the server")
    client = Client.of(request.headers.get(CLIENT_HEADER, ""))
    if client is None:
        raise AccessError(f"the request has no {CLIENT_HEADER} header with a client's secret")
    return client
