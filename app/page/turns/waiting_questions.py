"""The questions of a session that wait behind the one that is being answered, each with "Cancel"."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from app.page.markup import carrier, escape, tag
from app.page.turns.queue_words import waiting_words
from sala_core.store.rows import AskRequest

if TYPE_CHECKING:
    from sala_core.session.workspace import JobView, Workspace

CANCEL = "cancel"
"""The action of the button, as `TurnsPanel.action` names it; the turn is the id of the job."""


def waiting_questions(workspace: Workspace, session_id: str) -> list[JobView]:
    """The questions that wait behind the one that is shown as asked, in order."""
    active = workspace.active_job(session_id)
    return [job for job in workspace.questions.waiting(session_id) if active is None or job.id != active.id]


def waiting_html(jobs: Sequence[JobView]) -> str:
    """The HTML of the control `waiting`, in which talk.js shows it; '' where nothing waits."""
    return carrier("".join(map(_question_html, jobs)))


def _question_html(job: JobView) -> str:
    question = job.request.question if isinstance(job.request, AskRequest) else ""
    name = f"Cancel the question: {question[:80]}"
    cancel = {"type": "button", "class_": "turn-tool", "data_action": CANCEL, "data_turn": job.id, "aria_label": name}
    place = tag("span", escape(waiting_words(job.waiting)), class_="version")
    tools = tag("div", place, tag("button", "Cancel", **cancel), class_="tools")
    return tag("article", tag("div", escape(question), class_="message"), tools, class_="turn user-row waits")
