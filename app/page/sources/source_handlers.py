"""Handlers of the list of sources: remove, take back, read again, watch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from app import wording
from app.page.markup import block, escape
from app.page.panels import Panels
from app.page.reading_plan.panel import plan_carrier
from sala_core.errors import SalaError

if TYPE_CHECKING:
    from app.page.reading_plan.plans import Plans
    from sala_core.session.workspace import Workspace

_AGAIN, _JOB = "again-", "job-"

Changes = dict[Any, Any]


class SourceHandlers:
    """The buttons of the sources, the form that removes one, and the switch that watches a folder."""

    def __init__(
        self,
        workspace: Workspace,
        panels: Panels,
        plans: Plans,
        toast: Callable[[str], Changes],
        submit: Callable[[Callable[[], str]], Changes],
    ) -> None:
        """Serve the controls of `panels`.

        Args:
            workspace: removes and watches.
            panels: the page's controls.
            plans: shows what is read again before it is.
            toast: shows a short message.
            submit: starts a job.
        """
        self._workspace, self._panels, self._plans = workspace, panels, plans
        self._toast, self._submit = toast, submit

    def press(self, session_id: str, target: str) -> Changes:
        """A button was pressed: ask before a document is removed, take back a reading that waits, or plan to read a
        changed file again.

        target: a document's id, `again-` and its id, or `job-` and the id of a waiting reading; then a colon, and a
        number that counts clicks.
        """
        wanted = target.split(":")[0]
        try:
            if wanted.startswith(_JOB):
                self._workspace.readings.cancel(wanted.removeprefix(_JOB))
                return self.close()
            if wanted.startswith(_AGAIN):
                return self._plan_again(session_id, wanted.removeprefix(_AGAIN))
        except SalaError as error:
            return self._toast(str(error))
        name = self._name(session_id, wanted)
        if name is None:
            return self.close()
        again = wording.plural(self._workspace.removal_cost(session_id, wanted), "token")
        words = f"Remove “{name}” from this session? About {again} behind it are read again. Your own file stays."
        form = self._panels.remove
        return {form.form: gr.update(visible=True), form.question: block(escape(words), class_="question")}

    def remove(self, session_id: str, target: str) -> Changes:
        """Remove the document."""
        wanted = target.split(":")[0]
        if self._name(session_id, wanted) is None:
            return self.close()
        return self._submit(lambda: self._workspace.submit_remove(session_id, [wanted])) | self.close()

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

    def _plan_again(self, session_id: str, document_id: str) -> Changes:
        """Plan to read the file of a document again, by the folder or file that the user once named."""
        library = self._workspace.library
        hashes = {row.content_hash for row in library.documents(session_id) if row.id == document_id}
        roots = [source.root for source in library.sources(session_id) if source.content_hash in hashes and source.root]
        if not roots:
            return self._toast("This file came through the browser, which does not tell where it is: drop it again.")
        return {self._panels.reading.plan: plan_carrier(self._plans.of_paths(session_id, [Path(roots[0])]))}

    def _name(self, session_id: str, document_id: str) -> str | None:
        if not session_id:
            return None
        rows = self._workspace.library.documents(session_id)
        return next((row.name for row in rows if row.id == document_id), None)
