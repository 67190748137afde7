"""`sessions`, `show`, `fork`, `delete` and `restore`: the library from the command line, without a model."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from app.grammar.parser import Arguments
from app.page.export.gather import gather, write_export
from app.page.export.objects import session_object
from app.wording import ago, count, days_left, plural, size
from sala_core.disk.files import READABLE_BY_ALL, write_file
from sala_core.errors import SalaError, SessionNotFoundError

if TYPE_CHECKING:
    from app.page.export.gather import Conversation
    from sala_core.store.library import Library


def list_sessions(arguments: Arguments, folder: Path) -> int:
    """Print every session, the latest first, or those in the bin."""
    with closing(_open_to_read(folder)) as library:
        rows = library.sessions_in_bin() if arguments.bin else library.sessions()
        states = {row.id: library.session_state_bytes(row.id) for row in rows}
    if arguments.json:
        _print_json([session_object(row, states[row.id]) for row in rows])
    elif not rows:
        print(f"No sessions in {'the bin of ' if arguments.bin else ''}{folder}")
    width = max((len(row.name) for row in rows), default=0)
    for row in () if arguments.json else rows:
        tokens, documents = plural(row.num_tokens, "token"), plural(row.num_documents, "document")
        messages = plural(row.num_messages, "message")
        saved = size(states[row.id])
        when = ago(row.updated_at) + (", pinned" if row.pinned else "")
        if row.binned_at is not None:
            when = f"deleted {ago(row.binned_at)}, {days_left(row.binned_at)}"
        print(f"{row.name:{width}}  {tokens:>16}  {documents:>14}  {messages:>12}  {saved:>8}  {when}")
    return 0


def show(arguments: Arguments, folder: Path) -> int:
    """Print one session's sources and conversation, or write them to a file. Raises SessionNotFoundError, SalaError."""
    with closing(_open_to_read(folder)) as library:
        found = gather(library, arguments.session)
    shown = _session_text(found) if arguments.show_as == "text" else write_export(found, arguments.show_as)
    if arguments.out_file is None:
        print(shown, flush=True)
        return 0
    if arguments.out_file.exists():
        raise SalaError(f"{arguments.out_file} is there already; choose another name, or remove it")
    write_file(arguments.out_file.absolute(), [memoryview(f"{shown}\n".encode())], mode=READABLE_BY_ALL)
    print(f"{found.row.name} is in {arguments.out_file}")
    return 0


def fork(arguments: Arguments, folder: Path) -> int:
    """Copy a session under another name. Raises SessionNotFoundError, SessionExistsError."""
    with closing(_open(folder)) as library:
        row = library.fork_session(library.session(arguments.session).id, arguments.new_session)
        library.tidy()
    print(f"Forked {arguments.session} as {row.name}; {plural(row.position, 'token')} shared")
    return 0


def delete(arguments: Arguments, folder: Path) -> int:
    """Move a session to the bin, or delete one for good. Raises SessionNotFoundError, SessionBusyError."""
    with closing(_open(folder)) as library:
        if not arguments.now:
            row = library.bin_session(library.session(arguments.session).id)
            print(f"Moved {row.name} to the bin, for 30 days; bring it back with: restore {row.name!r}")
            return 0
        try:
            row = library.session(arguments.session)
        except SessionNotFoundError:
            row = library.in_bin(arguments.session)
        freed = library.delete_session(row.id)
        library.tidy()
    print(f"Deleted {row.name}; {size(freed)} freed")
    return 0


def restore(arguments: Arguments, folder: Path) -> int:
    """Bring a session back from the bin. Raises SessionNotFoundError, SessionBusyError."""
    with closing(_open(folder)) as library:
        row = library.restore_session(arguments.session)
    print(f"Restored {row.name}; {plural(row.position, 'token')} need not be read again")
    return 0


COMMANDS: dict[str, Callable[[Arguments, Path], int]] = {
    "sessions": list_sessions,
    "show": show,
    "fork": fork,
    "delete": delete,
    "restore": restore,
}


def _session_text(found: Conversation) -> str:
    """Write what `show` prints."""
    row, notes = found.row, found.notes
    tokens = f"{plural(row.num_tokens, 'token')}, {count(row.position)} of them saved as state"
    lines = [f"{row.name}: {tokens}, {row.model}"]
    lines.append(f"Saved state: {size(found.state_bytes)} on disk, {size(row.bytes_written)} written so far")
    lines += ["", "Sources:"] if found.documents else ["", "Nothing was read yet."]
    for document in found.documents:
        pages = f", {plural(document.num_pages, 'page')}" if document.num_pages else ""
        lines.append(f"  {document.name}: {plural(document.num_tokens, 'token')}{pages}")
        lines += [f"    {warning}" for warning in (*document.warnings, *notes.get(document.id, ()))]
    for message in found.messages:
        lines += ["", f"{message.role}: {message.text}"]
        lines += [f"  [answered from {words}]" for words in notes.get(message.id, ())]
    return "\n".join(lines)


def _open_to_read(folder: Path) -> Library:
    from sala_core.store.library import Library

    library = Library.open_to_read(folder)
    for notice in library.take_notices():
        print(f"Note: {notice}", file=sys.stderr)
    return library


def _open(folder: Path) -> Library:
    from sala_core.store.library import Library

    return Library.open(folder)


def _print_json(value: object) -> None:
    print(json.dumps(value, ensure_ascii=False, indent=2), flush=True)
