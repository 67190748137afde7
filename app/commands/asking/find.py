"""`find`: the passages of a session that fit a question or some words, without a model."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from app.grammar.parser import Arguments
from app.wording import place

if TYPE_CHECKING:
    from sala_core.events import Evidence

_NOTHING = 1


def find(arguments: Arguments, folder: Path) -> int:
    """Print the best passages; return 0, or 1 if there is none. Raises SessionNotFoundError, CorruptStateError."""
    from sala_core.store.library import Library
    from sala_core.viewing.session_texts import session_finder

    with closing(Library.open_to_read(folder)) as library:
        finder = session_finder(library, library.session(arguments.session).id)
        found = finder.passages(arguments.question, arguments.most)
    if arguments.json:
        print(json.dumps([item.to_json() for item in found], ensure_ascii=False, indent=2), flush=True)
    elif not found:
        print("No passage has any of these words")
    else:
        print("\n\n".join(map(_lines, found)), flush=True)
    return 0 if found else _NOTHING


def _lines(item: Evidence) -> str:
    where = place(item.page, item.line_start, item.line_end, document=item.document)
    text = "\n".join(f"    {line}" for line in item.text.splitlines())
    return f"{item.document}, {where}\n{text}"
