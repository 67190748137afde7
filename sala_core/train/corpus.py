"""The training corpus as named texts, with the held-out texts left out by name."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

HELD_OUT_STEMS = ("war-and-peace", "pride-and-prejudice")
_MEDQUAD_PASSAGES_A_FILE = 12


@dataclass(frozen=True, kw_only=True)
class SourceText:
    """One document of the corpus; `kind` is the folder it came from."""

    name: str
    kind: str
    text: str


def is_held_out(name: str) -> bool:
    """True for the texts that no training step may see (tokenizer training included)."""
    return any(stem in name for stem in HELD_OUT_STEMS)


def read_corpus(folder: Path) -> Iterator[SourceText]:
    """Every training text under `folder` in a stable order; held-out texts are never yielded."""
    for kind in ("books", "peps", "rust-book", "tldr"):
        for path in sorted((folder / kind).rglob("*")):
            if path.is_file() and not is_held_out(path.name):
                text = path.read_text(encoding="utf-8", errors="replace")
                yield SourceText(name=path.name, kind=kind, text=text.replace("\r\n", "\n"))
    yield from _medical_texts(folder / "medquad.jsonl")


def read_held_out(folder: Path) -> list[SourceText]:
    """The held-out books, for measuring only."""
    return [
        SourceText(name=path.name, kind="books", text=path.read_text(encoding="utf-8", errors="replace"))
        for path in sorted((folder / "books").glob("*.txt"))
        if is_held_out(path.name)
    ]


def _medical_texts(path: Path) -> Iterator[SourceText]:
    records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    passages = [f"{record['question'].strip()}\n{record['answer'].strip()}" for record in records]
    for index in range(0, len(passages), _MEDQUAD_PASSAGES_A_FILE):
        text = "\n\n".join(passages[index : index + _MEDQUAD_PASSAGES_A_FILE])
        yield SourceText(name=f"medquad-{index}.txt", kind="medquad", text=text)
