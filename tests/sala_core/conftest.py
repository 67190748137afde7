"""A small engine, a library, and files to read, shared by the tests of sessions and of the workspace."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from sala_core import Engine, stream
from sala_core.store import Library

sys.path.append(str(Path(__file__).resolve().parent))

from reading_helpers import SEGMENT_TOKENS, text_of


@pytest.fixture(scope="session")
def engine(random_model: Path) -> Iterator[Engine]:
    """The random model in float32 on one thread, as its tests compare states bit by bit."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield Engine.load(random_model, dtype="float32")
    torch.set_num_threads(threads)


@pytest.fixture
def short_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    """A segment for every chunk and a kept snapshot for every second one."""
    monkeypatch.setattr(stream, "SEGMENT_TOKENS", SEGMENT_TOKENS)
    monkeypatch.setattr(stream, "SNAPSHOT_TOKENS", 2 * SEGMENT_TOKENS)


@pytest.fixture
def library(tmp_path: Path) -> Iterator[Library]:
    """An empty library."""
    with Library.open(tmp_path / "library") as opened:
        yield opened


@pytest.fixture
def open_library(tmp_path: Path) -> Iterator[Callable[..., Library]]:
    """Open the library called `name`, again if need be; all are closed at the end."""
    opened: list[Library] = []

    def open_named(name: str, **options: Any) -> Library:
        opened.append(Library.open(tmp_path / name, **options))
        return opened[-1]

    yield open_named
    for each in opened:
        each.close()


@pytest.fixture
def write_book(tmp_path: Path) -> Callable[..., Path]:
    """Write a file of `num_lines` lines, other ones for every seed."""

    def write(name: str = "book.txt", num_lines: int = 120, seed: int = 0) -> Path:
        path = tmp_path / "files" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text_of(num_lines, seed), encoding="utf-8")
        return path

    return write
