"""`sessions`, `show`, `fork` and `delete`: the library from the command line, without a model."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.grammar.parser import Arguments
from app.wording import ago, count, plural, size

if TYPE_CHECKING:
    from sala_core.store.library import Library
    from sala_core.store.rows import DocumentRow, MessageRow, SessionRow, SourceRow


def list_sessions(arguments: Arguments, folder: Path) -> int:
    """Print every session, the latest first."""
    with closing(_open_to_read(folder)) as library:
        rows = library.sessions()
        states = {row.id: library.session_state_bytes(row.id) for row in rows}
    if arguments.json:
        _print_json([session_object(row, states[row.id]) for row in rows])
    elif not rows:
        print(f"No sessions in {folder}")
    width = max((len(row.name) for row in rows), default=0)
    for row in () if arguments.json else rows:
        tokens, documents = plural(row.num_tokens, "token"), plural(row.num_documents, "document")
        messages = plural(row.num_messages, "message")
        saved = size(states[row.id])
        print(f"{row.name:{width}}  {tokens:>16}  {documents:>14}  {messages:>12}  {saved:>8}  {ago(row.updated_at)}")
    return 0


def show(arguments: Arguments, folder: Path) -> int:
    """Print one session's sources and conversation. Raises SessionNotFoundError."""
    with closing(_open_to_read(folder)) as library:
        row = library.session(arguments.session)
        state_bytes = library.session_state_bytes(row.id)
        documents = [
            library.document(part.document_id) for part in library.parts(row.id) if part.document_id is not None
        ]
        messages = library.messages(row.id)
        rows = library.sources(row.id)
        outdated = library.outdated_answers(row.id)
    files = {source.content_hash: source for source in rows if source.status != "removed"}
    if arguments.json:
        sources = [document_object(document, files.get(document.content_hash)) for document in documents]
        conversation = [message_object(message, outdated.get(message.id, ())) for message in messages]
        _print_json({**session_object(row, state_bytes), "documents": sources, "messages": conversation})
    else:
        notes = {document.id: _file_notes(files.get(document.content_hash)) for document in documents}
        print(_session_text(row, state_bytes, documents, messages, notes | outdated))
    return 0


def fork(arguments: Arguments, folder: Path) -> int:
    """Copy a session under another name. Raises SessionNotFoundError, SessionExistsError."""
    with closing(_open(folder)) as library:
        row = library.fork_session(library.session(arguments.session).id, arguments.new_session)
    print(f"Forked {arguments.session} as {row.name}; {plural(row.position, 'token')} shared")
    return 0


def delete(arguments: Arguments, folder: Path) -> int:
    """Delete a session. Raises SessionNotFoundError, SessionBusyError."""
    with closing(_open(folder)) as library:
        freed = library.delete_session(library.session(arguments.session).id)
    print(f"Deleted {arguments.session}; {size(freed)} freed")
    return 0


COMMANDS: dict[str, Callable[[Arguments, Path], int]] = {
    "sessions": list_sessions,
    "show": show,
    "fork": fork,
    "delete": delete,
}


def session_object(row: SessionRow, state_bytes: int) -> dict[str, Any]:
    """Return the JSON object of a session. state_bytes: of its saved state, with what other sessions share."""
    return {
        "name": row.name,
        "id": row.id,
        "model": row.model,
        "tokens": row.num_tokens,
        "tokens_saved": row.position,
        "state_bytes": state_bytes,
        "bytes_written": row.bytes_written,
        "num_documents": row.num_documents,
        "num_messages": row.num_messages,
        "created_at": _iso(row.created_at),
        "updated_at": _iso(row.updated_at),
    }


def document_object(row: DocumentRow, source: SourceRow | None = None) -> dict[str, Any]:
    """Return the JSON object of a document. `pages` is 0 if the format has no pages. source: its file, if known."""
    return {
        "id": row.id,
        "name": row.name,
        "media_type": row.media_type,
        "bytes": row.num_bytes,
        "pages": row.num_pages,
        "tokens": row.num_tokens,
        "warnings": list(row.warnings),
        "path": source.path if source is not None and not source.is_upload else None,
        "status": source.status if source is not None else "unknown",
    }


def message_object(row: MessageRow, outdated: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return the JSON object of a message. outdated: what an answer refers to that is not in the session any more."""
    return {
        "id": row.id,
        "role": row.role,
        "text": row.text,
        "thinking": row.thinking,
        "status": row.status,
        "evidence": [item.to_json() for item in row.evidence],
        "answered_from": list(outdated),
        "created_at": _iso(row.created_at),
    }


def _file_notes(source: SourceRow | None) -> tuple[str, ...]:
    """What `show` says of a document's file."""
    words = {"gone": "its file is gone", "unreadable": "its file could not be opened when its folder was last read"}
    return (words[source.status],) if source is not None and source.status in words else ()


def _session_text(
    row: SessionRow,
    state_bytes: int,
    documents: list[DocumentRow],
    messages: list[MessageRow],
    notes: Mapping[str, tuple[str, ...]],
) -> str:
    """Write what `show` prints.

    Args:
        row: the session.
        state_bytes: of its saved state.
        documents: its sources, in reading order.
        messages: its conversation.
        notes: about a document or an answer, by its id.
    """
    tokens = f"{plural(row.num_tokens, 'token')}, {count(row.position)} of them saved as state"
    lines = [f"{row.name}: {tokens}, {row.model}"]
    lines.append(f"Saved state: {size(state_bytes)} on disk, {size(row.bytes_written)} written so far")
    lines += ["", "Sources:"] if documents else ["", "Nothing was read yet."]
    for document in documents:
        pages = f", {plural(document.num_pages, 'page')}" if document.num_pages else ""
        lines.append(f"  {document.name}: {plural(document.num_tokens, 'token')}{pages}")
        lines += [f"    {warning}" for warning in (*document.warnings, *notes.get(document.id, ()))]
    for message in messages:
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


def _iso(timestamp: float) -> str:
    return datetime.fromtimestamp(timestamp, tz=UTC).isoformat(timespec="seconds")


def _print_json(value: object) -> None:
    print(json.dumps(value, ensure_ascii=False, indent=2), flush=True)
