"""What happens in the two forms that concern every session: how answers are chosen, and room on disk."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import gradio as gr

from app import wording
from app.page import space
from app.page.answer_settings import (
    AnswerSettings,
    SettingsError,
    load_settings,
    note_html,
    placeholders,
    quotation_choices,
    save_settings,
    trouble_html,
)
from app.page.panels import Panels
from app.page.render import Changes
from sala_core.errors import SalaError

if TYPE_CHECKING:
    from sala_core.session.workspace import Workspace

Say = Callable[[str], Changes]
"""A word to the reader that goes away by itself."""


class SettingsHandlers:
    """The form of answer settings."""

    def __init__(self, workspace: Workspace, panels: Panels, say: Say) -> None:
        self._workspace, self._panel, self._say = workspace, panels.settings, say
        self._note = panels.settings_note

    def open(self) -> Changes:
        """Show what is set, and in grey what the model would do."""
        *texts, quotations = load_settings(self._workspace.library.folder).texts()
        own = self._workspace.model_info().sampling
        greys = placeholders(own)
        changes: Changes = {self._panel.form: gr.update(visible=True), self._panel.trouble: ""}
        for field, text, grey in zip(self._panel.fields, texts, greys, strict=True):
            changes[field] = gr.update(value=text, placeholder=grey)
        changes[self._panel.quotations] = gr.update(choices=quotation_choices(own), value=quotations)
        return changes

    def save(self, temperature: str, top_p: str, max_tokens: str, seed: str, quotations: str) -> Changes:
        """Keep what was typed and chosen, or say what is wrong with it and keep the form open."""
        try:
            return self._keep(AnswerSettings.from_texts(temperature, top_p, max_tokens, seed, quotations))
        except SettingsError as error:
            return {self._panel.trouble: trouble_html(str(error))}

    def reset(self) -> Changes:
        """Leave everything to the model again."""
        return self._keep(AnswerSettings())

    def close(self) -> Changes:
        """Put the form away; nothing is kept."""
        return {self._panel.form: gr.update(visible=False)}

    def _keep(self, settings: AnswerSettings) -> Changes:
        try:
            save_settings(self._workspace.library.folder, settings)
        except SalaError as error:
            return self._say(str(error))
        said = self._say("Saved. It holds from the next question on.")
        return self.close() | {self._note: note_html(settings)} | said


class SpaceHandlers:
    """The form that frees room on disk."""

    def __init__(self, workspace: Workspace, panels: Panels, say: Say, draw: Callable[[str, str], Changes]) -> None:
        """draw: the whole page for a session and a search."""
        self._workspace, self._panel, self._say, self._draw = workspace, panels.space, say, draw

    def open(self) -> Changes:
        """List what can be freed, the long unused already chosen."""
        found = space.freeable(self._workspace)
        proposed = [item.key for item in found if item.is_proposed]
        choices = [(item.label, item.key) for item in found]
        return self.choose(proposed) | {
            self._panel.form: gr.update(visible=True),
            self._panel.question: space.question_html(found),
            self._panel.choice: gr.update(choices=choices, value=proposed, visible=bool(found)),
            self._panel.keep: "Keep all" if found else "Close",
        }

    def choose(self, keys: list[str]) -> Changes:
        """Say how much the chosen ones bring."""
        num_bytes = space.chosen_bytes(self._workspace, keys)
        words = f"Free {wording.size(num_bytes)}" if keys else "Free"
        return {self._panel.free: gr.update(value=words, interactive=bool(keys))}

    def free(self, session_id: str, search: str, keys: list[str]) -> Changes:
        """Free what was chosen, and say how much that was."""
        try:
            freed, kept = space.free(self._workspace, keys)
        except SalaError as error:
            return self._say(str(error))
        return self._draw(session_id, search) | self.close() | self._say(space.freed_words(freed, kept))

    def close(self) -> Changes:
        """Put the form away."""
        return {self._panel.form: gr.update(visible=False)}
