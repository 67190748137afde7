"""Room on disk: what can be freed, chosen and confirmed."""

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
IDLE_S = 30 * 86_400.0
"""A session that was not used for so long is proposed by itself."""
MAX_LISTED = 100


@dataclass(frozen=True, kw_only=True)
class SpacePanel:
    """The form that frees room."""

    form: gr.Column
    question: gr.Markdown
    choice: gr.CheckboxGroup
    free: gr.Button
    keep: gr.Button


@dataclass(frozen=True, kw_only=True)
class Freeable:
    """Something that can go: `key` is a session's id or LEFT_OVER."""

    key: str
    label: str
    num_bytes: int
    is_proposed: bool


def build() -> SpacePanel:
    """Lay out the form, closed."""
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
    """What can go: what no session needs, then the saved states of sessions, the least recently used first.

    num_bytes are those that no other session shares; a session that shares all is listed too, as all that share may go.
    """
    now = time.time() if now is None else now
    found = []
    left_over = workspace.library.garbage_bytes()
    if left_over:
        found.append(
            Freeable(
                key=LEFT_OVER,
                label=f"Left over: no session needs it\n{wording.size(left_over)}",
                num_bytes=left_over,
                is_proposed=True,
            )
        )
    for row in sorted(workspace.library.sessions(), key=lambda row: row.updated_at)[:MAX_LISTED]:
        whole = workspace.library.session_state_bytes(row.id) if row.position else 0
        if whole and workspace.active_job(row.id) is None:
            num_bytes = workspace.library.droppable_bytes([row.id])
            used = wording.ago(row.updated_at, now)
            shared = f" and {wording.size(whole - num_bytes)} shared" if whole > num_bytes else ""
            found.append(
                Freeable(
                    key=row.id,
                    label=f"{row.name}\n{wording.size(num_bytes)}{shared} · used {used}",
                    num_bytes=num_bytes,
                    is_proposed=now - row.updated_at > IDLE_S,
                )
            )
    return found


def chosen_bytes(workspace: Workspace, keys: Collection[str]) -> int:
    """What freeing these brings; states that only they share count too."""
    sessions = [key for key in keys if key != LEFT_OVER]
    left_over = workspace.library.garbage_bytes() if LEFT_OVER in keys else 0
    return left_over + workspace.library.droppable_bytes(sessions)


def free(workspace: Workspace, keys: Collection[str]) -> tuple[int, list[str]]:
    """Free what was chosen; returns the bytes freed and, in words, what had to stay. Raises LibraryError."""
    freed, kept = 0, []
    for key in keys:
        if key == LEFT_OVER:
            continue
        try:
            if workspace.active_job(key) is not None:
                raise SessionBusyError(f"session {workspace.library.session(key).name!r} is at work")
            freed += workspace.library.drop_state(key)
        except SessionNotFoundError:
            continue
        except SessionBusyError as error:
            kept.append(str(error))
    if LEFT_OVER in keys:
        freed += workspace.library.collect_garbage()
    return freed, kept


def question_html(found: Sequence[Freeable]) -> str:
    """What freeing means."""
    if not found:
        return block(tag("p", "Nothing can be freed: no state is saved."), class_="question")
    words = (
        "Choose what to free. Texts and conversations stay. A session whose saved state is freed is read again "
        "when it is asked; that takes as long as the first time. What sessions share goes when all of them are chosen."
    )
    return block(tag("p", escape(words)), class_="question")


def freed_words(freed: int, kept: Sequence[str]) -> str:
    """What is said afterwards."""
    return " ".join([f"{wording.size(freed)} freed.", *(f"Not freed: {words}." for words in kept)])
