"""What happens when a control is used: a handler asks the workspace and returns what changes on the page."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import gradio as gr

from app.page.answer_settings import AnswerSettings, load_settings
from app.page.form_handlers import SettingsHandlers, SpaceHandlers
from app.page.markup import block
from app.page.meter import meter_html
from app.page.panels import Panels
from app.page.render import Changes, render_idle, render_job, render_page, toast_html
from app.page.session_list import (
    copied_words,
    copy_name,
    empty_html,
    is_blank,
    session_choices,
    session_for,
    unused_name,
)
from app.page.view import READING, Sources, find_session, running_job, session_view, stamp
from sala_core.errors import SalaError

if TYPE_CHECKING:
    from sala_core.session.workspace import Workspace
    from sala_core.store.rows import SessionRow


class Handlers:
    """The page's events over one workspace. Nothing here works longer than a look at the library."""

    def __init__(self, workspace: Workspace, panels: Panels) -> None:
        self._workspace = workspace
        self._panels = panels
        self._sources = Sources(workspace)
        self._sayings = itertools.count()
        self.settings = SettingsHandlers(workspace, panels, self._said)
        self.space = SpaceHandlers(workspace, panels, self._said, self._page_of)

    def load(self, request: gr.Request) -> Changes:
        """A window opens or reloads: show the session its address names, else the one used last."""
        wish = str(request.query_params.get("session", ""))
        row = find_session(self._workspace, wish)
        if row is not None:
            return self._page(row, "")
        if wish:
            return self._page(None, "") | self._said(f"There is no session “{wish}” any more.")
        rows = self._workspace.library.sessions()
        return self._page(rows[0] if rows else None, "")

    def watch(self, session_id: str, job_id: str, seen: str, search: str) -> Changes:
        """Draw the page again if anything on it has changed since `seen`, here or in another window.

        It does not choose the session, for the reader may be opening another one at this moment, nor put away a form
        that was opened for a session which is still there. A window that has seen nothing yet waits for `load`, which
        knows the session its address names. What was on its way while a job was begun can make the window forget that
        job: it is followed again.
        """
        if not seen:
            return self._nothing()
        running = running_job(self._workspace, session_id)
        is_followed = job_id == (running.id if running is not None else "")
        if is_followed and stamp(self._workspace, session_id, job_id, search) == seen:
            return {self._panels.meter: self._meter(session_id)} if job_id else self._nothing()
        row = find_session(self._workspace, session_id)
        changes = self._drawn(row, search) if row is not None else self._page(None, search)
        del changes[self._panels.session]
        return changes

    def pulse(self, session_id: str, job_id: str) -> Changes:
        """Show how far the running job is; when there is none, stop asking."""
        job = running_job(self._workspace, session_id, job_id)
        if job is not None:
            return render_job(self._panels, job)
        still: Changes = {self._panels.pulse: gr.Timer(active=False), self._panels.job: ""}
        return still if job_id else still | render_idle(self._panels)

    def open(self, search: str, event: gr.SelectData) -> Changes:
        """Show the session chosen in the list."""
        return self._page_of(str(event.value), search)

    def new(self) -> Changes:
        """Start an empty session; an empty untitled one that is already there serves as well."""
        rows = self._workspace.library.sessions()
        row = next((row for row in rows if is_blank(row)), None)
        if row is None:
            try:
                row = self._workspace.new_session(unused_name(self._workspace))
            except SalaError as error:
                return self._refused(str(error))
        return self._page(row, "") | {self._panels.library.search: ""}

    def search(self, session_id: str, search: str) -> Changes:
        """List the sessions whose name or talk has these words."""
        rows = self._workspace.library.sessions(search.strip() or None)
        library = self._panels.library
        return {
            library.sessions: gr.update(choices=session_choices(rows), value=_listed(rows, session_id)),
            library.empty: empty_html(search.strip(), len(rows)),
        }

    def ask_name(self, session_id: str, search: str) -> Changes:
        """Open the form for a new name."""
        row = find_session(self._workspace, session_id)
        if row is None:
            return self._page(None, search)
        return self.close_forms() | {
            self._panels.header.rename_form: gr.update(visible=True),
            self._panels.header.new_name: row.name,
        }

    def rename(self, session_id: str, search: str, name: str) -> Changes:
        """Give the open session another name."""
        name = " ".join(name.split())
        if not name:
            return self._refused("A session needs a name.")
        row = find_session(self._workspace, session_id)
        if row is None or row.name == name:
            return self._page(row, search)
        return self._attempt(
            lambda: self._workspace.library.rename_session(session_id, name),
            lambda: self._page_of(session_id, search),
        )

    def fork(self, session_id: str, search: str) -> Changes:
        """Copy the open session and show the copy; both share what was read."""
        row = find_session(self._workspace, session_id)
        if row is None:
            return self._page(None, search)
        try:
            copy = self._workspace.library.fork_session(row.id, copy_name(self._workspace, row.name))
        except SalaError as error:
            return self._refused(str(error))
        return self._page(copy, "") | {self._panels.library.search: ""} | self._said(copied_words(copy))

    def ask_delete(self, session_id: str, search: str) -> Changes:
        """Open the question before a deletion."""
        row = find_session(self._workspace, session_id)
        if row is None:
            return self._page(None, search)
        words = f"Delete “{escape(row.name)}” with its conversation and what was read? Your own files stay."
        return self.close_forms() | {
            self._panels.header.delete_form: gr.update(visible=True),
            self._panels.header.delete_question: block(words, class_="question"),
        }

    def delete(self, session_id: str, search: str) -> Changes:
        """Delete the open session and show the next one."""

        def after() -> Changes:
            rows = self._workspace.library.sessions()
            return self._page(rows[0] if rows else None, search)

        if self._workspace.active_job(session_id) is not None:
            return self._refused("This session is at work; stop it first.") | self.close_forms()
        return self._attempt(lambda: self._workspace.library.delete_session(session_id), after)

    def close_forms(self) -> Changes:
        """Put the rename and delete forms away."""
        header = self._panels.header
        return {header.rename_form: gr.update(visible=False), header.delete_form: gr.update(visible=False)}

    def follow(self, session_id: str, upload_target: str) -> Changes:
        """What this window dropped is read in the session `given`: show it, or say so where another is open by now."""
        row = find_session(self._workspace, upload_target.split(":")[0])
        if row is None:
            return self._nothing()
        if session_id in ("", row.id):
            return self._page(row, "")
        return self._said(f"What you dropped is being read in “{row.name}”.")

    def read_path(self, session_id: str, text: str) -> Changes:
        """Read a folder or file of this computer, by its path."""
        text = text.strip().strip("'\"")
        if not text:
            return self._refused("Type the path of a folder or file on this computer.")
        path = Path(text).expanduser()
        if not path.is_absolute():
            return self._refused(f"{text} is not a full path; it should begin with / or ~ or a drive.")

        def submit() -> str:
            row = session_for(self._workspace, session_id, path.name if path.is_dir() else path.stem)
            return self._workspace.submit_read(row.id, [path])

        changes = self._submit(submit)
        if self._panels.job in changes:
            changes[self._panels.reading.path] = ""
        return changes

    def continue_reading(self, session_id: str) -> Changes:
        """Continue an interrupted reading: what was asked for then, and whatever still waits."""
        row = find_session(self._workspace, session_id)
        if row is None:
            return self._page(None, "")
        view = session_view(self._workspace, row)
        if view.is_freed:
            return self._submit(lambda: self._workspace.submit_read(session_id, []))
        asked = view.last_reading.request.get("paths", []) if view.last_reading else []
        paths = [path for path in map(Path, asked) if path.exists()]
        return self._submit(lambda: self._workspace.submit_read(session_id, paths))

    def reread(self, session_id: str) -> Changes:
        """Read the session's stored tokens again with the model at hand."""
        return self._submit(lambda: self._workspace.submit_reread(session_id))

    def ask(self, session_id: str, question: str) -> Changes:
        """Put a question; the words stay in the box if it is refused."""
        question = question.strip()
        if not question:
            return self._nothing()
        active = running_job(self._workspace, session_id)
        if active is not None:
            doing = "reading" if active.kind in READING else "answering"
            return self._refused(f"Still {doing}. Ask again when it is done, or press Stop.")

        def submit() -> str:
            row = session_for(self._workspace, session_id, question[:60])
            return self._workspace.submit_ask(row.id, question, changes=self._settings().changes)

        changes = self._submit(submit)
        if self._panels.job in changes:
            changes[self._panels.box.question] = ""
        return changes

    def stop(self, session_id: str, job_id: str) -> Changes:
        """Stop what runs in the open session; what was done so far is kept."""
        job = running_job(self._workspace, session_id, job_id)
        if job is not None:
            self._workspace.stop(job.id)
        stopping = gr.update(value="Stopping", interactive=False)
        return {self._panels.box.stop: stopping, self._panels.reading.stop: stopping}

    def _submit(self, submit: Callable[[], str]) -> Changes:
        """Start a job; the change of `job` makes `watch` draw the page, so that this answers at once."""
        try:
            job_id = submit()
        except SalaError as error:
            return self._refused(str(error))
        job = self._workspace.job(job_id)
        return {self._panels.session: job.session_id, self._panels.job: job_id}

    def _attempt(self, action: Callable[[], object], after: Callable[[], Changes]) -> Changes:
        try:
            action()
        except SalaError as error:
            return self._refused(str(error))
        return after()

    def _refused(self, words: str) -> Changes:
        """Nothing was done, and why."""
        return self._said(words)

    def _said(self, words: str) -> Changes:
        return {self._panels.toast: toast_html(words, next(self._sayings))}

    def _nothing(self) -> Changes:
        return {self._panels.stamp: gr.skip()}

    def _page_of(self, session_id: str, search: str) -> Changes:
        return self._page(find_session(self._workspace, session_id), search)

    def _page(self, row: SessionRow | None, search: str) -> Changes:
        """The whole page, forms put away."""
        return self._drawn(row, search) | self.close_forms()

    def _drawn(self, row: SessionRow | None, search: str) -> Changes:
        rows = self._workspace.library.sessions(search.strip() or None)
        info = self._workspace.model_info()
        view = session_view(self._workspace, row) if row is not None else None
        changes = render_page(self._panels, info, rows, view, self._sources, search.strip(), self._settings())
        session_id, job_id = changes[self._panels.session], changes[self._panels.job]
        return changes | {self._panels.stamp: stamp(self._workspace, session_id, job_id, search)}

    def _settings(self) -> AnswerSettings:
        return load_settings(self._workspace.library.folder)

    def _meter(self, session_id: str) -> str:
        """The meter while a job runs."""
        row = find_session(self._workspace, session_id)
        return meter_html(self._workspace.meter(row.id), at_work=True) if row is not None else ""


def _listed(rows: list[SessionRow], session_id: str) -> str | None:
    return session_id if any(row.id == session_id for row in rows) else None
