"""The training text as named documents. Documents are held out by name."""

from __future__ import annotations

import json
import re
import sysconfig
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sala_core.errors import TrainError

_RECORDS_PER_DOCUMENT = 12
_LIBRARY_KIND = "code"
_EXCLUDED = re.compile(
    r"(^|/)(test|tests|idle_test|site-packages|dist-packages|lib2to3|turtledemo|encodings)/|pydoc_data"
)


@dataclass(frozen=True, kw_only=True)
class SourceText:
    """One document of the corpus. kind: name of the requested file or folder that it comes from."""

    name: str
    kind: str
    text: str


def is_held_out(name: str, held_out: Sequence[str]) -> bool:
    """Whether a text is held out from every training step, tokenizer training included."""
    return any(part in name for part in held_out)


def text_files(paths: Sequence[Path], *, library: bool = False) -> list[tuple[str, str, Path]]:
    """Return (kind, name, file) of every file under `paths`, in a stable order.

    library: add the modules of the running Python's standard library, named by their paths in it. Raises TrainError
    for a path that does not exist.
    """
    files = []
    for path in paths:
        if not path.exists():
            raise TrainError(f"the text {path} does not exist; correct texts in the recipe's [data]")
        entries = sorted(path.rglob("*")) if path.is_dir() else [path]
        files += [(path.stem, file.name, file) for file in entries if file.is_file()]
    return files + (_library_files() if library else [])


def _library_files() -> list[tuple[str, str, Path]]:
    root = Path(sysconfig.get_paths()["stdlib"])
    modules = [(file.relative_to(root).as_posix(), file) for file in sorted(root.rglob("*.py"))]
    return [(_LIBRARY_KIND, name, file) for name, file in modules if not _EXCLUDED.search(name)]


def read_texts(
    paths: Sequence[Path], held_out: Sequence[str], *, only_held_out: bool = False, library: bool = False
) -> Iterator[SourceText]:
    """Yield the documents for training, or the held-out ones, in the order of `text_files`.

    A .jsonl file of questions and answers, or of texts, becomes documents of twelve records each.

    Args:
        paths: files and folders.
        held_out: texts with one of these strings in their names are held out.
        only_held_out: yield the held-out documents instead of all others.
        library: add Python's standard library, as in `text_files`.
    """
    for kind, name, file in text_files(paths, library=library):
        if is_held_out(name, held_out) != only_held_out:
            continue
        text = file.read_text(encoding="utf-8", errors="replace").replace("\r\n", "\n")
        if file.suffix == ".jsonl":
            yield from _record_documents(file.stem, kind, text)
        else:
            yield SourceText(name=name, kind=kind, text=text)


def _record_documents(name: str, kind: str, lines: str) -> Iterator[SourceText]:
    records = []
    for line in lines.split("\n"):
        if line.strip():
            record = json.loads(line)
            parts = [record[key] for key in ("question", "answer", "text") if isinstance(record.get(key), str)]
            records.append("\n".join(part.strip() for part in parts))
    for index in range(0, len(records), _RECORDS_PER_DOCUMENT):
        text = "\n\n".join(records[index : index + _RECORDS_PER_DOCUMENT])
        yield SourceText(name=f"{name}-{index}.txt", kind=kind, text=text)
