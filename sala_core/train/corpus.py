"""Training text as named documents, with the held-out ones told by name."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sala_core.errors import TrainError

_PASSAGES_A_DOCUMENT = 12


@dataclass(frozen=True, kw_only=True)
class SourceText:
    """One document of the corpus; `kind` is the file's or folder's name that was asked for."""

    name: str
    kind: str
    text: str


def is_held_out(name: str, held_out: Sequence[str]) -> bool:
    """True for the texts that no training step may see (tokenizer training included)."""
    return any(part in name for part in held_out)


def text_files(paths: Sequence[Path]) -> list[tuple[str, Path]]:
    """(kind, file) of every file under `paths`, in a stable order. Raises TrainError for a path that is not there."""
    found = []
    for path in paths:
        if not path.exists():
            raise TrainError(f"the text {path} is not there; correct the recipe's [data] texts")
        files = sorted(path.rglob("*")) if path.is_dir() else [path]
        found += [(path.stem, file) for file in files if file.is_file()]
    return found


def read_texts(paths: Sequence[Path], held_out: Sequence[str], *, unseen: bool = False) -> Iterator[SourceText]:
    """Every document under `paths` in a stable order: those for training, or with `unseen` the held-out ones.

    A .jsonl file of questions and answers, or of texts, becomes documents of twelve records.
    """
    for kind, file in text_files(paths):
        if is_held_out(file.name, held_out) != unseen:
            continue
        text = file.read_text(encoding="utf-8", errors="replace").replace("\r\n", "\n")
        if file.suffix == ".jsonl":
            yield from _passages(file.stem, kind, text)
        else:
            yield SourceText(name=file.name, kind=kind, text=text)


def _passages(name: str, kind: str, lines: str) -> Iterator[SourceText]:
    passages = []
    for line in lines.split("\n"):
        if line.strip():
            record = json.loads(line)
            parts = [record[key] for key in ("question", "answer", "text") if isinstance(record.get(key), str)]
            passages.append("\n".join(part.strip() for part in parts))
    for index in range(0, len(passages), _PASSAGES_A_DOCUMENT):
        text = "\n\n".join(passages[index : index + _PASSAGES_A_DOCUMENT])
        yield SourceText(name=f"{name}-{index}.txt", kind=kind, text=text)
