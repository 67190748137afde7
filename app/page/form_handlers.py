"""Handlers of the two forms that concern every session: answer settings, and free space."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import gradio as gr

from app import wording
from app.page import space
from app.page.answer_settings import (
    AnswerSettings,
    error_html,
    load_settings,
    note_html,
    placeholders,
    quotation_choices,
    save_settings,
    thinking_choices,
)
from app.page.markup import block, escape
from app.page.panels import Panels
from app.page.render import Changes
from sala_core.errors import SalaError, SettingsError

if TYPE_CHECKING:
    from sala_core.session.workspace import Workspace

Toast = Callable[[str], Changes]
"""Shows a short message that disappears by itself."""


class SettingsHandlers:
    """The form of answer settings."""

    def __init__(self, workspace: Workspace, panels: Panels, toast: Toast) -> None:
        self._workspace, self._panel, self._toast = workspace, panels.settings, toast
        self._note = panels.settings_note

    def open(self) -> Changes:
        """Show the form with what is set, and in gray the model's own values.

        What concerns thinking is shown for models that can think.
        """
        panel, info = self._panel, self._workspace.model_info()
        *texts, quotations, thinking = load_settings(self._workspace.library.folder).texts()
        changes: Changes = {panel.form: gr.update(visible=True), panel.error: ""}
        for field, text, placeholder in zip(panel.fields, texts, placeholders(info.sampling), strict=True):
            changes[field] = gr.update(value=text, placeholder=placeholder)
        thinks = info.thinks_by_default is not None
        changes[panel.thinking_budget] |= {"visible": thinks}
        changes[panel.quotations] = gr.update(choices=quotation_choices(info.sampling), value=quotations)
        choices = thinking_choices(info.thinks_by_default)
        changes[panel.thinking] = gr.update(choices=choices, value=thinking, visible=thinks)
        return changes

    def save(self, *texts: str) -> Changes:
        """Store the settings and hide the form. For an invalid one, show the error in the open form.

        texts: as `AnswerSettings.from_texts` takes them.
        """
        try:
            return self._store(AnswerSettings.from_texts(*texts))
        except SettingsError as error:
            return {self._panel.error: error_html(str(error))}

    def reset(self) -> Changes:
        """Remove all settings, so that the model's own values apply."""
        return self._store(AnswerSettings())

    def close(self) -> Changes:
        """Hide the form and store nothing."""
        return {self._panel.form: gr.update(visible=False)}

    def _store(self, settings: AnswerSettings) -> Changes:
        try:
            save_settings(self._workspace.library.folder, settings)
        except SalaError as error:
            return self._toast(str(error))
        saved = self._toast("Saved. It applies from the next question on.")
        thinks = self._workspace.model_info().thinks_by_default is not None
        return self.close() | {self._note: note_html(settings.for_model(thinks=thinks))} | saved


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


class SourceHandlers:
    """The form that removes a document, and the switch that watches a folder."""

    def __init__(
        self,
        workspace: Workspace,
        panels: Panels,
        toast: Toast,
        submit: Callable[[Callable[[], str]], Changes],
    ) -> None:
        """Serve the form and the switch of `panels`.

        Args:
            workspace: removes and watches.
            panels: the page's controls.
            toast: shows a short message.
            submit: starts a job.
        """
        self._workspace, self._panels, self._toast, self._submit = workspace, panels, toast, submit

    def ask(self, session_id: str, target: str) -> Changes:
        """Ask before a document is removed. target: its id, a colon, and a number that counts clicks."""
        name = self._name(session_id, target)
        if name is None:
            return self.close()
        again = wording.plural(self._workspace.removal_cost(session_id, _id_of(target)), "token")
        words = f"Remove “{name}” from this session? About {again} behind it are read again. Your own file stays."
        form = self._panels.remove
        return {form.form: gr.update(visible=True), form.question: block(escape(words), class_="question")}

    def remove(self, session_id: str, target: str) -> Changes:
        """Remove the document."""
        if self._name(session_id, target) is None:
            return self.close()
        return self._submit(lambda: self._workspace.submit_remove(session_id, [_id_of(target)])) | self.close()

    def close(self) -> Changes:
        """Hide the form."""
        return {self._panels.remove.form: gr.update(visible=False)}

    def watch(self, session_id: str, on: bool) -> Changes:
        """Watch the session's folders, or stop it."""
        try:
            self._workspace.watchers.switch(session_id, on=on)
        except SalaError as error:
            return self._toast(str(error))
        folders = ", ".join(self._workspace.watchers.folders(session_id))
        return self._toast(f"Changes in {folders} are read as they come." if on else "Not watched any more.")

    def _name(self, session_id: str, target: str) -> str | None:
        if not session_id:
            return None
        rows = self._workspace.library.documents(session_id)
        return next((row.name for row in rows if row.id == _id_of(target)), None)


def _id_of(target: str) -> str:
    return target.split(":")[0]
