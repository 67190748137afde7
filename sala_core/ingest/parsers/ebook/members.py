"""The files of a book: members of a zip archive, also of a damaged one, or files of a folder.

Members are read into memory by name. Nothing is unpacked to disk.
"""

import mmap
import os
import posixpath
import stat
import struct
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator
from types import TracebackType
from typing import Self
from urllib.parse import unquote, unquote_to_bytes

from ..failures import DAMAGE as DAMAGE
from ..result import ParseError

# what programs write into archives that declare no encoding; zipfile then reads cp437
_LEGACY = ("utf-8", "gb18030", "cp932", "big5hkscs", "cp949", "cp1251", "cp866", "cp1252")
PAGE_SUFFIXES = (".xhtml", ".html", ".htm", ".xht")
_MAX_FILES = 100_000
_LOCAL_HEADER = struct.Struct("<4s5H3I2H")
_SIGNATURES = (b"PK\x03\x04", b"PK\x01\x02", b"PK\x07\x08")


class LockedError(ParseError):
    """A member needs a password."""


class Members:
    """The files of a book by name. Counts the bytes unpacked, because the sizes in an archive can be false.

    damaged: names of members of which only a part, or a part with errors, could be read. is_damaged: so is the whole.
    """

    def __init__(self, names: list[str], max_bytes: int, what: str = "an EPUB") -> None:
        self.names = [name for name in names if not name.endswith("/") and not _is_system_file(name)]
        self.damaged: set[str] = set()
        self.is_damaged = False
        self._what = what
        self._max_bytes = self._left = max_bytes
        self._exact = set(self.names)
        self._aliases: dict[str, str] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the archive."""

    def read(self, name: str) -> bytes:
        """Return one whole member. Raises LockedError, ParseError over the limit, and one of DAMAGE."""
        data = self._load(name, self._left + 1)
        self._left -= len(data)
        if self._left < 0:
            raise ParseError(f"{self._what} that unpacks to more than {self._max_bytes / 2**20:,.1f} MiB")
        return data

    def find(self, reference: str, folder: str = "") -> str | None:
        """Return the member that a reference from a file in `folder` means, or None.

        Also finds it if case, slashes, percent signs, encoding or folder of the reference are wrong.
        """
        paths = []
        for part in dict.fromkeys((reference.split("#")[0], reference, reference.split("?")[0])):
            if part := part.strip().replace("\\", "/"):
                paths += [_resolve(folder, part), _resolve("", part)]
        for path in paths:
            for name in (path, unquote(path)):
                if name in self._exact:
                    return name
        if self._aliases is None:
            self._aliases = self._all_aliases()
        keys = [key for path in paths for key in _keys_of_reference(path)]
        keys += ["*/" + posixpath.basename(key) for key in keys]
        keys += [key.replace("+", " ") for key in keys if "+" in key]
        keys += [stem + suffix for key in keys for stem in _page_stems(key) for suffix in PAGE_SUFFIXES]
        return next((found for key in keys if (found := self._aliases.get(key))), None)

    def _load(self, name: str, max_bytes: int) -> bytes:
        raise NotImplementedError

    def _all_aliases(self) -> dict[str, str]:
        """Other spellings -> name. `*/NAME` stands for a file in any folder; "" if several have that name."""
        aliases: dict[str, str] = {}
        for name in self.names:
            for spelling in _spellings(name):
                key = _key(spelling)
                aliases.setdefault(key, name)
                anywhere = "*/" + posixpath.basename(key)
                if aliases.setdefault(anywhere, name) != name:
                    aliases[anywhere] = ""
        return aliases


class ZipMembers(Members):
    """Members of a zip archive. One whose list of members is lost is searched for them."""

    def __init__(self, path: str, max_bytes: int, what: str = "an EPUB") -> None:
        self._file = open(path, "rb")  # noqa: SIM115 (closed by close)
        self._archive: zipfile.ZipFile | None = None
        try:
            self._archive = zipfile.ZipFile(self._file)
            infos = self._archive.infolist()
        except DAMAGE:
            infos = list(_search(self._file.fileno()))
        self._infos = {info.filename: info for info in infos}
        super().__init__(list(self._infos), max_bytes, what)
        self.is_damaged = self._archive is None

    def close(self) -> None:
        """Close the archive."""
        self._file.close()

    def _load(self, name: str, max_bytes: int) -> bytes:
        info = self._infos[name]
        if info.flag_bits & 1:
            raise LockedError(f"{self._what} that is encrypted: remove its password and add it again")
        if self._archive is not None:
            try:
                with self._archive.open(info) as file:
                    return file.read(max_bytes)
            except DAMAGE:
                self.damaged.add(name)
        data, is_whole = self._unpack(info, max_bytes)
        if not is_whole:
            self.damaged.add(name)
        return data

    def _unpack(self, info: zipfile.ZipInfo, max_bytes: int) -> tuple[bytes, bool]:
        """(as much of a member as can be unpacked, whether that is all). Raises BadZipFile if there is nothing."""
        self._file.seek(info.header_offset)
        header = self._file.read(_LOCAL_HEADER.size)
        if not header.startswith(_SIGNATURES[0]):
            raise zipfile.BadZipFile("no member at this place")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise NotImplementedError(f"method {info.compress_type}")
        *_, num_name, num_extra = _LOCAL_HEADER.unpack(header)
        self._file.seek(num_name + num_extra, os.SEEK_CUR)
        if info.compress_type == zipfile.ZIP_STORED:
            data = self._file.read(min(info.compress_size, max_bytes))
            is_whole = len(data) == info.compress_size
        else:
            data, is_whole = self._inflate(max_bytes)
        if not data and not is_whole:
            raise zipfile.BadZipFile("nothing of it can be unpacked")
        return data, is_whole

    def _inflate(self, max_bytes: int) -> tuple[bytes, bool]:
        inflater = zlib.decompressobj(-15)
        blocks: list[bytes] = []
        left = max_bytes
        pending = b""
        try:
            while left > 0 and not inflater.eof and (pending := pending or self._file.read(1 << 16)):
                blocks.append(inflater.decompress(pending, left))
                left -= len(blocks[-1])
                pending = inflater.unconsumed_tail
        except zlib.error:
            return b"".join(blocks), False
        return b"".join(blocks), inflater.eof


class FolderMembers(Members):
    """Regular files below a folder; links are left out."""

    def __init__(self, path: str, max_bytes: int) -> None:
        names: list[str] = []
        for folder, _, files in os.walk(path):
            for name in files:
                whole = os.path.join(folder, name)
                if stat.S_ISREG(os.lstat(whole).st_mode) and len(names) < _MAX_FILES:
                    names.append(os.path.relpath(whole, path).replace(os.sep, "/"))
        super().__init__(sorted(names), max_bytes)
        self._path = path

    def _load(self, name: str, max_bytes: int) -> bytes:
        flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        with os.fdopen(os.open(os.path.join(self._path, name), flags), "rb") as file:
            return file.read(max_bytes)


def open_members(path: str, max_bytes: int) -> Members:
    """Open a book: an archive or a folder. max_bytes: most bytes that may be unpacked. Raises one of DAMAGE."""
    return FolderMembers(path, max_bytes) if os.path.isdir(path) else ZipMembers(path, max_bytes)


def _search(fd: int) -> Iterator[zipfile.ZipInfo]:
    """Yield the members of an archive by their local headers, in the order of the file."""
    with mmap.mmap(fd, 0, access=mmap.ACCESS_READ) as data:
        position = data.find(_SIGNATURES[0])
        for _ in range(_MAX_FILES):
            if position < 0 or position + _LOCAL_HEADER.size > len(data):
                return
            _, _, flags, method, _, _, _, packed, _, num_name, num_extra = _LOCAL_HEADER.unpack_from(data, position)
            start = position + _LOCAL_HEADER.size + num_name + num_extra
            raw = data[position + _LOCAL_HEADER.size : position + _LOCAL_HEADER.size + num_name]
            if packed in (0, 0xFFFFFFFF) or flags & 8:  # the size stands elsewhere
                ends = [end for mark in _SIGNATURES if (end := data.find(mark, start)) >= 0]
                packed = min(ends, default=len(data)) - start
            info = zipfile.ZipInfo(raw.decode("utf-8" if flags & 0x800 else "cp437", errors="replace"))
            info.header_offset, info.flag_bits, info.compress_type, info.compress_size = position, flags, method, packed
            yield info
            # a size beyond the end may be false: the next header is then searched from here
            position = data.find(_SIGNATURES[0], start + packed if start + packed <= len(data) else start)


def _resolve(folder: str, reference: str) -> str:
    """The path of a reference relative to a folder, never above the top of the book."""
    path = reference.lstrip("/") if reference.startswith("/") else posixpath.join(folder, reference)
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            parts = parts[:-1]
        elif part not in ("", "."):
            parts.append(part)
    return "/".join(parts)


def _keys_of_reference(path: str) -> list[str]:
    keys = [_key(path), _key(unquote(path))]
    raw = unquote_to_bytes(path)
    for encoding in _LEGACY if "%" in path else ():
        try:
            keys.append(_key(raw.decode(encoding)))
        except UnicodeDecodeError:
            continue
    return list(dict.fromkeys(keys))


def _page_stems(key: str) -> list[str]:
    """The name of a page without its suffix, which can be another than the book says."""
    return [key.removesuffix(suffix) for suffix in PAGE_SUFFIXES if key.endswith(suffix)]


def _spellings(name: str) -> list[str]:
    """The name, and what its bytes mean in other encodings."""
    spellings = [name, unquote(name)]
    if not name.isascii():
        for encoding in _LEGACY:
            try:
                spellings.append(name.encode("cp437").decode(encoding))
            except UnicodeError:
                continue
    return spellings


def _key(name: str) -> str:
    return unicodedata.normalize("NFC", _resolve("", name.replace("\\", "/"))).casefold()


def _is_system_file(name: str) -> bool:
    """Whether an archiver added it for itself."""
    return name.startswith("__MACOSX/") or posixpath.basename(name).startswith("._")
