"""The form that frees space on disk: what can be freed, what the user has chosen, and the result."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import gradio as gr

from app import wording
from app.page.markup import block, escape, tag
from sala_core.errors import SessionBusyError, SessionNotFoundError

if TYPE_CHECKING:
    from sala_core.session.workspace import Workspace

LEFT_OVER = "left-over"
SENT = "sent"
"""The conversations of other programs (`store.turns.served`), which stand in no list of sessions."""

IDLE_S = 30 * 86_400.0
"""A session that has not been used for this long is proposed."""
MAX_LISTED = 100


@dataclass(frozen=True, kw_only=True)
class SpacePanel:
    """The form that frees space."""

    form: gr.Column
    question: gr.Markdown
    choice: gr.CheckboxGroup
    free: gr.Button
    keep: gr.Button


@dataclass(frozen=True, kw_only=True)
class Freeable:
    """Something that can be freed. key: a session's id, LEFT_OVER or SENT."""

    key: str
    label: str
    num_bytes: int
    is_proposed: bool


def build() -> SpacePanel:
    """Lay out the form, hidden."""
    with gr.Column(elem_id="space-form", elem_classes="form-card", visible=False) as form:
        gr.Markdown("## Free space", elem_classes="panel-heading")
        question = gr.Markdown("", latex_delimiters=[])
        choice = gr.CheckboxGroup(
            [], label="What to free", show_label=False, container=False, interactive=True, elem_id="space-choice"
        )
        with gr.Row(elem_classes="form-buttons"):
            free = gr.Button("Free", variant="stop", size="sm", scale=0, min_width=72, elem_id="confirm-free")
            keep = gr.Button("Keep all", size="sm", scale=0, min_width=72, elem_id="keep-space")
    return SpacePanel(form=form, question=question, choice=choice, free=free, keep=keep)


def freeable(workspace: Workspace, now: float | None = None) -> list[Freeable]:
    """What can be freed: what no session needs, then saved states, those of the least recently used session first.

    `num_bytes` counts what no other session shares. A session that shares everything is listed too, because all
    sessions that share it can be chosen together.
    """
    now = time.time() if now is None else now
    items = []
    left_over = workspace.library.garbage_bytes()
    if left_over:
        items.append(
            Freeable(
                key=LEFT_OVER,
                label=f"Left over: no session needs it\n{wording.size(left_over)}",
                num_bytes=left_over,
                is_proposed=True,
            )
        )
    sent = [row.id for row in workspace.library.sessions_of_others()]
    if sent:
        num_bytes = workspace.library.droppable_bytes(sent)
        items.append(
            Freeable(
                key=SENT,
                label=f"Sent by other programs: {wording.plural(len(sent), 'conversation')}\n{wording.size(num_bytes)}",
                num_bytes=num_bytes,
                is_proposed=False,
            )
        )
    for row in sorted(workspace.library.sessions(), key=lambda row: row.updated_at)[:MAX_LISTED]:
        whole = workspace.library.session_state_bytes(row.id) if row.position else 0
        if whole and workspace.active_job(row.id) is None:
            num_bytes = workspace.library.droppable_bytes([row.id])
            used = wording.ago(row.updated_at, now)
            shared = f" and {wording.size(whole - num_bytes)} shared" if whole > num_bytes else ""
            items.append(
                Freeable(
                    key=row.id,
                    label=f"{row.name}\n{wording.size(num_bytes)}{shared} · used {used}",
                    num_bytes=num_bytes,
                    is_proposed=now - row.updated_at > IDLE_S,
                )
            )
    return items


def chosen_bytes(workspace: Workspace, keys: Collection[str]) -> int:
    """Bytes that freeing these items brings, with states that only they share."""
    sessions = [session_id for key in keys for session_id in _sessions(workspace, key)]
    left_over = workspace.library.garbage_bytes() if LEFT_OVER in keys else 0
    return left_over + workspace.library.droppable_bytes(sessions)


def free(workspace: Workspace, keys: Collection[str]) -> tuple[int, list[str]]:
    """Free the chosen items. Returns the bytes freed and the reasons why items were kept. Raises LibraryError."""
    freed, kept = 0, []
    for session_id in (session_id for key in keys for session_id in _sessions(workspace, key)):
        try:
            if workspace.active_job(session_id) is not None:
                raise SessionBusyError(f"session {workspace.library.session(session_id).name!r} is at work")
            freed += workspace.library.drop_state(session_id)
        except SessionNotFoundError:
            continue
        except SessionBusyError as error:
            kept.append(str(error))
    if LEFT_OVER in keys:
        freed += workspace.library.collect_garbage()
    return freed, kept


def _sessions(workspace: Workspace, key: str) -> list[str]:
    """The sessions whose states an item stands for."""
    if key == SENT:
        return [row.id for row in workspace.library.sessions_of_others()]
    return [key] if key != LEFT_OVER else []


def question_html(items: Sequence[Freeable]) -> str:
    """The text above the choice: what freeing means."""
    if not items:
        return block(tag("p", "Nothing can be freed: no state is saved."), class_="question")
    words = (
        "Choose what to free. Texts and conversations stay. A session whose saved state is freed is read again "
        "when you ask it a question, which takes as long as the first time. What sessions share is freed when all of "
        "them are chosen."
    )
    return block(tag("p", escape(words)), class_="question")


def freed_words(freed: int, kept: Sequence[str]) -> str:
    """The message after freeing."""
    return " ".join([f"{wording.size(freed)} freed.", *(f"Not freed: {words}." for words in kept)])
