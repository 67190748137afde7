"""The embedded model's corpus: five kinds of free text under one folder, Python's own library, the held-out texts."""

from __future__ import annotations

import re
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from sala_core.train.corpus import SourceText, is_held_out, read_texts

HELD_OUT = ("war-and-peace", "pride-and-prejudice", "argparse.py", "shutil.py", "json/", "http/", "heapq.py")
_SKIPPED = re.compile(r"(^|/)(test|tests|idle_test|site-packages|dist-packages|lib2to3|turtledemo|encodings)/|pydoc_data")
_KINDS = ("books", "peps", "rust-book", "tldr", "medquad.jsonl")


def read_corpus(folder: Path) -> Iterator[SourceText]:
    """Every training text under `folder` in a stable order; held-out texts are never yielded."""
    yield from read_texts([folder / kind for kind in _KINDS], HELD_OUT)
    yield from _library(unseen=False)


def read_held_out(folder: Path) -> list[SourceText]:
    """The held-out books, for measuring only."""
    return [*read_texts([folder / "books"], HELD_OUT, unseen=True), *_library(unseen=True)]


def _library(*, unseen: bool) -> Iterator[SourceText]:
    """Modules of the running Python's standard library; `unseen`: those whose names are held out."""
    root = Path(sysconfig.get_paths()["stdlib"])
    for file in sorted(root.rglob("*.py")):
        name = file.relative_to(root).as_posix()
        if _SKIPPED.search(name) or is_held_out(name, HELD_OUT) != unseen:
            continue
        yield SourceText(name=name, kind="code", text=file.read_text(encoding="utf-8", errors="replace"))
