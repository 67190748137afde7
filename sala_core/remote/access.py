"""The address of an engine's server and the key for it."""

import ipaddress
import os
import ssl
import stat
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from sala_core.errors import EngineError

_ENDINGS = ("/chat/completions", "/completions", "/models", "/v1")
_MAX_KEY_BYTES = 8192


@dataclass(frozen=True, kw_only=True)
class Access:
    """Where a server is, and the key that it wants. url: without the `/v1` of its API. key: "" sends none.

    ca_file: certificates (PEM) that vouch for the server; None for those that the system trusts.
    """

    url: str
    key: str = field(default="", repr=False)
    ca_file: Path | None = None

    @classmethod
    def of(cls, address: str, key: str = "", ca_file: Path | None = None) -> "Access":
        """An address as a person types it: with or without a scheme, `/v1`, or a slash at the end.

        Raises EngineError for an address that cannot be one, or that holds a password.
        """
        typed = address.strip()
        url = typed if "://" in typed else f"http://{typed}"
        example = "give one such as http://127.0.0.1:11434"
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError as error:
            raise EngineError(f"{typed!r} is not the address of a server ({error}); {example}") from error
        if parts.scheme not in ("http", "https") or not host or any(char.isspace() for char in typed):
            raise EngineError(f"{typed!r} is not the address of a server; {example}")
        if parts.username or parts.password:
            raise EngineError("the address holds a password; put the key into a file, and name it by --engine-key-file")
        if parts.query or parts.fragment:
            raise EngineError(f"{typed!r} has a part behind ? or #, which no server's address has; {example}")
        path = parts.path.rstrip("/")
        for ending in _ENDINGS:
            path = path.removesuffix(ending)
        shown = f"[{host}]" if ":" in host else host
        return cls(url=f"{parts.scheme}://{shown}{f':{port}' if port else ''}{path}", key=key, ca_file=ca_file)

    def verify(self) -> ssl.SSLContext | bool:
        """By which certificates the server is checked, as httpx takes it. Raises EngineError for a file without any."""
        if self.ca_file is None:
            return True
        try:
            return ssl.create_default_context(cafile=str(self.ca_file))
        except (OSError, ssl.SSLError) as error:
            raise EngineError(f"{self.ca_file} holds no certificates ({error}); it must be a PEM file") from error

    def untrusted(self, error: BaseException) -> str | None:
        """What to say of a connection that failed because the server's certificate is not trusted; None otherwise."""
        if "CERTIFICATE_VERIFY_FAILED" not in str(error):
            return None
        return (
            f"the certificate of {self.address} is not one to trust ({error}); name the certificate that it was signed "
            "with by --engine-ca-file"
        )

    @property
    def address(self) -> str:
        """Host and port, as a receipt shows them."""
        return urlsplit(self.url).netloc

    @property
    def is_here(self) -> bool:
        """Whether the server is on this machine, so that nothing leaves it."""
        host = urlsplit(self.url).hostname or ""
        try:
            return ipaddress.ip_address(host).is_loopback
        except ValueError:
            return host == "localhost" or host.endswith(".localhost")

    @property
    def is_open_line(self) -> bool:
        """Whether text and key would go over a network without encryption."""
        return not self.is_here and self.url.startswith("http://")


def read_key(file: Path) -> str:
    """The key in a file, without the white space around it. Raises EngineError.

    A file that other users of the machine can read is refused.
    """
    try:
        with file.expanduser().open("rb") as opened:
            mode = os.fstat(opened.fileno()).st_mode
            raw = opened.read(_MAX_KEY_BYTES + 1)
    except OSError as error:
        raise EngineError(f"the key file {file} cannot be read: {error.strerror or error}") from error
    if os.name == "posix" and mode & (stat.S_IRGRP | stat.S_IROTH):
        raise EngineError(f"other users can read the key file {file}; run: chmod 600 {file}")
    try:
        key = raw.decode("ascii").strip()
    except UnicodeDecodeError:
        key = ""
    if not key or len(raw) > _MAX_KEY_BYTES or not key.isprintable() or " " in key:
        raise EngineError(f"the key file {file} holds no key; put the key alone into it, on one line")
    return key
