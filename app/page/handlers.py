"""Handlers of the page's controls: each one calls the workspace and returns what changes on the page."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import gradio as gr

from app.page.answer_settings import AnswerSettings, load_settings
from app.page.form_handlers import SettingsHandlers, SourceHandlers, SpaceHandlers
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
from app.page.view import Sources, find_session, running_job, session_view, stamp
from sala_core.errors import SalaError
from sala_core.store.rows import READING_KINDS, ReadRequest

if TYPE_CHECKING:
    from sala_core.session.workspace import Workspace
    from sala_core.store.rows import SessionRow


class Handlers:
    """The page's event handlers over one workspace. Each takes no longer than a few queries of the library."""

    def __init__(self, workspace: Workspace, panels: Panels) -> None:
        self._workspace = workspace
        self._panels = panels
        self._sources = Sources(workspace)
        self._toast_numbers = itertools.count()
        self.settings = SettingsHandlers(workspace, panels, self._toast)
        self.sources = SourceHandlers(workspace, panels, self._toast, self._submit)
        self.space = SpaceHandlers(workspace, panels, self._toast, self._page_of)

    def load(self, request: gr.Request) -> Changes:
        """A window opens or reloads: show the session that its address names, otherwise the one used last."""
        requested = str(request.query_params.get("session", ""))
        row = find_session(self._workspace, requested)
        if row is not None:
            return self._page(row, "")
        if requested:
            return self._page(None, "") | self._toast(f"There is no session “{requested}” any more.")
        rows = self._workspace.library.sessions()
        return self._page(rows[0] if rows else None, "")

    def watch(self, session_id: str, job_id: str, seen: str, search: str) -> Changes:
        """Render the page again if anything on it has changed since `seen`, in this window or in another one.

        This does not change the session, because the user may be opening another one at this moment. It does not hide a
        form of a session that still exists. A window that has shown nothing yet waits for `load`, which knows the
        session that its address names. An answer that was on its way when a job began can make the window forget the
        job; the window then follows it again.

        Args:
            session_id: the open session.
            job_id: the job that this window follows.
            seen: the stamp of what it shows.
            search: the text in the search box.
        """
        if not seen:
            return self._no_change()
        running = running_job(self._workspace, session_id)
        is_followed = job_id == (running.id if running is not None else "")
        if is_followed and stamp(self._workspace, session_id, job_id, search) == seen:
            return {self._panels.meter: self._meter(session_id)} if job_id else self._no_change()
        row = find_session(self._workspace, session_id)
        changes = self._without_forms(row, search) if row is not None else self._page(None, search)
        del changes[self._panels.session]
        if row is None and (why := self._workspace.take_nothing_read(session_id)):
            changes |= self._toast(why)
        return changes

    def pulse(self, session_id: str, job_id: str) -> Changes:
        """Show the progress of the running job. If no job runs, stop the timer."""
        job = running_job(self._workspace, session_id, job_id)
        if job is not None:
            return render_job(self._panels, job)
        at_rest: Changes = {self._panels.pulse: gr.Timer(active=False), self._panels.job: ""}
        return at_rest if job_id else at_rest | render_idle(self._panels)

    def open(self, search: str, event: gr.SelectData) -> Changes:
        """Show the session chosen in the list."""
        return self._page_of(str(event.value), search)

    def new(self) -> Changes:
        """Open an empty session: an existing blank one, or a new one."""
        rows = self._workspace.library.sessions()
        row = next((row for row in rows if is_blank(row)), None)
        if row is None:
            try:
                row = self._workspace.new_session(unused_name(self._workspace))
            except SalaError as error:
                return self._toast(str(error))
        return self._page(row, "") | {self._panels.library.search: ""}

    def search(self, session_id: str, search: str) -> Changes:
        """List the sessions whose name, documents' names or messages contain these words."""
        rows = self._workspace.library.sessions(search.strip() or None)
        library = self._panels.library
        return {
            library.sessions: gr.update(choices=session_choices(rows), value=_id_if_listed(rows, session_id)),
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
            return self._toast("A session needs a name.")
        row = find_session(self._workspace, session_id)
        if row is None or row.name == name:
            return self._page(row, search)
        return self._attempt(
            lambda: self._workspace.library.rename_session(session_id, name),
            lambda: self._page_of(session_id, search),
        )

    def fork(self, session_id: str, search: str) -> Changes:
        """Copy the open session and show the copy. Both share what was read."""
        row = find_session(self._workspace, session_id)
        if row is None:
            return self._page(None, search)
        try:
            copy = self._workspace.library.fork_session(row.id, copy_name(self._workspace, row.name))
        except SalaError as error:
            return self._toast(str(error))
        return self._page(copy, "") | {self._panels.library.search: ""} | self._toast(copied_words(copy))

    def ask_delete(self, session_id: str, search: str) -> Changes:
        """Ask for confirmation before a deletion."""
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
            return self._toast("This session is at work; stop it first.") | self.close_forms()
        return self._attempt(lambda: self._workspace.library.delete_session(session_id), after)

    def close_forms(self) -> Changes:
        """Hide the rename and delete forms."""
        header = self._panels.header
        return {header.rename_form: gr.update(visible=False), header.delete_form: gr.update(visible=False)}

    def follow(self, session_id: str, upload_target: str) -> Changes:
        """This window's upload has arrived: show the session that reads it. If another one is open, show a message.

        upload_target: the session's id, a colon, and a number that counts uploads.
        """
        row = find_session(self._workspace, upload_target.split(":")[0])
        if row is None:
            return self._no_change()
        if session_id in ("", row.id):
            return self._page(row, "")
        return self._toast(f"What you dropped is being read in “{row.name}”.")

    def read_path(self, session_id: str, text: str) -> Changes:
        """Read a folder or file of this computer by its path."""
        text = text.strip().strip("'\"")
        if not text:
            return self._toast("Type the path of a folder or file on this computer.")
        path = Path(text).expanduser()
        if not path.is_absolute():
            return self._toast(f"{text} is not a full path; it should begin with / or ~ or a drive.")

        def submit() -> str:
            row = session_for(self._workspace, session_id, path.name if path.is_dir() else path.stem)
            return self._workspace.submit_read(row.id, [path])

        changes = self._submit(submit)
        if self._panels.job in changes:
            changes[self._panels.reading.path] = ""
        return changes

    def continue_reading(self, session_id: str) -> Changes:
        """Continue an interrupted reading: the files that it was to read, and whatever is unread."""
        row = find_session(self._workspace, session_id)
        if row is None:
            return self._page(None, "")
        view = session_view(self._workspace, row)
        if view.is_freed:
            return self._submit(lambda: self._workspace.submit_read(session_id, []))
        request = view.last_reading.request if view.last_reading else None
        if isinstance(request, ReadRequest) and request.remove:
            removed = request.remove
            return self._submit(lambda: self._workspace.submit_remove(session_id, removed))
        requested = request.paths if isinstance(request, ReadRequest) else ()
        paths = [path for path in map(Path, requested) if path.exists()]
        return self._submit(lambda: self._workspace.submit_read(session_id, paths))

    def reread(self, session_id: str) -> Changes:
        """Read the session's stored tokens again with the loaded model."""
        return self._submit(lambda: self._workspace.submit_reread(session_id))

    def ask(self, session_id: str, question: str) -> Changes:
        """Ask a question. If it is refused, its text stays in the box."""
        question = question.strip()
        if not question:
            return self._no_change()
        active = running_job(self._workspace, session_id)
        if active is not None:
            activity = "reading" if active.kind in READING_KINDS else "answering"
            return self._toast(f"Still {activity}. Ask again when it is done, or press Stop.")

        def submit() -> str:
            row = session_for(self._workspace, session_id, question[:60])
            return self._workspace.submit_ask(row.id, question, changes=self._settings().changes)

        changes = self._submit(submit)
        if self._panels.job in changes:
            changes[self._panels.box.question] = ""
        return changes

    def stop(self, session_id: str, job_id: str) -> Changes:
        """Stop the job that runs in the open session. Its work so far is kept."""
        job = running_job(self._workspace, session_id, job_id)
        if job is not None:
            self._workspace.stop(job.id)
        stopping = gr.update(value="Stopping", interactive=False)
        return {self._panels.box.stop: stopping, self._panels.reading.stop: stopping}

    def _submit(self, submit: Callable[[], str]) -> Changes:
        """Start a job. The change of the control `job` calls `watch`, which renders the page; this returns at once."""
        try:
            job_id = submit()
        except SalaError as error:
            return self._toast(str(error))
        job = self._workspace.job(job_id)
        return {self._panels.session: job.session_id, self._panels.job: job_id}

    def _attempt(self, action: Callable[[], object], after: Callable[[], Changes]) -> Changes:
        try:
            action()
        except SalaError as error:
            return self._toast(str(error))
        return after()

    def _toast(self, words: str) -> Changes:
        """Show a short message."""
        return {self._panels.toast: toast_html(words, next(self._toast_numbers))}

    def _no_change(self) -> Changes:
        return {self._panels.stamp: gr.skip()}

    def _page_of(self, session_id: str, search: str) -> Changes:
        return self._page(find_session(self._workspace, session_id), search)

    def _page(self, row: SessionRow | None, search: str) -> Changes:
        """The whole page, with the forms hidden."""
        return self._without_forms(row, search) | self.close_forms()

    def _without_forms(self, row: SessionRow | None, search: str) -> Changes:
        rows = self._workspace.library.sessions(search.strip() or None)
        info = self._workspace.model_info()
        view = session_view(self._workspace, row) if row is not None else None
        changes = render_page(self._panels, info, rows, view, self._sources, search.strip(), self._settings())
        session_id, job_id = changes[self._panels.session], changes[self._panels.job]
        return changes | {self._panels.stamp: stamp(self._workspace, session_id, job_id, search)}

    def _settings(self) -> AnswerSettings:
        thinks = self._workspace.model_info().thinks_by_default is not None
        return load_settings(self._workspace.library.folder).for_model(thinks=thinks)

    def _meter(self, session_id: str) -> str:
        """The meter's HTML while a job runs."""
        row = find_session(self._workspace, session_id)
        return meter_html(self._workspace.meter(row.id), at_work=True) if row is not None else ""


def _id_if_listed(rows: list[SessionRow], session_id: str) -> str | None:
    return session_id if any(row.id == session_id for row in rows) else None
