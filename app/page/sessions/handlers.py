"""Handlers of what concerns whole sessions: open one by its id, pin, delete with undo, load a session's own model."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING

from app.page.render import Changes
from app.page.sessions.panel import SessionsPanel
from app.page.settings.stored import load_program
from app.page.view import find_session
from sala_core.errors import SalaError

if TYPE_CHECKING:
    from sala_core.session.workspace import Workspace


class SessionHandlers:
    """Open, pin, delete, load the own model."""

    def __init__(
        self,
        workspace: Workspace,
        panel: SessionsPanel,
        toast: Callable[[str], Changes],
        show_page: Callable[[str, str], Changes],
    ) -> None:
        """Serve the controls of `panel`.

        Args:
            workspace: has the sessions.
            panel: the controls.
            toast: shows a short message.
            show_page: renders the whole page for a session id and a search.
        """
        self._workspace, self._panel, self._toast, self._show_page = workspace, panel, toast, show_page
        self._deletions = itertools.count(1)

    def open(self, target: str, search: str) -> Changes:
        """Show a session. target: its id, a colon, and a number that counts clicks."""
        session_id = target.split(":")[0]
        if find_session(self._workspace, session_id) is None:
            return self._toast("This session is not there any more.")
        return self._show_page(session_id, search)

    def pin(self, session_id: str, search: str) -> Changes:
        """Keep the open session at the top of the list, or no longer."""
        row = find_session(self._workspace, session_id)
        if row is None:
            return self._show_page("", search)
        try:
            self._workspace.library.pin_session(row.id, pinned=not row.pinned)
        except SalaError as error:
            return self._toast(str(error))
        return self._show_page(session_id, search)

    def delete(self, session_id: str, search: str) -> Changes:
        """Move the open session to the bin, and show the next one. The page then offers "Undo"."""
        if self._workspace.active_job(session_id) is not None:
            return self._toast("This session is at work; stop it first.")
        try:
            row = self._workspace.library.bin_session(session_id)
        except SalaError as error:
            return self._toast(str(error))
        rows = self._workspace.library.sessions()
        undo = f"{row.id}:{next(self._deletions)}:{row.name}"
        return self._show_page(rows[0].id if rows else "", search) | {self._panel.undo: undo}

    def use_own_model(self, session_id: str) -> Changes:
        """Load the model that has read the open session."""
        from sala_core.session.workspace import ModelChoice

        row = find_session(self._workspace, session_id)
        if row is None:
            return self._show_page("", "")
        program = load_program(self._workspace.library.folder)
        try:
            choice = ModelChoice(model=row.model, device=program.device, kv=program.kv_kind)
            self._workspace.switch_model(choice)
        except SalaError as error:
            return self._toast(str(error))
        return self._toast(f"{row.model} is loaded as soon as the work under way is done.")
