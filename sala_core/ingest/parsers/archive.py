"""Unpack the regular files of a zip or tar archive into an empty folder, within limits.

Nothing but folders and regular files is ever made, each inside the folder: no link, no device, no path that leads out.
"""

import errno
import json
import os
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import IO

from .charset import decode_plain
from .ebook.members import DAMAGE
from .result import Parsed, ParseError

_BLOCK_BYTES = 1 << 20
_FREE_BYTES = 8 << 20  # of each member: packed without any ratio
_MAX_NOTES = 1000
_MAX_DEPTH = 64
_MAX_NAME_BYTES, _MAX_PATH_BYTES = 255, 2048
_FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))
_TAR_DAMAGE = (*DAMAGE, tarfile.TarError, zlib.error)
_WINDOWS_FORBIDDEN = frozenset(':*?"<>|')


@dataclass(frozen=True, kw_only=True)
class UnpackLimits:
    """Limits of one archive. max_ratio: bytes unpacked for each packed byte, beyond the first 8 MiB of a member."""

    max_bytes: int
    max_member_bytes: int
    max_members: int
    max_ratio: int


class _EndError(ParseError):
    """A limit of the whole archive is reached."""


def unpack_archive(path: str, target: str, limits: UnpackLimits) -> Parsed:
    """Unpack an archive; return a JSON list of (name, reason) of the members that are not unpacked.

    path: of the archive; target: an empty folder. A damaged archive is unpacked as far as possible. Raises ParseError
    if it cannot be opened, is no archive, or the disk is full.
    """
    unpacking = _Unpacking(path, target, limits)
    try:
        if zipfile.is_zipfile(path):
            unpacking.zip_members()
        else:
            unpacking.tar_members()
    except _EndError as error:
        unpacking.note("", str(error))
    except _TAR_DAMAGE as error:
        if isinstance(error, OSError) and error.errno in _FULL:
            raise ParseError(
                "unpacking it fills the disk of temporary files; free some space, or set TMPDIR"
            ) from error
        if not unpacking.num_members:
            raise ParseError("a damaged archive, or none: it cannot be opened") from error
        unpacking.note("", "damaged: only what stands before the damage is read")
    return Parsed(text=json.dumps(unpacking.notes()))


class _Unpacking:
    """One archive on its way to a folder."""

    def __init__(self, path: str, target: str, limits: UnpackLimits) -> None:
        self.num_members = 0
        self._path, self._target, self._limits = path, target, limits
        self._archive_bytes = os.path.getsize(path)
        self._num_bytes = 0
        self._notes: list[tuple[str, str]] = []
        self._num_notes = 0
        self._written: set[str] = set()

    def note(self, name: str, reason: str) -> None:
        """Record why a member is not unpacked."""
        self._num_notes += 1
        if len(self._notes) < _MAX_NOTES:
            self._notes.append((name[:1000].encode(errors="surrogateescape").decode(errors="replace"), reason))

    def notes(self) -> list[tuple[str, str]]:
        """All notes; of very many the first ones and their number."""
        if self._num_notes > len(self._notes):
            return [*self._notes, ("", f"{self._num_notes - len(self._notes):,} more members are not read")]
        return self._notes

    def zip_members(self) -> None:
        """Unpack a zip archive."""
        with zipfile.ZipFile(self._path) as archive:
            infos = archive.infolist()
            for info, name in zip(infos, _zip_names(infos), strict=True):
                if info.filename and info.is_dir():  # it fails for a name of no characters
                    continue
                self._count()
                if reason := _zip_refusal(info) or self._refusal(name, info.file_size):
                    self.note(name, reason)
                    continue
                try:
                    with archive.open(info) as member:
                        self._write(name, member, info.compress_size)
                except DAMAGE as error:
                    self._damaged(name, error)

    def tar_members(self) -> None:
        """Unpack a tar archive, compressed or not."""
        with tarfile.open(self._path, "r:*") as archive:
            for info in archive:
                if info.isdir():
                    continue
                self._count()
                if reason := _tar_refusal(info) or self._refusal(info.name, info.size):
                    self.note(info.name, reason)
                elif member := archive.extractfile(info):
                    with member:
                        self._write(info.name, member, self._archive_bytes)

    def _count(self) -> None:
        self.num_members += 1
        if self.num_members > self._limits.max_members:
            raise _EndError(f"the rest of it: more than {self._limits.max_members:,} files in one archive")

    def _refusal(self, name: str, num_bytes: int) -> str | None:
        """Why a member is not unpacked because of its name or its stated size."""
        limit = self._limits.max_member_bytes
        if num_bytes > limit:
            return f"{num_bytes / 2**20:,.1f} MiB, over the limit of {limit / 2**20:,.1f} MiB"
        return None if _parts(name) else "a path that leads out of the archive, or that this system cannot store"

    def _write(self, name: str, member: IO[bytes], packed_bytes: int) -> None:
        """Write one member, counting its bytes, because its stated size can be false."""
        parts = _parts(name)
        assert parts is not None
        path = os.path.join(self._target, *parts)
        if os.path.lexists(path):
            if path not in self._written:
                self.note(name, "this system cannot store it beside another member of nearly the same name")
                return
            self.note(name, "in the archive more than once; the last one is read")
            os.unlink(path)
        try:
            os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o600)
        except OSError as error:
            if error.errno in _FULL:
                raise
            self.note(name, f"cannot be unpacked: {error.strerror}")
            return
        self._written.add(path)
        reason = None
        with os.fdopen(fd, "wb", buffering=0) as file:
            num_bytes = 0
            for block in _blocks(member):
                num_bytes += len(block)
                self._num_bytes += len(block)
                if reason := self._excess(num_bytes, packed_bytes):
                    break
                file.write(block)
        if reason:
            os.unlink(path)
            self.note(name, reason)
        if self._num_bytes > self._limits.max_bytes:
            limit = self._limits.max_bytes / 2**20
            raise _EndError(f"the rest of it: an archive that unpacks to more than {limit:,.0f} MiB")

    def _excess(self, num_bytes: int, packed_bytes: int) -> str | None:
        """Why a member is given up after `num_bytes` unpacked bytes, or None."""
        limits = self._limits
        if self._num_bytes > limits.max_bytes:
            return f"the archive unpacks to more than {limits.max_bytes / 2**20:,.0f} MiB"
        if num_bytes > limits.max_member_bytes:
            return f"over the limit of {limits.max_member_bytes / 2**20:,.1f} MiB"
        if num_bytes > _FREE_BYTES and num_bytes > packed_bytes * limits.max_ratio:
            return f"packed more than {limits.max_ratio} to 1, as only a file made to fill the disk is"
        return None

    def _damaged(self, name: str, error: Exception) -> None:
        """Leave out a member that cannot be unpacked to its end."""
        if isinstance(error, OSError) and error.errno in _FULL:
            raise error
        parts = _parts(name)
        if parts and (path := os.path.join(self._target, *parts)) in self._written:
            os.unlink(path)
            self._written.discard(path)
        is_unknown = isinstance(error, NotImplementedError)
        self.note(name, "packed in a way that is not read" if is_unknown else "damaged: it cannot be unpacked")


def _blocks(member: IO[bytes]) -> Iterator[bytes]:
    while block := member.read(_BLOCK_BYTES):
        yield block


def _zip_names(infos: list[zipfile.ZipInfo]) -> list[str]:
    """The members' names. Those without a declared encoding are guessed together: one archive has one encoding."""
    legacy = [info.filename for info in infos if not info.flag_bits & 0x800 and not info.filename.isascii()]
    try:
        decoded = decode_plain("\n".join(legacy).encode("cp437"))[0].split("\n") if legacy else []
    except UnicodeEncodeError:
        decoded = legacy
    names = dict(zip(legacy, decoded, strict=True)) if len(decoded) == len(legacy) else {}
    # 0: written under DOS or Windows, where some programs write backslashes
    return [
        name.replace("\\", "/") if info.create_system == 0 else name
        for info in infos
        for name in [names.get(info.filename, info.filename)]
    ]


def _zip_refusal(info: zipfile.ZipInfo) -> str | None:
    if info.flag_bits & 1:
        return "encrypted: remove the password and add it again"
    kind = stat.S_IFMT(info.external_attr >> 16) if info.create_system == 3 else 0
    if kind == stat.S_IFLNK:
        return "a link"
    return None if kind in (0, stat.S_IFREG) else "a device, a pipe or a socket, not a file"


def _tar_refusal(info: tarfile.TarInfo) -> str | None:
    if info.issym() or info.islnk():
        return f"a link to {info.linkname[:200]}"
    return None if info.isreg() else "a device or a pipe, not a file"


def _parts(name: str) -> list[str] | None:
    """The names in a member's path, or None for a path that leads out or cannot be stored."""
    if name.startswith("/") or "\0" in name:
        return None
    parts = [part for part in PurePosixPath(name).parts if part != "."]
    sizes = [len(os.fsencode(part)) if os.name != "nt" else len(part.encode(errors="replace")) for part in parts]
    if not parts or ".." in parts or len(parts) > _MAX_DEPTH:
        return None
    if max(sizes) > _MAX_NAME_BYTES or sum(sizes) > _MAX_PATH_BYTES:
        return None
    if os.name == "nt" and any(not _WINDOWS_FORBIDDEN.isdisjoint(part) or part[-1] in ". " for part in parts):
        return None
    return parts
