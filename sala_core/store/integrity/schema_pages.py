"""The pages of a database that describe its tables, put back from another database with the same tables.

SQLite reads nothing where one of them is damaged. Pages are numbered alike in a database and a copy of it, and in two
databases that the same migrations made, so long as neither has dropped a table. Layout: sqlite.org/fileformat2.html.
"""

import sqlite3
from collections.abc import Collection, Iterator
from contextlib import closing
from pathlib import Path
from typing import BinaryIO

_HEADER_BYTES = 100
_PAGE_SIZE_AT, _VALID_FOR_AT = 16, 92
_LARGEST_PAGE = 65_536  # written as 1
_INTERIOR, _LEAF = 0x05, 0x0D
_CELL_COUNT_AT, _LAST_CHILD_AT, _CELLS_AT = 3, 8, 12


def has_readable_schema(database: Path, tables: Collection[str]) -> bool:
    """Whether SQLite can read which tables a database has, and the columns of those of `tables` among them.

    database: a file that only this process uses: what its journal holds can be moved into it.
    """
    try:
        with closing(sqlite3.connect(database)) as conn:
            present = {name for (name,) in conn.execute("SELECT name FROM sqlite_master WHERE length(sql) >= 0")}
            for table in present.intersection(tables):
                conn.execute(f"SELECT * FROM {table} LIMIT 0")
    except (sqlite3.Error, UnicodeDecodeError):
        return False
    return True


def put_schema_back(database: Path, source: Path) -> None:
    """Overwrite the pages of `database` that describe its tables by those of `source`. Raises OSError, ValueError."""
    with open(source, "rb") as given, open(database, "r+b") as target:
        header = given.read(_HEADER_BYTES)
        size = int.from_bytes(header[_PAGE_SIZE_AT : _PAGE_SIZE_AT + 2], "big")
        size = _LARGEST_PAGE if size == 1 else size
        for number, page in schema_pages(given, size):
            data = bytearray(page)
            if number == 1:  # the length of the file counts then, and not the number of pages that stands here
                data[_VALID_FOR_AT : _VALID_FOR_AT + 4] = bytes(4)
            target.seek((number - 1) * size)
            target.write(data)


def schema_pages(file: BinaryIO, size: int) -> Iterator[tuple[int, bytes]]:
    """(number, bytes) of the pages of the list of tables: the tree whose root is the first page. Raises ValueError.

    size: of a page in bytes.
    """
    waiting, seen = [1], set()
    while waiting:
        number = waiting.pop()
        file.seek((number - 1) * size)
        page = file.read(size)
        if number in seen or len(page) != size:
            raise ValueError("the pages of the tables' list are no tree")
        seen.add(number)
        yield number, page
        at = _HEADER_BYTES if number == 1 else 0
        if page[at] == _INTERIOR:
            count = _number(page, at + _CELL_COUNT_AT, 2)
            cells = [_number(page, at + _CELLS_AT + 2 * cell, 2) for cell in range(count)]
            waiting += [_number(page, cell, 4) for cell in cells] + [_number(page, at + _LAST_CHILD_AT, 4)]
        elif page[at] != _LEAF:
            raise ValueError("a page of the tables' list is damaged")


def _number(page: bytes, at: int, num_bytes: int) -> int:
    return int.from_bytes(page[at : at + num_bytes], "big")
