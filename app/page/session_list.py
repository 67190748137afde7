"""The list of sessions, and the names of new and copied ones."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Mapping, Sequence
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


def brand_html() -> str:
    """The program's name."""
    return block(tag("span", "Sala", class_="wordmark"), class_="brand")


def session_choices(rows: Sequence[SessionRow], sizes: Mapping[str, int]) -> list[tuple[str, str]]:
    """(two-line label, id) of each session. The second line tells its contents, its size, and when it was last used.

    sizes: bytes of saved states, by session id.
    """
    return [(f"{row.name}\n{_detail(row, sizes.get(row.id, 0))}", row.id) for row in rows]


def _detail(row: SessionRow, num_bytes: int) -> str:
    facts = ["pinned"] if row.pinned else []
    if row.num_documents:
        facts.append(wording.plural(row.num_documents, "document"))
    else:
        facts.append(wording.plural(row.num_messages, "message") if row.num_messages else "empty")
    if num_bytes:
        facts.append(wording.size(num_bytes))
    return " · ".join([*facts, wording.ago(row.updated_at)])


def empty_html(search: str, num_sessions: int) -> str:
    """The text in place of an empty list. search: what the list was searched for."""
    if num_sessions:
        return ""
    words = f"Nothing found for “{escape(search)}”." if search else "Your sessions will be listed here."
    return block(tag("p", words, class_="hint"), class_="empty-list")


def unused_name(workspace: Workspace, name: str = "Untitled") -> str:
    """`name`, or `name 2`, `name 3`, ...: the first that no session has."""
    return _first_free(workspace, name, lambda number: f"{name} {number}")


def copy_name(workspace: Workspace, name: str) -> str:
    """`name (copy)`, or `name (copy 2)`, ...: the first that no session has. A copy's copy gets the next number."""
    base = _COPY.sub("", name)[:MAX_COPIED_CHARS].rstrip()
    return _first_free(workspace, f"{base} (copy)", lambda number: f"{base} (copy {number})")


def _first_free(workspace: Workspace, name: str, numbered: Callable[[int], str]) -> str:
    """`name`, or the first of numbered(2), numbered(3), ... that no session has."""
    taken = {row.name for row in workspace.library.sessions()}
    names = itertools.chain([name], map(numbered, itertools.count(2)))
    return next(name for name in names if name not in taken)


def is_blank(row: SessionRow) -> bool:
    """Whether the session is empty and still has the name of a new one."""
    return bool(UNTITLED.fullmatch(row.name)) and not row.num_documents and not row.num_messages


def session_for(workspace: Workspace, session_id: str, suggested_name: str) -> SessionRow:
    """The session with this id; a new one where it no longer exists. A new or blank one gets the suggested name."""
    row = find_session(workspace, session_id)
    printable = "".join(filter(str.isprintable, " ".join(suggested_name.split())))
    name = printable[:MAX_NAME_CHARS].strip() or "Untitled"
    if row is None:
        return workspace.new_session(unused_name(workspace, name))
    if is_blank(row):
        workspace.library.rename_session(row.id, unused_name(workspace, name))
    return row


def copied_words(row: SessionRow) -> str:
    """The message after `row` was made as a copy."""
    if not row.num_tokens:
        return f"Copied as “{row.name}”."
    return f"Copied as “{row.name}”. The two share all that was read: nothing is read twice."


def title_html(row: SessionRow | None) -> str:
    """The open session's name. page.js keeps the window's address in step with it."""
    if row is None:
        return block(tag("h1", "Read something long"), class_="title title-none")
    return block(tag("h1", escape(row.name)), class_="title")
