"""The key of a library's page: it signs the cookie, so that a window stays open through restarts of the program.

The key is a file that only its owner can read, in a folder that only its owner can enter. From it come the cookie, the
tokens that open a window, and the place: the unguessable first part of the page's path. Browsers send the cookies of
127.0.0.1 to every port of it; they send this one only below that path, so that a program on another port gets nothing.
"""

from __future__ import annotations

import errno
import hmac
import json
import os
import secrets
import stat
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from pathlib import Path

from sala_core.errors import LibraryError

FOLDER = "page"
COOKIE_S = 30 * 24 * 3600
"""Lifetime of a cookie. A visit renews a cookie that is older than RENEW_S."""
RENEW_S = 24 * 3600
TOKEN_S = 120
"""Lifetime of a token that another start of the program makes."""
_KEY_BYTES = 32
_FILE = "key"


class PageKey:
    """Signs and checks what opens the page. `place` is the first part of its path."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self.place = self._sign("place")[:22]
        self._used: dict[str, float] = {}

    @classmethod
    def fresh(cls) -> PageKey:
        """A key that ends with the process."""
        return cls(secrets.token_bytes(_KEY_BYTES))

    def new_cookie(self) -> str:
        """The value of a cookie, valid from now on."""
        return self._signed("cookie", int(time.time()))

    def cookie_age_s(self, value: str) -> float | None:
        """Age of a valid cookie in seconds; None if it is not this key's or too old."""
        issued = self._time_of("cookie", value)
        age = time.time() - issued if issued is not None else COOKIE_S
        return age if -RENEW_S < age < COOKIE_S else None

    def new_token(self) -> str:
        """A token that opens one window within TOKEN_S."""
        return self._signed("token", int(time.time()))

    def use_token(self, value: str) -> bool:
        """Whether the token opens a window. It is used up by this call."""
        now = time.time()
        issued = self._time_of("token", value)
        if issued is None or abs(now - issued) > TOKEN_S or value in self._used:
            return False
        self._used = {token: at for token, at in self._used.items() if now - at < 2 * TOKEN_S} | {value: now}
        return True

    def proof(self, challenge: str) -> str:
        """What only a program with this key can answer to a challenge."""
        return self._sign(f"alive.{challenge}")

    def sign_folders(self, folders: Sequence[str]) -> str:
        """What another process of this user shows, within TOKEN_S: it is let in, and may have these folders read."""
        words = json.dumps([int(time.time()), *folders])
        return f"{urlsafe_b64encode(words.encode()).decode()}.{self._sign(f'folders.{words}')}"

    def signed_folders(self, value: str) -> tuple[str, ...] | None:
        """The folders that `sign_folders` has signed; None if the value is not this key's, or too old."""
        encoded, _, signature = value.rpartition(".")
        try:
            words = urlsafe_b64decode(encoded).decode()
        except ValueError:
            return None
        if not hmac.compare_digest(signature.encode(), self._sign(f"folders.{words}").encode()):
            return None
        issued, *folders = json.loads(words)
        return tuple(folders) if abs(time.time() - issued) <= TOKEN_S else None

    def _signed(self, kind: str, number: int) -> str:
        words = f"{number}.{secrets.token_urlsafe(12)}"
        return f"{words}.{self._sign(f'{kind}.{words}')}"

    def _time_of(self, kind: str, value: str) -> int | None:
        words, _, signature = value.rpartition(".")
        if not hmac.compare_digest(signature.encode(), self._sign(f"{kind}.{words}").encode()):
            return None
        return int(words.split(".")[0])

    def _sign(self, words: str) -> str:
        digest = hmac.digest(self._secret, words.encode(errors="surrogateescape"), "sha256")
        return urlsafe_b64encode(digest).decode().rstrip("=")


def private_folder(library: Path) -> Path:
    """The folder for the page's private files, which only its owner can enter. Raises LibraryError.

    library: the library's folder; it is made if it does not exist.
    """
    folder = library / FOLDER
    try:
        library.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        if os.name != "nt" and stat.S_IMODE(folder.lstat().st_mode) & 0o077:
            folder.chmod(0o700)
    except OSError as error:
        raise LibraryError(
            f"the page cannot keep its key in {folder} ({error.strerror}); choose another folder with --library"
        ) from error
    if not stat.S_ISDIR(folder.lstat().st_mode):
        raise LibraryError(f"{folder} is not a folder; remove it, or choose another folder with --library")
    return folder


def library_key(library: Path) -> PageKey:
    """The key of a library; it is made on the first call. Raises LibraryError.

    A key that other users can read or that is damaged is replaced: windows then have to be opened again.
    """
    file = private_folder(library) / _FILE
    try:
        secret = _read_secret(file)
        if secret is None:
            write_private(file, secrets.token_bytes(_KEY_BYTES))
            secret = _read_secret(file)
    except OSError as error:
        raise LibraryError(f"the page cannot keep its key in {file} ({error.strerror}); delete that file") from error
    if secret is None:
        raise LibraryError(f"the page cannot keep its key in {file}; delete that file")
    return PageKey(secret)


def existing_key(library: Path) -> PageKey | None:
    """The key of a library if it has one."""
    try:
        secret = _read_secret(library / FOLDER / _FILE)
    except OSError:
        return None
    return PageKey(secret) if secret is not None else None


def write_private(file: Path, data: bytes) -> None:
    """Write a file that only its owner can read, whole or not at all. Raises OSError."""
    temporary = file.with_name(f".{file.name}.{secrets.token_hex(8)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as target:
            target.write(data)
        temporary.replace(file)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def read_private(file: Path, max_bytes: int) -> bytes | None:
    """The beginning of a file that only its owner can read; None if there is none, or one that others can read.

    file: no link is followed. max_bytes: so much is read at most. Raises OSError.
    """
    try:
        descriptor = os.open(file, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno == errno.ELOOP:  # a link
            return None
        raise
    with os.fdopen(descriptor, "rb") as source:
        status = os.fstat(descriptor)
        is_private = os.name == "nt" or (status.st_uid == os.geteuid() and not status.st_mode & 0o077)
        return source.read(max_bytes) if stat.S_ISREG(status.st_mode) and is_private else None


def _read_secret(file: Path) -> bytes | None:
    """The key's bytes; None if there is no key, or one that others can read or that has another length."""
    secret = read_private(file, _KEY_BYTES + 1)
    return secret if secret is not None and len(secret) == _KEY_BYTES else None
