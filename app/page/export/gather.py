"""A conversation as it is exported, and the format that it is written in."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args
from urllib.parse import quote

from app.page.export.as_html import html_page
from app.page.export.as_markdown import markdown_text
from app.page.export.objects import document_object, message_object, session_object

if TYPE_CHECKING:
    from sala_core.store import Library
    from sala_core.store.rows import DocumentRow, MessageRow, SessionRow, SourceRow

ExportFormat = Literal["md", "html", "json"]
FORMATS: tuple[ExportFormat, ...] = get_args(ExportFormat)
MEDIA_TYPES = {"md": "text/markdown", "html": "text/html", "json": "application/json"}
_FILE_NOTES = {"gone": "its file is gone", "unreadable": "its file could not be opened when its folder was last read"}


@dataclass(frozen=True, kw_only=True)
class Conversation:
    """A session with its sources and messages. notes: about a document or an answer, by its id."""

    row: SessionRow
    state_bytes: int
    documents: list[DocumentRow]
    files: dict[str, SourceRow]
    messages: list[MessageRow]
    outdated: Mapping[str, tuple[str, ...]]

    @property
    def notes(self) -> dict[str, tuple[str, ...]]:
        """What is not as it was when it was read or answered, by the id of a document or an answer."""
        sources = {document.id: self.files.get(document.content_hash) for document in self.documents}
        of_files = {
            key: (_FILE_NOTES[source.status],)
            for key, source in sources.items()
            if source and source.status in _FILE_NOTES
        }
        return of_files | dict(self.outdated)


def gather(library: Library, session: str) -> Conversation:
    """Gather a session by its name or id. Raises SessionNotFoundError."""
    row = library.session(session)
    ids = dict.fromkeys(part.document_id for part in library.parts(row.id) if part.document_id is not None)
    return Conversation(
        row=row,
        state_bytes=library.session_state_bytes(row.id),
        documents=[library.document(document_id) for document_id in ids],
        files={source.content_hash: source for source in library.sources(row.id) if source.status != "removed"},
        messages=library.messages(row.id),
        outdated=library.outdated_answers(row.id),
    )


def write_export(found: Conversation, form: str) -> str:
    """The conversation in one of FORMATS."""
    if form == "md":
        return markdown_text(found.row, found.documents, found.messages, found.notes)
    if form == "html":
        return html_page(found.row, found.documents, found.messages, found.notes)
    documents = [document_object(each, found.files.get(each.content_hash)) for each in found.documents]
    messages = [message_object(each, found.outdated.get(each.id, ())) for each in found.messages]
    whole = {**session_object(found.row, found.state_bytes), "documents": documents, "messages": messages}
    return json.dumps(whole, ensure_ascii=False, indent=2)


def disposition(name: str, suffix: str) -> str:
    """The header that has a browser save a file under this name."""
    plain = re.sub(r"[^\w .()-]+", "-", name, flags=re.ASCII).strip(" .-") or "conversation"
    return f"attachment; filename=\"{plain}.{suffix}\"; filename*=UTF-8''{quote(name, safe='')}.{suffix}"
