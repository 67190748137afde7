"""Handlers of the buttons under the turns."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import gradio as gr

from app import wording
from app.page.answer_settings import AnswerSettings
from app.page.session_list import copy_name
from app.page.turns.panel import TurnsPanel
from app.page.turns.waiting_questions import CANCEL, waiting_html, waiting_questions
from app.page.view import find_session
from sala_core.errors import SalaError

if TYPE_CHECKING:
    from sala_core.session.workspace import Workspace
    from sala_core.store.turns.operations import DeletedTurn, TurnChange

Changes = dict[Any, Any]
_STEPS = {"previous": -1, "next": 1}
_KEPT = 20
"""Deletions that can be taken back."""


class TurnHandlers:
    """What the buttons under a turn do."""

    def __init__(
        self,
        workspace: Workspace,
        panel: TurnsPanel,
        *,
        toast: Callable[[str], Changes],
        submit: Callable[[Callable[[], str]], Changes],
        show: Callable[[str, str], Changes],
        settings: Callable[[], AnswerSettings],
        waiting: gr.Markdown,
    ) -> None:
        """Serve one page.

        Args:
            workspace: holds the sessions.
            panel: the hidden fields.
            toast: shows a short message.
            submit: starts a job.
            show: renders the whole page for a session id and a search.
            settings: the user's answer settings.
            waiting: shows the questions that wait.
        """
        self._workspace, self._panel, self._toast, self._submit = workspace, panel, toast, submit
        self._deleted: dict[str, DeletedTurn] = {}
        self._deletions = itertools.count(1)
        self._show, self._settings, self._waiting = show, settings, waiting

    def act(self, session_id: str, target: str, search: str) -> Changes:
        """Do what a button says. target: as `TurnsPanel.action`."""
        action, turn, _ = [*target.split(":"), "", "", ""][:3]
        if action == CANCEL:
            return self._cancel(session_id, turn)
        row = find_session(self._workspace, session_id)
        if row is None or not turn or (action == "undo" and turn not in self._deleted):
            return self._show(session_id, search)
        if self._workspace.active_job(session_id) is not None:
            return self._toast("This session is at work. Do that when it is done, or press Stop first.")
        try:
            if action == "regenerate":
                return self._submit(lambda: self._regenerate(session_id, turn))
            if action == "branch":
                return self._branch(session_id, row.name, turn)
            if action == "delete":
                return self._delete(session_id, turn, search)
            if action == "undo":
                change = self._workspace.library.restore_turn(session_id, self._deleted.pop(turn))
                words = "The turn is back"
            else:
                change = self._workspace.library.show_version(session_id, turn, _STEPS[action])
                words = "Another version is shown"
        except SalaError as error:
            return self._show(session_id, search) | self._toast(str(error))
        return self._show(session_id, search) | self._toast(f"{words} · {cost_words(change)}")

    def _cancel(self, session_id: str, job_id: str) -> Changes:
        """Take back a question that waits."""
        try:
            self._workspace.questions.cancel(job_id)
        except SalaError as error:
            return self._toast(str(error))
        return {self._waiting: waiting_html(waiting_questions(self._workspace, session_id))}

    def _delete(self, session_id: str, turn: str, search: str) -> Changes:
        """Delete a turn; the page then offers "Undo"."""
        change = self._workspace.library.delete_turn(session_id, turn)
        if change.deleted is not None:
            self._deleted[turn] = change.deleted
        for oldest in list(self._deleted)[:-_KEPT]:
            del self._deleted[oldest]
        undo = f"{turn}:{next(self._deletions)}:Turn deleted · {cost_words(change)}"
        return self._show(session_id, search) | {self._panel.undo: undo}

    def _regenerate(self, session_id: str, turn: str) -> str:
        question = next(row.text for row in self._workspace.library.messages(session_id) if row.id == turn)
        changes = self._settings().changes
        return self._workspace.submit_ask(session_id, question, changes=changes, instead_of=turn)

    def _branch(self, session_id: str, name: str, turn: str) -> Changes:
        change = self._workspace.library.branch_session(session_id, copy_name(self._workspace, name), turn)
        words = f"Branched as “{change.session.name}” · {cost_words(change)}"
        if change.left_out:
            words += f" · without {wording.plural(change.left_out, 'document')} read later"
        return self._show(change.session.id, "") | self._toast(words)


def cost_words(change: TurnChange) -> str:
    """What the next question has to read again because of a change."""
    words = f"{wording.plural(change.document_tokens, 'document token')} re-read"
    if change.turn_tokens:
        words += f", {wording.count(change.turn_tokens)} of the turns behind it"
    return words
