"""Question templates: beginnings of questions, those of the program and the user's own."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sala_core.disk.files import write_file
from sala_core.errors import QuestionListError

if TYPE_CHECKING:
    from pathlib import Path

BLANK = "..."
"""Stands for what the user fills in."""
MAX_OWN = 100
MAX_CHARS = 500
_FILE = "question-templates.json"


@dataclass(frozen=True, kw_only=True)
class Template:
    """A template. needs_writing: a model that only finds sentences cannot answer it well."""

    text: str
    needs_writing: bool = False


BUILT_IN = (
    Template(text="Who is ...?"),
    Template(text="Where is ... defined?"),
    Template(text="What does the text say about ...?"),
    Template(text="When does ... happen?"),
    Template(text="What does ... stand for?"),
    Template(text="Summarize ...", needs_writing=True),
    Template(text="Explain ... in plain words", needs_writing=True),
    Template(text="Compare ... and ...", needs_writing=True),
    Template(text="List every ... with its place", needs_writing=True),
)


def own_templates(folder: Path) -> list[str]:
    """The user's templates, in the order in which they were made. Raises QuestionListError for a damaged file."""
    path = folder / _FILE
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return [str(text) for text in found["templates"]]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise QuestionListError(
            f"the question templates in {path} cannot be read ({error}); remove the file"
        ) from error


def add_template(folder: Path, text: str) -> None:
    """Keep a template of the user. Raises QuestionListError for an empty or a long one, and beyond MAX_OWN."""
    text, known = " ".join(text.split()), own_templates(folder)
    if not text:
        raise QuestionListError(f"a template needs words; write {BLANK} where you will fill something in")
    if len(text) > MAX_CHARS:
        raise QuestionListError(f"a template has at most {MAX_CHARS} characters, and this one has {len(text):,}")
    if len(known) >= MAX_OWN:
        raise QuestionListError(f"{MAX_OWN} templates are kept at most; remove one first")
    if text not in known:
        _save(folder, [*known, text])


def remove_template(folder: Path, text: str) -> None:
    """Forget a template of the user."""
    _save(folder, [known for known in own_templates(folder) if known != text])


def _save(folder: Path, templates: list[str]) -> None:
    data = json.dumps({"templates": templates}, ensure_ascii=False).encode()
    write_file(folder / _FILE, [memoryview(data)])
