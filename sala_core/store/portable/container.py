"""The container of a `.sala` file: a tar archive whose first member lists the others with their sizes and checksums.

    manifest.json                        format, the session's name, model and length; the list of the members
    session.json                         parts of the stream, messages with evidence, checkpoints
    tokens.bin                           the token stream, little-endian int32
    documents/ID.safetensors             texts with token ids and source maps, as in a library
    states/NAME.segment.safetensors      the model's state, as in a library: in order, from the first token on
    states/NAME.snapshot.safetensors

Members are regular files without compression, in the manifest's order and without gaps, so that a file can be read from
any place and needs no more memory than its largest member. Any tar program lists and unpacks it. This reader accepts
exactly what the manifest says, and writes no member under its own name.
"""

import json
import os
import re
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import xxhash

from sala_core.disk.files import checksum, open_regular
from sala_core.errors import ArchiveError

FORMAT = 1
MANIFEST, SESSION, TOKENS = "manifest.json", "session.json", "tokens.bin"

_NAME = re.compile(
    r"session\.json|tokens\.bin|documents/[0-9a-f]{32}\.safetensors|states/[0-9a-f]{32}\.\w+\.safetensors"
)
_BLOCK = tarfile.BLOCKSIZE
_MAX_MANIFEST_BYTES = 16 << 20
_END = bytes(2 * _BLOCK)

Pieces = Iterable[memoryview | bytes]


@dataclass(frozen=True, kw_only=True)
class Member:
    """One file in the archive. checksum: xxh3-128 of its bytes, hexadecimal."""

    name: str
    num_bytes: int
    checksum: str


def archive_pieces(
    about: Mapping[str, Any],
    members: Sequence[tuple[Member, Callable[[], Pieces]]],
    report: Callable[[int, int], None],
) -> Iterator[memoryview]:
    """Yield the bytes of an archive in order.

    Args:
        about: what the manifest says beside its list of members, as JSON types.
        members: each with a function that yields its bytes.
        report: called with (bytes so far, bytes in all).

    Raises ArchiveError if the bytes of a member are not those that it describes.
    """
    listed = [{"name": each.name, "bytes": each.num_bytes, "checksum": each.checksum} for each, _ in members]
    manifest = json.dumps({"format": FORMAT, **about, "members": listed}, ensure_ascii=False).encode()
    total, done = sum(each.num_bytes for each, _ in members), 0
    yield memoryview(_header(MANIFEST, len(manifest)) + manifest + _padding(len(manifest)))
    for member, open_pieces in members:
        yield memoryview(_header(member.name, member.num_bytes))
        digest, size = xxhash.xxh3_128(), 0
        for piece in open_pieces():
            view = memoryview(piece).cast("B")
            digest.update(view)
            size += len(view)
            yield view
            report(done + size, total)
        if size != member.num_bytes or digest.hexdigest() != member.checksum:
            raise ArchiveError(
                f"{member.name} is damaged or was changed during the export; run `verify`, then try again"
            )
        done += size
        yield memoryview(_padding(size))
    yield memoryview(_END)


class Archive:
    """An archive that is open for reading. All sizes were compared with the file's before anything was allocated."""

    def __init__(self, path: Path) -> None:
        """Open and check the list of members. Raises ArchiveError if it is no such file, or not all of it is there."""
        self.path = path
        try:
            self._file = os.fdopen(open_regular(path.resolve()), "rb")
        except OSError as error:
            raise ArchiveError(f"cannot read {path}: {error.strerror or error}; check the name") from error
        try:
            self._read_manifest()
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError, tarfile.TarError, OSError) as error:
            self._file.close()
            raise ArchiveError(
                f"{path} is no .sala file, or its beginning is damaged ({error}); copy it again"
            ) from error
        except BaseException:
            self._file.close()
            raise

    def _read_manifest(self) -> None:
        size = self._check_header(MANIFEST, None)
        if size > _MAX_MANIFEST_BYTES:
            raise ValueError(f"a manifest of {size:,} bytes")
        self.about: dict[str, Any] = json.loads(self._file.read(size))
        if self.about["format"] != FORMAT:
            raise ArchiveError(
                f"{self.path} has format {self.about['format']!r} and this program reads {FORMAT}; update the program"
            )
        self.members: dict[str, Member] = {}
        self._offsets: dict[str, int] = {}
        offset = _BLOCK + _padded(size)
        for item in self.about.pop("members"):
            member = Member(name=str(item["name"]), num_bytes=int(item["bytes"]), checksum=str(item["checksum"]))
            if not _NAME.fullmatch(member.name) or member.name in self.members or member.num_bytes < 0:
                raise ValueError(f"a member {member.name[:80]!r} of {member.num_bytes:,} bytes that cannot be")
            self.members[member.name], self._offsets[member.name] = member, offset
            offset += _BLOCK + _padded(member.num_bytes)
        actual, expected = os.fstat(self._file.fileno()).st_size, offset + len(_END)
        if actual != expected:
            raise ArchiveError(
                f"{self.path} has {actual:,} bytes and should have {expected:,}: it is cut off, or too long; "
                "copy it again"
            )

    def load(self, name: str) -> memoryview:
        """Return a member's bytes in a writable buffer, after their checksum is verified.

        Raises ArchiveError if there is no such member, or it is damaged.
        """
        member = self.members.get(name)
        if member is None:
            raise ArchiveError(f"{self.path} lacks {name}, which it speaks of; export the session again")
        buffer = np.empty(member.num_bytes, dtype=np.uint8).data
        try:
            self._file.seek(self._offsets[name])
            self._check_header(name, member.num_bytes)
            if self._file.readinto(buffer) != member.num_bytes or checksum(buffer) != member.checksum:
                raise ValueError("its checksum does not match")
        except (ValueError, OSError, tarfile.TarError) as error:
            raise ArchiveError(f"{name} in {self.path} is damaged ({error}); copy the file again") from error
        return buffer

    def load_json(self, name: str) -> dict[str, Any]:
        """Return a member as a JSON object that UTF-8 can hold. Raises as `load`."""
        try:
            raw = json.loads(bytes(self.load(name)))
            json.dumps(raw, ensure_ascii=False).encode()  # no lone surrogates
        except (ValueError, RecursionError) as error:
            raise ArchiveError(f"{name} in {self.path} is damaged ({error}); copy the file again") from error
        if not isinstance(raw, dict):
            raise ArchiveError(f"{name} in {self.path} is no object; export the session again")
        return raw

    def _check_header(self, name: str, num_bytes: int | None) -> int:
        """Read one header and return its size; ValueError if it is not a regular file of this name and size."""
        info = tarfile.TarInfo.frombuf(self._file.read(_BLOCK), "utf-8", "strict")
        if info.name != name or info.type != tarfile.REGTYPE or info.size < 0 or num_bytes not in (None, info.size):
            raise ValueError(f"its header names {info.name[:80]!r} of {info.size:,} bytes")
        return info.size

    def __enter__(self) -> Self:
        """Return the archive itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file."""
        self._file.close()


def is_archive_start(data: bytes) -> bool:
    """Whether a file that begins with these bytes, 512 or more, is an archive or the beginning of one."""
    try:
        return tarfile.TarInfo.frombuf(data[:_BLOCK], "utf-8", "strict").name == MANIFEST
    except (tarfile.TarError, ValueError):
        return False


def _header(name: str, num_bytes: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.mode = num_bytes, 0o600
    return info.tobuf(tarfile.GNU_FORMAT)


def _padded(num_bytes: int) -> int:
    return -(num_bytes // -_BLOCK) * _BLOCK


def _padding(num_bytes: int) -> bytes:
    return bytes(_padded(num_bytes) - num_bytes)
