"""`sessions`, `show`, `fork` and `delete`: the library from the command line, without a model."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.grammar.parser import Arguments
from app.wording import ago, count, plural, size

if TYPE_CHECKING:
    from sala_core.store.library import Library
    from sala_core.store.rows import DocumentRow, MessageRow, SessionRow


def list_sessions(arguments: Arguments, folder: Path) -> int:
    """Print every session, the latest first."""
    with closing(_open(folder)) as library:
        rows = library.sessions()
    if arguments.json:
        _print_json([session_object(row) for row in rows])
    elif not rows:
        print(f"No sessions in {folder}")
    width = max((len(row.name) for row in rows), default=0)
    for row in () if arguments.json else rows:
        tokens, documents = plural(row.num_tokens, "token"), plural(row.num_documents, "document")
        messages = plural(row.num_messages, "message")
        print(f"{row.name:{width}}  {tokens:>16}  {documents:>14}  {messages:>12}  {ago(row.updated_at)}")
    return 0


def show(arguments: Arguments, folder: Path) -> int:
    """Print one session's sources and conversation. Raises SessionNotFoundError."""
    with closing(_open(folder)) as library:
        row = library.session(arguments.session)
        documents = [
            library.document(part.document_id) for part in library.parts(row.id) if part.document_id is not None
        ]
        messages = library.messages(row.id)
    if arguments.json:
        sources = [document_object(document) for document in documents]
        conversation = [message_object(message) for message in messages]
        _print_json({**session_object(row), "documents": sources, "messages": conversation})
    else:
        print(_session_text(row, documents, messages))
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


def session_object(row: SessionRow) -> dict[str, Any]:
    """Return the JSON object of a session."""
    return {
        "name": row.name,
        "id": row.id,
        "model": row.model,
        "tokens": row.num_tokens,
        "tokens_saved": row.position,
        "num_documents": row.num_documents,
        "num_messages": row.num_messages,
        "created_at": _iso(row.created_at),
        "updated_at": _iso(row.updated_at),
    }


def document_object(row: DocumentRow) -> dict[str, Any]:
    """Return the JSON object of a document. `pages` is 0 if the format has no pages."""
    return {
        "id": row.id,
        "name": row.name,
        "media_type": row.media_type,
        "bytes": row.num_bytes,
        "pages": row.num_pages,
        "tokens": row.num_tokens,
        "warnings": list(row.warnings),
    }


def message_object(row: MessageRow) -> dict[str, Any]:
    """Return the JSON object of a message."""
    return {
        "id": row.id,
        "role": row.role,
        "text": row.text,
        "thinking": row.thinking,
        "status": row.status,
        "evidence": [item.to_json() for item in row.evidence],
        "created_at": _iso(row.created_at),
    }


def _session_text(row: SessionRow, documents: list[DocumentRow], messages: list[MessageRow]) -> str:
    tokens = f"{plural(row.num_tokens, 'token')}, {count(row.position)} of them saved as state"
    lines = [f"{row.name}: {tokens}, {row.model}"]
    lines += ["", "Sources:"] if documents else ["", "Nothing was read yet."]
    for document in documents:
        pages = f", {plural(document.num_pages, 'page')}" if document.num_pages else ""
        lines.append(f"  {document.name}: {plural(document.num_tokens, 'token')}{pages}")
        lines += [f"    {warning}" for warning in document.warnings]
    for message in messages:
        lines += ["", f"{message.role}: {message.text}"]
    return "\n".join(lines)


def _open(folder: Path) -> Library:
    from sala_core.store.library import Library

    return Library.open(folder)


def _iso(timestamp: float) -> str:
    return datetime.fromtimestamp(timestamp, tz=UTC).isoformat(timespec="seconds")


def _print_json(value: object) -> None:
    print(json.dumps(value, ensure_ascii=False, indent=2), flush=True)
