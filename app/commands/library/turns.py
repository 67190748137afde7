"""`turns` and `fork --at`: the turns of a conversation from the command line, without a model."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.grammar.parser import Arguments
from app.wording import plural

if TYPE_CHECKING:
    from sala_core.store.library import Library
    from sala_core.store.turns.operations import TurnChange, TurnRow

_LINE_CHARS = 100


def turns(arguments: Arguments, folder: Path) -> int:
    """List the turns, delete one, or show another version of one.

    Raises SessionNotFoundError, SessionBusyError; LibraryError if there is no such turn or version.
    """
    from sala_core.store.library import Library
    from sala_core.store.turns.operations import numbered

    asked = arguments.turns
    assert asked is not None
    is_change = (asked.delete, asked.previous, asked.next) != (None, None, None)
    with closing(Library.open(folder) if is_change else Library.open_to_read(folder)) as library:
        session_id = library.session(arguments.session).id
        rows = library.turns(session_id)
        if asked.delete is not None:
            change = library.delete_turn(session_id, numbered(rows, asked.delete).id)
            print(f"Deleted turn {asked.delete}; {change_words(change)}")
        for number, step in ((asked.previous, -1), (asked.next, 1)):
            if number is not None:
                change = library.show_version(session_id, numbered(rows, number).id, step)
                print(f"Another version of turn {number} is shown; {change_words(change)}")
        if not is_change:
            _print_turns(arguments, library, session_id, rows)
    return 0


def branch(arguments: Arguments, folder: Path) -> int:
    """Copy a session up to a turn. Raises SessionNotFoundError, SessionExistsError, LibraryError."""
    from sala_core.store.library import Library
    from sala_core.store.turns.operations import numbered

    assert arguments.at is not None
    with closing(Library.open(folder)) as library:
        session_id = library.session(arguments.session).id
        turn = numbered(library.turns(session_id), arguments.at)
        change = library.branch_session(session_id, arguments.new_session, turn.id)
        library.tidy()
    print(f"Forked {arguments.session} at turn {arguments.at} as {change.session.name}; {change_words(change)}")
    return 0


def change_words(change: TurnChange) -> str:
    """What a change of a conversation costs: "0 document tokens re-read"."""
    words = f"{plural(change.document_tokens, 'document token')} re-read"
    if change.turn_tokens:
        words += f", {plural(change.turn_tokens, 'token')} of the turns behind it"
    if change.left_out:
        words += f"; {plural(change.left_out, 'document')} that came later left out"
    return words


def turn_object(turn: TurnRow, question: str, answer: str) -> dict[str, Any]:
    """Return the JSON object of a turn."""
    return {
        "turn": turn.number,
        "id": turn.id,
        "question": question,
        "answer": answer,
        "version": turn.version,
        "versions": len(turn.versions),
        "tokens": turn.end - turn.start,
    }


def _print_turns(arguments: Arguments, library: Library, session_id: str, rows: list[TurnRow]) -> None:
    texts = {row.id: row.text for row in library.messages(session_id)}
    if arguments.json:
        found = [turn_object(row, texts.get(row.id, ""), texts.get(row.answer_id, "")) for row in rows]
        print(json.dumps(found, ensure_ascii=False, indent=2), flush=True)
        return
    if not rows:
        print(f"Nothing was asked in {arguments.session} yet")
    for row in rows:
        version = f" ({row.version} of {len(row.versions)})" if len(row.versions) > 1 else ""
        print(f"{row.number:3}. {_one_line(texts.get(row.id, ''))}{version}")
        print(f"     {_one_line(texts.get(row.answer_id, '')) or '(no answer)'}")


def _one_line(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _LINE_CHARS else line[: _LINE_CHARS - 1].rstrip() + "…"
