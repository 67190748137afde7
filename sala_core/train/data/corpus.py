"""Training text as named documents, with the held-out ones told by name."""

from __future__ import annotations

import json
import re
import sysconfig
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sala_core.errors import TrainError

_PASSAGES_A_DOCUMENT = 12
_LIBRARY_KIND = "code"
_NOT_LIBRARY = re.compile(
    r"(^|/)(test|tests|idle_test|site-packages|dist-packages|lib2to3|turtledemo|encodings)/|pydoc_data"
)


@dataclass(frozen=True, kw_only=True)
class SourceText:
    """One document of the corpus; `kind` is the file's or folder's name that was asked for."""

    name: str
    kind: str
    text: str


def is_held_out(name: str, held_out: Sequence[str]) -> bool:
    """True for the texts that no training step may see (tokenizer training included)."""
    return any(part in name for part in held_out)


def text_files(paths: Sequence[Path], *, library: bool = False) -> list[tuple[str, str, Path]]:
    """(kind, name, file) of every file under `paths`, in a stable order.

    library: the modules of the running Python's standard library too, named by their paths in it. Raises TrainError
    for a path that is not there.
    """
    found = []
    for path in paths:
        if not path.exists():
            raise TrainError(f"the text {path} is not there; correct the recipe's [data] texts")
        files = sorted(path.rglob("*")) if path.is_dir() else [path]
        found += [(path.stem, file.name, file) for file in files if file.is_file()]
    return found + (_library_files() if library else [])


def _library_files() -> list[tuple[str, str, Path]]:
    root = Path(sysconfig.get_paths()["stdlib"])
    named = [(file.relative_to(root).as_posix(), file) for file in sorted(root.rglob("*.py"))]
    return [(_LIBRARY_KIND, name, file) for name, file in named if not _NOT_LIBRARY.search(name)]


def read_texts(
    paths: Sequence[Path], held_out: Sequence[str], *, unseen: bool = False, library: bool = False
) -> Iterator[SourceText]:
    """Every document of `text_files` in a stable order: those for training, or with `unseen` the held-out ones.

    A .jsonl file of questions and answers, or of texts, becomes documents of twelve records.
    """
    for kind, name, file in text_files(paths, library=library):
        if is_held_out(name, held_out) != unseen:
            continue
        text = file.read_text(encoding="utf-8", errors="replace").replace("\r\n", "\n")
        if file.suffix == ".jsonl":
            yield from _passages(file.stem, kind, text)
        else:
            yield SourceText(name=name, kind=kind, text=text)


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
