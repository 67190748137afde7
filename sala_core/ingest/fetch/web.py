"""Fetch one web page or file into a folder, within limits of size, time and redirects."""

import codecs
import contextlib
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.message import Message
from pathlib import Path

import httpcore
import httpx

from sala_core.errors import FetchError
from sala_core.ingest.fetch.address import Address, parse_address
from sala_core.ingest.fetch.guard import GuardedBackend, names_local_host
from sala_core.stopping import never

_SUFFIXES = {
    "text/html": (".html", ".htm", ".xhtml"),
    "application/xhtml+xml": (".xhtml", ".html"),
    "application/pdf": (".pdf",),
    "application/epub+zip": (".epub",),
    "text/markdown": (".md", ".markdown"),
    "text/csv": (".csv", ".tsv"),
    "text/tab-separated-values": (".tsv",),
    "application/json": (".json", ".ipynb", ".geojson"),
    "application/xml": (".xml",),
    "text/xml": (".xml",),
    "application/rtf": (".rtf",),
    "message/rfc822": (".eml",),
    "application/zip": (".zip", ".epub", ".docx", ".xlsx", ".pptx", ".odt"),
    "application/x-tar": (".tar",),
}
"""Content type -> suffixes that fit; the first is given to a file without one of them."""

_ANY_SUFFIX = ("text/", "application/octet-stream", "binary/octet-stream", "application/vnd.", "application/x-", "")
"""Beginnings of content types that say little: the file keeps its name, and its bytes decide."""

_REDIRECTS = (301, 302, 303, 307, 308)
_AGENT = "sala (a local reader, at its user's request)"


@dataclass(frozen=True, kw_only=True)
class FetchLimits:
    """Limits of one fetch. max_s: seconds in all; max_wait_s: seconds without a byte."""

    max_bytes: int = 256 << 20
    max_s: float = 600.0
    max_wait_s: float = 30.0
    max_redirects: int = 5


@dataclass(frozen=True, kw_only=True)
class Fetched:
    """What was fetched. root: the folder to read, inside the given one; its files are named by host and path.

    url: where it came from in the end. num_files, num_bytes: of the content.
    """

    root: Path
    url: str
    num_files: int
    num_bytes: int


def fetch_page(
    address: Address,
    folder: Path,
    limits: FetchLimits,
    report: Callable[[str], None],
    should_stop: Callable[[], bool] = never,
) -> Fetched:
    """Fetch a page or file.

    Args:
        address: of kind "page".
        folder: an empty one, in which the file is put.
        limits: bounds.
        report: is told of each redirect, in words for the user.
        should_stop: ends the fetch with FetchError.

    Raises FetchError: the server cannot be reached or refuses, redirects to where it must not, sends what is not read,
    or exceeds a limit.
    """
    deadline = time.monotonic() + limits.max_s
    allow_local = names_local_host(httpx.URL(address.url).host)
    for _ in range(limits.max_redirects + 1):
        url = httpx.URL(address.url)
        with (
            _errors_of(address.url),
            httpcore.ConnectionPool(
                ssl_context=httpx.create_ssl_context() if url.scheme == "https" else None,
                network_backend=GuardedBackend(allow_local=allow_local),
            ) as pool,
            pool.stream("GET", _target(url), headers=_headers(url), extensions=_timeouts(limits)) as response,
        ):
            headers = httpx.Headers(response.headers)
            if response.status in _REDIRECTS and "location" in headers:
                address = _redirected(address, url.join(headers["location"]))
                allow_local = allow_local and names_local_host(httpx.URL(address.url).host)
                report(f"Redirected to {address.url}")
                continue
            if response.status != 200:
                raise FetchError(f"{address.url}: the server answers with status {response.status}")
            return _save(address, headers, _limited(response, headers, limits, deadline, should_stop), folder)
    raise FetchError(f"{address.url}: more than {limits.max_redirects} redirects")


def _target(url: httpx.URL) -> httpcore.URL:
    return httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)


def _headers(url: httpx.URL) -> list[tuple[str, str]]:
    host = url.netloc.decode("ascii")
    accept = "text/html, text/plain, text/*, application/pdf, application/epub+zip, */*;q=0.5"
    return [("Host", host), ("User-Agent", _AGENT), ("Accept", accept), ("Accept-Encoding", "identity")]


def _timeouts(limits: FetchLimits) -> dict[str, dict[str, float]]:
    return {"timeout": dict.fromkeys(("connect", "read", "write", "pool"), limits.max_wait_s)}


def _redirected(address: Address, target: httpx.URL) -> Address:
    """The address after a redirect. Raises FetchError for one to another scheme, also from https to http."""
    if target.scheme not in ("http", "https") or (address.scheme == "https" and target.scheme == "http"):
        raise FetchError(f"{address.url} redirects to {target}, which is not fetched: not https")
    found = parse_address(str(target))
    return Address(kind="page", url=found.url, scheme=found.scheme, host=found.host)


@contextmanager
def _errors_of(url: str) -> Iterator[None]:
    try:
        yield
    except httpcore.TimeoutException as error:
        raise FetchError(f"{url}: the server does not answer; try again later") from error
    except (httpcore.NetworkError, httpcore.ProtocolError, OSError) as error:
        raise FetchError(f"{url} cannot be fetched ({error}); check the address and the connection") from error


def _limited(
    response: httpcore.Response,
    headers: httpx.Headers,
    limits: FetchLimits,
    deadline: float,
    should_stop: Callable[[], bool],
) -> Iterator[bytes]:
    """The body, within the limits."""
    too_large = f"over the limit of {limits.max_bytes / 2**20:,.0f} MiB for what is fetched"
    stated = headers.get("content-length", "")
    if stated.isdecimal() and int(stated) > limits.max_bytes:
        raise FetchError(f"{int(stated) / 2**20:,.1f} MiB, {too_large}")
    if headers.get("content-encoding", "identity").lower() not in ("identity", ""):
        raise FetchError(f"the server sends it packed ({headers['content-encoding']}) although it was asked not to")
    num_bytes = 0
    for block in response.iter_stream():
        num_bytes += len(block)
        if num_bytes > limits.max_bytes:
            raise FetchError(too_large)
        if time.monotonic() > deadline:
            raise FetchError(f"fetching it took more than {limits.max_s:g} s")
        if should_stop():
            raise FetchError("stopped")
        yield block


def _save(address: Address, headers: httpx.Headers, blocks: Iterator[bytes], folder: Path) -> Fetched:
    """Write the body under host and path, with a suffix that fits its content type."""
    about = Message()
    about["content-type"] = headers.get("content-type", "")
    content_type = about.get_content_type() if headers.get("content-type") else ""
    *parents, name = address.folders
    name = _fitting(name, content_type, address.url)
    home = folder.joinpath(*parents)
    home.mkdir(parents=True, exist_ok=True)
    data = home / name
    with data.open("xb") as file:
        for block in blocks:
            file.write(block)
    charset = about.get_content_charset()
    if charset and content_type.startswith(("text/", "application/xhtml")):
        _to_utf8(data, charset)
    return Fetched(root=folder / parents[0], url=address.url, num_files=1, num_bytes=data.stat().st_size)


def _fitting(name: str, content_type: str, url: str) -> str:
    """The file's name with a suffix by which its format is recognized. Raises FetchError for what is no document."""
    suffix = os.path.splitext(name)[1].lower()
    suffixes = _SUFFIXES.get(content_type)
    if suffixes is not None:
        return name if suffix in suffixes else name + suffixes[0]
    if content_type.startswith(_ANY_SUFFIX[:-1]) or not content_type:
        is_text = content_type.startswith("text/")
        return name if not is_text or re.fullmatch(r"\.[a-z0-9]{1,8}", suffix) else name + ".txt"
    raise FetchError(f"{url} is {content_type}, not a text or document")


def _to_utf8(path: Path, charset: str) -> None:
    """Rewrite a text whose encoding only the server's header tells. An unknown one is left to the reader's guess."""
    with contextlib.suppress(LookupError, UnicodeDecodeError):
        name = codecs.lookup(charset).name
        if name in ("utf-8", "ascii"):
            return
        # browsers read these labels as Windows-1252, whose other characters they do not have
        text = path.read_bytes().decode("cp1252" if name == "iso8859-1" else name)
        path.write_bytes(b"\xef\xbb\xbf" + text.encode())
