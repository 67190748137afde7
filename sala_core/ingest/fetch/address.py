"""Addresses that a user can ask to read: what they mean, and the path under which what is fetched is kept."""

import os
import re
from dataclasses import dataclass
from typing import Literal

import httpx

from sala_core.errors import FetchError

_SCP = re.compile(r"[\w.-]+@[\w.-]+:(?!\d+/)")
_HOST = re.compile(rb"[A-Za-z0-9._:-]+")
_FORGES = frozenset(("github.com", "www.github.com", "gitlab.com", "codeberg.org", "bitbucket.org", "git.sr.ht"))
_FORGE_PAGES = frozenset(("about", "explore", "features", "login", "orgs", "settings", "sponsors", "topics", "users"))
_UNSAFE = re.compile(r'[\x00-\x1f\x7f\\:*?"<>|]' if os.name == "nt" else r"[\x00-\x1f\x7f]")
_MAX_NAME_CHARS = 120


@dataclass(frozen=True, kw_only=True)
class Address:
    """What to fetch. url: normalized, without a fragment. host: as in the URL, with its port."""

    kind: Literal["page", "git"]
    url: str
    scheme: str
    host: str

    @property
    def folders(self) -> list[str]:
        """Names of the folders, and of the file or repository, that keep the address readable: host and path."""
        path = httpx.URL(self.url)
        parts = [_safe(part) for part in path.path.split("/") if part not in ("", ".", "..")]
        if self.kind == "git":
            parts[-1] = parts[-1].removesuffix(".git") or "repository"
        elif not parts or path.path.endswith("/"):
            parts.append("index")
        if path.query and self.kind == "page":
            stem, dot, suffix = parts[-1].rpartition(".")
            query = _safe(path.query.decode("ascii", "replace"))[:60]
            parts[-1] = f"{stem} ({query}).{suffix}" if stem and dot else f"{parts[-1]} ({query})"
        return [_safe(self.host), *parts]


def parse_address(text: str) -> Address:
    """Return what an address means. `git+https://…`, `….git` and `github.com/OWNER/NAME` are repositories.

    Raises FetchError for a scheme other than http and https, for git without https, for a password in the address, and
    for what is no address.
    """
    if _SCP.match(text) or text.lower().startswith(("git://", "ssh://", "git+ssh://")):
        raise FetchError(f"{text}: repositories are fetched over https only; give its https:// address")
    is_git = text.lower().startswith("git+")
    try:
        url = httpx.URL(text[4:] if is_git else text)
    except (httpx.InvalidURL, UnicodeError) as error:
        raise FetchError(f"{text!r} is no address ({error})") from error
    if url.host and not _HOST.fullmatch(url.raw_host):
        raise FetchError(f"{text!r} is no address: {url.host!r} cannot be the name of a server")
    if url.scheme not in ("http", "https") or not url.host:
        raise FetchError(f"{text}: only https:// and http:// addresses are fetched; give a path for a file here")
    if url.userinfo:
        raise FetchError(f"{url.host}: an address with a name or password in it is not fetched; remove them")
    parts = [part for part in url.path.split("/") if part]
    is_repository = url.host in _FORGES and len(parts) == 2 and parts[0] not in _FORGE_PAGES
    is_git = is_git or (bool(parts) and (parts[-1].endswith(".git") or is_repository))
    if is_git and not parts:
        raise FetchError(f"{text}: a repository's address has a path")
    if is_git and url.scheme != "https" and not _is_this_machine(url.host):
        raise FetchError(f"{text}: repositories are fetched over https only; write https://")
    host = url.host + (f":{url.port}" if url.port else "")
    url = url.copy_with(fragment=None)
    return Address(kind="git" if is_git else "page", url=str(url), scheme=url.scheme, host=host)


def _is_this_machine(host: str) -> bool:
    return host in ("localhost", "127.0.0.1", "::1")


def _safe(name: str) -> str:
    """A name that every file system takes, and that hides nothing: no leading dot or dash, no slash."""
    safe = _UNSAFE.sub("_", name.replace("/", "_")).strip(" .") or "_"
    return ("_" + safe if safe.startswith("-") else safe)[:_MAX_NAME_CHARS]
