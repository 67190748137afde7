"""One file from the hub to the disk: continued where it stopped, and checked.

huggingface_hub lists a model and opens the connections, but its own download begins each file anew after a stop and
compares only the size over plain HTTP. A file of five gigabytes on a slow line is never finished that way.
"""

import errno
import hashlib
import os
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO

import httpx2
from huggingface_hub import constants, hf_hub_url
from huggingface_hub.utils import hf_raise_for_status, http_stream_backoff

from sala_core.errors import DamagedDownloadError, DownloadError, DownloadSpaceError
from sala_core.hub.records import RemoteFile, RemoteModel
from sala_core.hub.remote import hub_errors, reason
from sala_core.model.verify import published_hash

_READ_BYTES = 1 << 20  # handed over at a time: a cut connection loses at most this
_MAX_FAILURES = 5  # in a row, without one new byte
_WAIT_S = 1.0  # before the connection is opened again, times the number of failures
_PARTIAL_CONTENT = 206
_FULL = (errno.ENOSPC, errno.EDQUOT)


def fetch(
    model: RemoteModel,
    file: RemoteFile,
    part: Path,
    *,
    headers: Mapping[str, str],
    on_bytes: Callable[[int], None],
    on_retry: Callable[[str], None],
) -> None:
    """Append to `part` until it has as many bytes as the file on the hub.

    Args:
        model: the model, at its commit.
        file: which file of it.
        part: where the bytes go. What it holds already is kept and not fetched again.
        headers: of every request, with the token.
        on_bytes: called with the number of bytes written; a negative number takes back bytes that were written.
        on_retry: called with the reason before a connection is opened again.

    Raises DownloadError. `part` then holds what was fetched.
    """
    url = hf_hub_url(model.name, file.name, revision=model.commit)
    failures = 0
    while (have := _size(part)) < file.num_bytes:
        try:
            with hub_errors(model.name, model.revision):
                _fetch_rest(url, file, part, headers=headers, on_bytes=on_bytes)
                if _size(part) == file.num_bytes:
                    break
                raise httpx2.RemoteProtocolError("the connection ended early")
        except DownloadError as error:
            failures = 0 if _size(part) > have else failures + 1
            if failures >= _MAX_FAILURES or not isinstance(error.__cause__, httpx2.TransportError):
                raise
            on_retry(reason(error.__cause__))
            time.sleep(_WAIT_S * failures)


def _fetch_rest(
    url: str, file: RemoteFile, part: Path, *, headers: Mapping[str, str], on_bytes: Callable[[int], None]
) -> None:
    have = _size(part)
    # Compressed, a range would count other bytes than those of the file.
    asked = {**headers, "Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    with http_stream_backoff(
        "GET", url, headers=asked, timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT, retry_on_exceptions=()
    ) as response:
        hf_raise_for_status(response)
        with _opened(part, file) as out:
            if have and response.status_code != _PARTIAL_CONTENT:  # the server sends the file from its start
                out.truncate(0)
                on_bytes(-have)
            written = out.seek(0, os.SEEK_END)
            for chunk in response.iter_bytes(_READ_BYTES):
                written += len(chunk)
                if written > file.num_bytes:
                    raise _damaged(file, part, f"the server sends more than {file.num_bytes:,} bytes")
                _write(out, chunk, part, file)
                on_bytes(len(chunk))


def check(file: RemoteFile, path: Path) -> None:
    """Bring a file to the disk and compare it with the hub's checksum.

    Raises DamagedDownloadError, after deleting the file, if they differ.
    """
    with path.open("rb+") as stream:
        os.fsync(stream.fileno())
    if not is_intact(file, path):
        raise _damaged(file, path, f"its checksum is not {file.digest[:16]}..., which the hub gives")


def is_intact(file: RemoteFile, path: Path) -> bool:
    """Whether a file on the disk has the size and the checksum of the one on the hub."""
    if _size(path) != file.num_bytes:
        return False
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, lambda: published_hash(file.digest, file.num_bytes))
    return digest.hexdigest() == file.digest


def _damaged(file: RemoteFile, path: Path, what: str) -> DamagedDownloadError:
    path.unlink(missing_ok=True)
    return DamagedDownloadError(
        f"{file.name} arrived damaged: {what}; it was deleted: run the command again to fetch it anew"
    )


def _opened(part: Path, file: RemoteFile) -> BinaryIO:
    try:
        return part.open("ab", buffering=0)  # type: ignore[return-value]
    except OSError as error:
        raise write_error(error, part, file.num_bytes) from error


def _write(out: BinaryIO, data: bytes, part: Path, file: RemoteFile) -> None:
    rest = memoryview(data)
    try:
        while rest:
            rest = rest[out.write(rest) :]
    except OSError as error:
        raise write_error(error, part, file.num_bytes) from error


def write_error(error: OSError, path: Path, num_bytes: int | None = None) -> DownloadError:
    """The error for a file, of `num_bytes` if that is known, that cannot be written."""
    folder = next((parent for parent in path.parents if parent.is_dir()), Path.cwd())
    if error.errno in _FULL:
        done = f": {path.name} stopped at {_size(path):,} of {num_bytes:,} bytes" if num_bytes else ""
        return DownloadSpaceError(
            f"the disk of {folder} is full{done}, and {shutil.disk_usage(folder).free:,} bytes are free; make room and "
            "run the command again: what was fetched is kept"
        )
    if error.errno == errno.EFBIG:
        return DownloadSpaceError(
            f"the disk of {folder} takes no file of {num_bytes or 0:,} bytes (a FAT disk takes 4 GB, and `ulimit -f` "
            "sets a limit); choose another disk with --to DIR"
        )
    return DownloadError(f"{path} cannot be written ({error.strerror or error}); check the folder, or use --to DIR")


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
