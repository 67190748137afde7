"""What an operation writes to a disk, recorded call by call, and what a power cut could leave of it.

Only what was synced is sure to be there: the bytes of a file after its own fsync, its name after that of its folder.
Of the rest any part can be there, in any order, a write also in part. Locks, SQLite's shared memory and the reserve are
left out: nothing is read from them.
"""

import os
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlite_calls import GO_ON, watched

_SECTOR_BYTES = 512
Event = tuple[Any, ...]
"""`("create", path)`, `("write", path, offset, data)`, `("truncate", path, size)`, `("sync", path)`,
`("rename", path, target)`, `("unlink", path)`, `("mkdir", path)`, `("rmdir", path)` or `("syncdir", folder)`: paths
relative to the root, as they are called at that moment."""


def is_left_out(path: str) -> bool:
    """Whether nothing is recorded of this file."""
    name = os.path.basename(path)
    return name.startswith("library.reserve") or name.endswith("-shm") or "/locks/" in path


@contextmanager
def recorded(root: Path, patch: Any) -> Iterator[list[Event]]:
    """Record the calls that change something below `root`. patch: pytest's monkeypatch, undone by the caller."""
    events: list[Event] = []
    opened: dict[int, tuple[str, int]] = {}
    real = {name: getattr(os, name) for name in ("open", "write", "fsync", "replace", "rename", "unlink", "mkdir")}

    def note(kind: str, path: object, *rest: object) -> None:
        text = os.fspath(path)  # type: ignore[call-overload]
        if text.startswith(f"{root}{os.sep}") and not is_left_out(text):
            events.append((kind, os.path.relpath(text, root), *rest))

    def on_open(path: Any, flags: int, *arguments: Any, **options: Any) -> int:
        is_new = bool(flags & os.O_CREAT) and not os.path.lexists(path)
        descriptor = real["open"](path, flags, *arguments, **options)
        opened[descriptor] = (os.fspath(path), 0)
        if is_new:
            note("create", path)
        return descriptor

    def on_write(descriptor: int, data: Any) -> int:
        count = real["write"](descriptor, data)
        if descriptor in opened:
            path, place = opened[descriptor]
            note("write", path, place, bytes(data[:count]))
            opened[descriptor] = (path, place + count)
        return count

    def on_fsync(descriptor: int) -> None:
        real["fsync"](descriptor)
        path = opened[descriptor][0]
        if os.path.isdir(path):
            events.append(("syncdir", os.path.relpath(path, root)))
        else:
            note("sync", path)

    def on_replace(path: Any, target: Any, **options: Any) -> None:
        real["replace"](path, target, **options)
        assert os.path.dirname(path) == os.path.dirname(target), "a rename between folders is not modelled"
        note("rename", path, os.path.relpath(target, root))

    def on_unlink(path: Any, **options: Any) -> None:
        real["unlink"](path, **options)
        note("unlink", path)

    def on_mkdir(path: Any, *arguments: Any, **options: Any) -> None:
        real["mkdir"](path, *arguments, **options)
        note("mkdir", path)

    def on_sqlite(call: str, path: str, place: int, data: bytes) -> int:
        if call == "open" and not os.path.lexists(path):
            note("create", path)
        elif call == "write":
            note("write", path, place, data)
        elif call == "truncate":
            note("truncate", path, place)
        elif call == "syncdir":
            events.append(("syncdir", os.path.relpath(os.path.dirname(path), root)))
        elif call == "sync":
            note("sync", path)
        elif call == "delete" and os.path.lexists(path):
            note("unlink", path)
        return GO_ON

    for name, function in (
        ("open", on_open), ("write", on_write), ("fsync", on_fsync), ("replace", on_replace), ("rename", on_replace),
        ("unlink", on_unlink), ("mkdir", on_mkdir),
    ):  # fmt: skip
        patch.setattr(os, name, function)
    with watched(on_sqlite):
        yield events


@dataclass
class _File:
    """A file on the disk: what is sure to be in it, and the changes that are not."""

    data: bytearray
    pending: list[tuple[int, bytes | None]] = field(default_factory=list)
    """(offset, data) of a write, (size, None) of a truncation."""


@dataclass
class _Folder:
    """A folder on the disk: the names that are sure to be in it, and the changes that are not."""

    entries: dict[str, "_File | _Folder"] = field(default_factory=dict)
    pending: list[tuple[tuple[str, "_File | _Folder | None"], ...]] = field(default_factory=list)
    """Each change sets names, or removes those that are set to None."""
    now: dict[str, "_File | _Folder"] = field(default_factory=dict)
    """The names as a process sees them."""

    def change(self, *names: tuple[str, "_File | _Folder | None"]) -> None:
        """Change names, for now only in memory."""
        self.pending.append(names)
        _apply(self.now, names)


Choice = Callable[[bool], bool]
"""Whether an un-synced change has reached the disk. Takes whether it is a change of a folder."""


class Disk:
    """A disk that takes events, and can be looked at as it is after a power cut."""

    def __init__(self, start: Path) -> None:
        """Take what is in the folder `start` as the durable beginning."""
        self._root = _durable(start, str(start))

    def take(self, event: Event) -> None:
        """Apply one event in memory; a sync makes earlier ones durable."""
        kind, path, *rest = event
        if kind == "syncdir":
            folder = self._folder(path)
            for names in folder.pending:
                _apply(folder.entries, names)
            folder.pending.clear()
            return
        folder, name = self._folder(os.path.dirname(path)), os.path.basename(path)
        if kind == "create":
            folder.change((name, _File(bytearray())))
        elif kind == "mkdir":
            folder.change((name, _Folder()))
        elif kind == "rename":
            folder.change((os.path.basename(rest[0]), folder.now[name]), (name, None))
        elif kind == "unlink":
            folder.change((name, None))
        else:
            file = folder.now[name]
            assert isinstance(file, _File)
            if kind == "write":
                file.pending.append((rest[0], rest[1]))
            elif kind == "truncate":
                file.pending.append((rest[0], None))
            else:
                assert kind == "sync", kind
                for change in file.pending:
                    _change(file.data, *change)
                file.pending.clear()

    def write_to(self, target: Path, choose: Choice, chance: random.Random | None = None) -> None:
        """Make `target` what is on the disk if `choose` says which un-synced changes have reached it.

        chance: tears some of these writes; None for none.
        """
        _write_folder(self._root, target, choose, chance)

    def _folder(self, path: str) -> _Folder:
        folder = self._root
        for part in Path(path).parts:
            found = folder.now[part]
            assert isinstance(found, _Folder)
            folder = found
        return folder


def _durable(folder: Path, root: str) -> _Folder:
    made = _Folder()
    for path in sorted(folder.iterdir()):
        if is_left_out(str(path)):
            continue
        made.entries[path.name] = _durable(path, root) if path.is_dir() else _File(bytearray(path.read_bytes()))
    made.now = dict(made.entries)
    return made


def _apply(entries: dict[str, Any], names: Sequence[tuple[str, Any]]) -> None:
    for name, item in names:
        if item is None:
            entries.pop(name, None)
        else:
            entries[name] = item


def _change(data: bytearray, place: int, piece: bytes | None) -> None:
    if piece is None:
        if place < len(data):
            del data[place:]
        else:
            data.extend(bytes(place - len(data)))
        return
    if place > len(data):
        data.extend(bytes(place - len(data)))
    data[place : place + len(piece)] = piece


def _write_folder(folder: _Folder, target: Path, choose: Choice, chance: random.Random | None) -> None:
    target.mkdir(mode=0o700)
    entries = dict(folder.entries)
    for names in folder.pending:
        if choose(True):
            _apply(entries, names)
    for name, item in entries.items():
        if isinstance(item, _Folder):
            _write_folder(item, target / name, choose, chance)
            continue
        data = bytearray(item.data)
        for place, piece in item.pending:
            if not choose(False):
                continue
            if piece is not None and chance is not None and chance.random() < 0.25:
                piece = piece[: chance.randrange(len(piece) // _SECTOR_BYTES + 1) * _SECTOR_BYTES]
            _change(data, place, piece)
        descriptor = os.open(target / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)


def power_cuts(number: int) -> Iterator[tuple[str, Choice, random.Random | None]]:
    """Ways in which a disk can end: a name, what has reached it, and what tears its writes.

    The first is a killed process, whose writes all reach the disk. number: how many there are at random.
    """
    yield "all is there", lambda is_name: True, None
    yield "only what was synced", lambda is_name: False, None
    yield "names without bytes", lambda is_name: is_name, None
    yield "bytes without names", lambda is_name: not is_name, None
    for seed in range(number):
        chance = random.Random(seed)
        share = chance.choice((0.2, 0.5, 0.8))
        yield f"at random, {seed}", lambda is_name, chance=chance, share=share: chance.random() < share, chance
