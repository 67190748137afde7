"""Handlers of the page's controls: each one calls the workspace and returns what changes on the page."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import gradio as gr

from app.page.answer_settings import AnswerSettings, load_settings
from app.page.form_handlers import SpaceHandlers
from app.page.meter import meter_html
from app.page.panels import Panels
from app.page.reading_plan.panel import plan_carrier, plan_of_text
from app.page.reading_plan.plans import Plans
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
from app.page.sessions.handlers import SessionHandlers
from app.page.sources.source_handlers import SourceHandlers
from app.page.turns.handlers import TurnHandlers
from app.page.turns.waiting_questions import waiting_html, waiting_questions
from app.page.view import find_session, running_job, session_view, stamp
from sala_core.errors import SalaError
from sala_core.store.rows import READING_KINDS, AskRequest, ReadRequest

if TYPE_CHECKING:
    from sala_core.session.workspace import Workspace
    from sala_core.store.rows import SessionRow


class Handlers:
    """The page's event handlers over one workspace. Each takes no longer than a few queries of the library."""

    def __init__(self, workspace: Workspace, panels: Panels, plans: Plans | None = None) -> None:
        self._workspace = workspace
        self._plans = plans = plans or Plans(workspace)
        self._panels = panels
        self._toast_numbers = itertools.count()
        self.sessions = SessionHandlers(workspace, panels.sessions, self._toast, self._page_of)
        self.sources = SourceHandlers(workspace, panels, plans, self._toast, self._submit)
        self.space = SpaceHandlers(workspace, panels, self._toast, self._page_of)
        self.turns = TurnHandlers(
            workspace,
            panels.turns,
            toast=self._toast,
            submit=self._submit,
            show=self._page_of,
            settings=self._settings,
            waiting=panels.talk.waiting,
        )

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
        if row is None and (why := self._workspace.readings.take_nothing_read(session_id)):
            changes |= self._toast(why)
        return changes

    def pulse(self, session_id: str, job_id: str) -> Changes:
        """Show the progress of the running job. If no job runs, stop the timer."""
        job = running_job(self._workspace, session_id, job_id)
        if job is not None:
            is_question = job.kind not in READING_KINDS
            reading = self._workspace.active_reading(session_id) if is_question else None
            waiting = waiting_questions(self._workspace, session_id) if is_question else []
            return render_job(self._panels, job, reading, waiting)
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
            library.sessions: gr.update(
                choices=session_choices(rows, self._workspace.library.session_sizes()),
                value=_id_if_listed(rows, session_id),
            ),
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

    def close_forms(self) -> Changes:
        """Hide the form for a new name."""
        return {self._panels.header.rename_form: gr.update(visible=False)}

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
        """Show what will be read of a folder or file of this computer, or of an address."""
        try:
            plan = plan_of_text(self._plans, session_id, text)
        except SalaError as error:
            return self._toast(str(error))
        return {self._panels.reading.plan: plan_carrier(plan), self._panels.reading.path: ""}

    def continue_work(self, session_id: str) -> Changes:
        """Go on with what was interrupted: the files that were to be read, and whatever is unread; or a question."""
        row = find_session(self._workspace, session_id)
        if row is None:
            return self._page(None, "")
        view = session_view(self._workspace, row)
        if (offered := view.offered_question) is not None:
            return self.ask(session_id, offered.question, offered.instead_of or "")
        if view.is_freed:
            return self._submit(lambda: self._workspace.submit_read(session_id, []))
        request = view.last_reading.request if view.last_reading else None
        if isinstance(request, ReadRequest) and request.remove:
            removed = request.remove
            return self._submit(lambda: self._workspace.submit_remove(session_id, removed))
        requested = request.paths if isinstance(request, ReadRequest) else ()
        paths = [path for path in map(Path, requested) if path.exists()]
        left_out = request.left_out if isinstance(request, ReadRequest) else None
        return self._submit(lambda: self._workspace.submit_read(session_id, paths, left_out=left_out))

    def reread(self, session_id: str) -> Changes:
        """Read the session's stored tokens again with the loaded model."""
        return self._submit(lambda: self._workspace.submit_reread(session_id))

    def ask(self, session_id: str, question: str, editing: str = "") -> Changes:
        """Ask a question, behind the one that is being answered. If it is refused, its text stays in the box.

        Args:
            session_id: the open session.
            question: its text.
            editing: id of the turn in whose place it is asked; '' for a new turn.
        """
        question = question.strip()
        if not question:
            return self._no_change()
        if find_session(self._workspace, session_id) is None:
            return self._toast("Choose a session, or give it something to read first. Your question stays in the box.")
        active = running_job(self._workspace, session_id)
        is_behind = active is not None and active.kind not in READING_KINDS

        def submit() -> str:
            row = session_for(self._workspace, session_id, question[:60])
            settings, version = self._settings().changes, editing or None
            return self._workspace.submit_ask(row.id, question, changes=settings, instead_of=version)

        changes = self._submit(submit)
        if self._panels.job in changes:
            if is_behind:  # this window goes on to follow the answer that is being written
                changes = {self._panels.talk.waiting: waiting_html(waiting_questions(self._workspace, session_id))}
            asked = f"{next(self._toast_numbers)}:{question}"
            changes |= {self._panels.turns.asked: asked, self._panels.turns.editing: ""}
        return changes

    def stop(self, session_id: str, job_id: str, typed: str = "") -> Changes:
        """Stop the job that runs in the open session. Its work so far is kept.

        A question of which nothing was written yet leaves nothing behind: it goes back into the box. typed: what is in
        the box.
        """
        job = running_job(self._workspace, session_id, job_id)
        stopping = gr.update(value="Stopping", interactive=False)
        changes: Changes = {self._panels.box.stop: stopping}
        if job is not None:
            self._workspace.stop(job.id)
            if isinstance(job.request, AskRequest) and not (job.text or job.thinking or typed.strip()):
                changes[self._panels.box.question] = job.request.question
        return changes

    def stop_reading(self, session_id: str) -> Changes:
        """Stop the reading of the open session. What it has read is kept."""
        job = self._workspace.active_reading(session_id)
        if job is not None:
            self._workspace.stop(job.id)
        return {self._panels.reading.stop: gr.update(value="Stopping", interactive=False)}

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
        sizes = self._workspace.library.session_sizes()
        changes = render_page(self._panels, info, rows, sizes, view, search.strip(), self._settings())
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
