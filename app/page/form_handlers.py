"""Handlers of forms: free space, and what concerns a session's sources."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import gradio as gr

from app import wording
from app.page import space
from app.page.panels import Panels
from app.page.render import Changes
from sala_core.errors import SalaError

if TYPE_CHECKING:
    from sala_core.session.workspace import Workspace

Toast = Callable[[str], Changes]
"""Shows a short message that disappears by itself."""


class SpaceHandlers:
    """The form that frees space on disk."""

    def __init__(
        self, workspace: Workspace, panels: Panels, toast: Toast, show_page: Callable[[str, str], Changes]
    ) -> None:
        """Serve the form of `panels`.

        Args:
            workspace: where space is freed.
            panels: the page's controls.
            toast: shows a short message.
            show_page: renders the whole page for a session id and a search.
        """
        self._workspace, self._panel, self._toast, self._show_page = workspace, panels.space, toast, show_page

    def open(self) -> Changes:
        """List what can be freed. What has not been used for a long time is already chosen."""
        items = space.freeable(self._workspace)
        proposed = [item.key for item in items if item.is_proposed]
        choices = [(item.label, item.key) for item in items]
        return self.choose(proposed) | {
            self._panel.form: gr.update(visible=True),
            self._panel.question: space.question_html(items),
            self._panel.choice: gr.update(choices=choices, value=proposed, visible=bool(items)),
            self._panel.keep: "Keep all" if items else "Close",
        }

    def choose(self, keys: list[str]) -> Changes:
        """Show how many bytes the chosen items free."""
        num_bytes = space.chosen_bytes(self._workspace, keys)
        words = f"Free {wording.size(num_bytes)}" if keys else "Free"
        return {self._panel.free: gr.update(value=words, interactive=bool(keys))}

    def free(self, session_id: str, search: str, keys: list[str]) -> Changes:
        """Free the chosen items, and show how many bytes that were."""
        try:
            freed, kept = space.free(self._workspace, keys)
        except SalaError as error:
            return self._toast(str(error))
        return self._show_page(session_id, search) | self.close() | self._toast(space.freed_words(freed, kept))

    def close(self) -> Changes:
        """Hide the form."""
        return {self._panel.form: gr.update(visible=False)}
