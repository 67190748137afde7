"""The embedded model's corpus: five kinds of free text under one folder, and the books it never saw."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from sala_core.train.corpus import SourceText, read_texts

HELD_OUT = ("war-and-peace", "pride-and-prejudice")
_KINDS = ("books", "peps", "rust-book", "tldr", "medquad.jsonl")


def read_corpus(folder: Path) -> Iterator[SourceText]:
    """Every training text under `folder` in a stable order; held-out texts are never yielded."""
    return read_texts([folder / kind for kind in _KINDS], HELD_OUT)


def read_held_out(folder: Path) -> list[SourceText]:
    """The held-out books, for measuring only."""
    return list(read_texts([folder / "books"], HELD_OUT, unseen=True))
