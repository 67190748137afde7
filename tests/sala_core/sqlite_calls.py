"""Every write, truncation, sync and deletion of SQLite, shown to a test before it is done.

SQLite reaches files through a table of functions, which belongs to the shared library that Python's module uses. Here
some of its entries are replaced, by ctypes, for all connections that are opened afterwards (sqlite.org/vfs.html).
"""

import ctypes
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from ctypes import CFUNCTYPE, POINTER, Structure, c_char_p, c_int, c_int64, c_void_p
from ctypes.util import find_library
from typing import Any

import pytest

GO_ON, SKIP = 0, -1
"""What a watcher returns: the call is done; it is left out, and SQLite is told that it was done. Any other value is a
result code of SQLite with which the call fails."""
CREATE = 0x4
JOURNALS = 0x800 | 0x4000 | 0x80000
"""Flags of files whose first sync also makes their name durable."""

Watcher = Callable[[str, str, int, bytes], int]
"""(call, path, offset or size, data) -> GO_ON, SKIP or a result code. Calls are `open`, `write`, `truncate`, `sync`,
`syncdir` and `delete`."""


class _Vfs(Structure):
    _fields_ = [
        ("version", c_int), ("file_bytes", c_int), ("max_path", c_int), ("next", c_void_p), ("name", c_char_p),
        ("data", c_void_p), ("open", c_void_p), ("delete", c_void_p),
    ]  # fmt: skip


class _Methods(Structure):
    _fields_ = [
        ("version", c_int), ("close", c_void_p), ("read", c_void_p), ("write", c_void_p), ("truncate", c_void_p),
        ("sync", c_void_p), ("rest", c_void_p * 13),
    ]  # fmt: skip


_OPEN = CFUNCTYPE(c_int, c_void_p, c_void_p, c_void_p, c_int, c_void_p)
"""The path is passed on as a pointer: SQLite keeps it."""
_DELETE = CFUNCTYPE(c_int, c_void_p, c_char_p, c_int)
_WRITE = CFUNCTYPE(c_int, c_void_p, c_void_p, c_int, c_int64)
_TRUNCATE = CFUNCTYPE(c_int, c_void_p, c_int64)
_SYNC = CFUNCTYPE(c_int, c_void_p, c_int)


def find_vfs() -> Any:
    """The table of the library that Python's SQLite uses; None where it cannot be reached, as if it is built in."""
    name = find_library("sqlite3")
    library = None if name is None else ctypes.CDLL(name)
    if library is None or not hasattr(library, "sqlite3_vfs_find"):
        return None
    library.sqlite3_sourceid.restype = c_char_p
    with closing(sqlite3.connect(":memory:")) as conn:
        source = conn.execute("SELECT sqlite_source_id()").fetchone()[0]
    if library.sqlite3_sourceid().decode() != source:
        return None
    library.sqlite3_vfs_find.restype = POINTER(_Vfs)
    return library.sqlite3_vfs_find(None).contents


def need_vfs() -> Any:
    """The table; the test is skipped where it cannot be reached."""
    vfs = find_vfs()
    if vfs is None:
        pytest.skip("this Python has a SQLite of its own, and its file system layer cannot be reached")
    return vfs


@contextmanager
def watched(watch: Watcher) -> Iterator[None]:
    """Show the calls of all connections that are opened in the block. They have to be closed in it."""
    vfs = need_vfs()
    layer = _Layer(vfs, watch)
    before = vfs.open, vfs.delete
    vfs.open, vfs.delete = (ctypes.cast(each, c_void_p).value for each in (layer.open, layer.delete))
    try:
        yield
    finally:
        vfs.open, vfs.delete = before


class _Layer:
    """The functions that stand in the place of SQLite's own."""

    def __init__(self, vfs: Any, watch: Watcher) -> None:
        self._watch = watch
        self._paths: dict[int, str] = {}
        self._unnamed: set[int] = set()
        self._tables: dict[int, tuple[_Methods, Any]] = {}
        self._real_open, self._real_delete = _OPEN(vfs.open), _DELETE(vfs.delete)
        self.open, self.delete = _OPEN(self._open), _DELETE(self._delete)

    def _call(self, name: str, path: str, place: int, data: bytes, real: Callable[[], int]) -> int:
        told = self._watch(name, path, place, data)
        return real() if told == GO_ON else max(told, 0)

    def _open(self, vfs: int, name: int | None, file: int, flags: int, out: int) -> int:
        if name is None:  # a temporary file
            return self._real_open(vfs, name, file, flags, out)
        path = ctypes.string_at(name).decode()
        told = self._watch("open", path, flags, b"")
        code = self._real_open(vfs, name, file, flags, out) if told == GO_ON else told
        if code == 0:
            self._paths[file] = path
            if flags & CREATE and flags & JOURNALS:
                self._unnamed.add(file)
            methods = c_void_p.from_address(file)
            methods.value = ctypes.addressof(self._table(methods.value or 0))
        return code

    def _table(self, address: int) -> _Methods:
        """A copy of the functions at this address, with some replaced."""
        if address not in self._tables:
            table = _Methods.from_buffer_copy(_Methods.from_address(address))
            write, truncate, sync = _WRITE(table.write), _TRUNCATE(table.truncate), _SYNC(table.sync)

            def on_write(file: int, data: int, size: int, offset: int) -> int:
                content = ctypes.string_at(data, size)
                return self._call("write", self._paths[file], offset, content, lambda: write(file, data, size, offset))

            def on_truncate(file: int, size: int) -> int:
                return self._call("truncate", self._paths[file], size, b"", lambda: truncate(file, size))

            def on_sync(file: int, flags: int) -> int:
                code = self._call("sync", self._paths[file], 0, b"", lambda: sync(file, flags))
                if code == 0 and file in self._unnamed:
                    self._unnamed.discard(file)
                    self._watch("syncdir", self._paths[file], 0, b"")
                return code

            kept = _WRITE(on_write), _TRUNCATE(on_truncate), _SYNC(on_sync)
            table.write, table.truncate, table.sync = (ctypes.cast(each, c_void_p).value for each in kept)
            self._tables[address] = (table, kept)
            self._tables[ctypes.addressof(table)] = (table, kept)
        return self._tables[address][0]

    def _delete(self, vfs: int, path: bytes, sync: int) -> int:
        code = self._call("delete", path.decode(), 0, b"", lambda: self._real_delete(vfs, path, sync))
        if code == 0 and sync:
            self._watch("syncdir", path.decode(), 0, b"")
        return code
