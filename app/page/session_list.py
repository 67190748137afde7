"""The sessions: find, open, make, rename, delete."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import gradio as gr

from app import wording
from app.page.markup import block, escape, tag
from app.page.view import find_session

if TYPE_CHECKING:
    from sala_core.session.workspace import Workspace
    from sala_core.store.rows import SessionRow

MAX_NAME_CHARS = 80
MAX_COPIED_CHARS = 180
_COPY = re.compile(r" \(copy(?: \d+)?\)$")
UNTITLED = re.compile(r"Untitled(?: \d+)?")


@dataclass(frozen=True, kw_only=True)
class LibraryPanel:
    """The left column's controls."""

    new: gr.Button
    search: gr.Textbox
    sessions: gr.Radio
    empty: gr.Markdown


def build() -> LibraryPanel:
    """Lay out the left column's upper part."""
    gr.Markdown(block(tag("span", "Sala", class_="wordmark"), class_="brand"), elem_id="brand")
    new = gr.Button("New session", elem_id="new-session", size="sm")
    search = gr.Textbox(
        placeholder="Search names and talk",
        label="Search sessions",
        show_label=False,
        elem_id="search",
        container=False,
    )
    sessions = gr.Radio([], label="Sessions", show_label=False, container=False, interactive=True, elem_id="sessions")
    empty = gr.Markdown("", elem_id="sessions-empty")
    return LibraryPanel(new=new, search=search, sessions=sessions, empty=empty)


def session_choices(rows: Sequence[SessionRow]) -> list[tuple[str, str]]:
    """(two-line label, id) of each session; the second line says what it holds and since when."""
    return [(f"{row.name}\n{_detail(row)}", row.id) for row in rows]


def _detail(row: SessionRow) -> str:
    when = wording.ago(row.updated_at)
    if not row.num_documents:
        return f"{wording.plural(row.num_messages, 'message')} · {when}" if row.num_messages else f"empty · {when}"
    return f"{wording.plural(row.num_documents, 'document')} · {when}"


def empty_html(search: str, num_sessions: int) -> str:
    """What stands in the place of an empty list."""
    if num_sessions:
        return ""
    words = f"Nothing found for “{escape(search)}”." if search else "Your sessions will be listed here."
    return block(tag("p", words, class_="hint"), class_="empty-list")


def unused_name(workspace: Workspace, suggested_name: str = "Untitled") -> str:
    """`wish`, or `wish 2`, `wish 3`, ... whichever no session has."""
    taken = {row.name for row in workspace.library.sessions()}
    number, name = 1, suggested_name
    while name in taken:
        number += 1
        name = f"{suggested_name} {number}"
    return name


def is_blank(row: SessionRow) -> bool:
    """Whether nothing was done in the session yet, not even naming it."""
    return bool(UNTITLED.fullmatch(row.name)) and not row.num_documents and not row.num_messages


def session_for(workspace: Workspace, session_id: str, suggested_name: str) -> SessionRow:
    """The session with this id, named after what it is first given where it is blank; a new one where it is gone."""
    row = find_session(workspace, session_id)
    suggested_name = (
        "".join(filter(str.isprintable, " ".join(suggested_name.split())))[:MAX_NAME_CHARS].strip() or "Untitled"
    )
    if row is None:
        return workspace.new_session(unused_name(workspace, suggested_name))
    if is_blank(row):
        workspace.library.rename_session(row.id, unused_name(workspace, suggested_name))
    return row


def copy_name(workspace: Workspace, name: str) -> str:
    """`name (copy)`, or `name (copy 2)`, ... whichever no session has; a copy's copy counts on."""
    base = _COPY.sub("", name)[:MAX_COPIED_CHARS].rstrip()
    taken = {row.name for row in workspace.library.sessions()}
    number, suggested_name = 1, f"{base} (copy)"
    while suggested_name in taken:
        number += 1
        suggested_name = f"{base} (copy {number})"
    return suggested_name


def copied_words(row: SessionRow) -> str:
    """What is said when `row` was made as a copy."""
    if not row.num_tokens:
        return f"Copied as “{row.name}”."
    return f"Copied as “{row.name}”. The two share all that was read: nothing is read twice."


def title_html(row: SessionRow | None) -> str:
    """The open session's name; page.js keeps the window's address in step with it."""
    if row is None:
        return block(tag("h1", "Read something long"), class_="title title-none")
    return block(tag("h1", escape(row.name)), class_="title")
