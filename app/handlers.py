"""What happens when a control is used: a handler asks the workspace and returns what changes on the page."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import gradio as gr

from app import reading
from app.library import UNTITLED, empty_html, session_choices, unused_name
from app.markup import block
from app.panels import Panels
from app.render import Changes, render_job, render_page
from app.view import READING, Sources, find_session, running_job, session_view, stamp
from app.windows import Windows
from sala_core.errors import SalaError

if TYPE_CHECKING:
    from sala_core.store.rows import SessionRow
    from sala_core.workspace import Workspace

MAX_NAME_CHARS = 80
ASK_STEP_S = 0.07
READ_STEP_S = 0.25


class Handlers:
    """The page's events over one workspace. Nothing here works longer than a look at the library."""

    def __init__(self, workspace: Workspace, panels: Panels) -> None:
        self._workspace = workspace
        self._panels = panels
        self._sources = Sources(workspace)
        self._windows = Windows()

    def load(self, request: gr.Request) -> Changes:
        """A window opens or reloads: show the session its address names, else the one used last."""
        wish = str(request.query_params.get("session", ""))
        row = find_session(self._workspace, wish)
        if row is None and not wish:
            rows = self._workspace.library.sessions()
            row = rows[0] if rows else None
        elif row is None:
            gr.Info(f"No session is called “{escape(wish)}”.")
        return self._show(request, self._page(row, ""))

    async def follow(
        self, session_id: str, job_id: str, seen: str, search: str, request: gr.Request
    ) -> AsyncIterator[Changes]:
        """Tail the running job until it ends; without one, refresh only if something changed elsewhere.

        Ends early, and without a word, when the window is told to show another session.
        """
        window = request.session_hash
        steps = self._steps(session_id, job_id, seen, search)
        async for changes in steps:
            if not self._windows.looks_at(window, session_id):
                break
            if changes:
                yield changes
        await steps.aclose()

    async def _steps(self, session_id: str, job_id: str, seen: str, search: str) -> AsyncGenerator[Changes, None]:
        job = running_job(self._workspace, session_id, job_id)
        if job is None:
            if await asyncio.to_thread(self._stamp, session_id, search) != seen:
                yield await asyncio.to_thread(self._refreshed, session_id, search)
            else:
                yield {self._panels.stamp: gr.skip()}
            return
        yield await asyncio.to_thread(self._refreshed, session_id, search)
        shown: Changes = {}
        while job.status in ("queued", "running"):
            drawn = render_job(self._panels, job)
            changed = {part: value for part, value in drawn.items() if shown.get(part) != value}
            yield changed
            shown = drawn
            await asyncio.sleep(READ_STEP_S if job.kind in READING else ASK_STEP_S)
            job = self._workspace.job(job.id)
        yield await asyncio.to_thread(self._refreshed, session_id, search)

    def _refreshed(self, session_id: str, search: str) -> Changes:
        """The page of `session_id`, without choosing it: that is for the reader to do."""
        changes = self._page_of(session_id, search)
        del changes[self._panels.session]
        return changes

    def open(self, search: str, event: gr.SelectData, request: gr.Request) -> Changes:
        """Show the session chosen in the list."""
        return self._show(request, self._page_of(str(event.value), search))

    def new(self, request: gr.Request) -> Changes:
        """Start an empty session; an empty untitled one that is already there serves as well."""
        rows = self._workspace.library.sessions()
        row = next((row for row in rows if _is_blank(row)), None)
        if row is None:
            try:
                row = self._workspace.new_session(unused_name(self._workspace))
            except SalaError as error:
                return self._refused(str(error))
        return self._show(request, self._page(row, "")) | {self._panels.library.search: ""}

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

    def delete(self, session_id: str, search: str, request: gr.Request) -> Changes:
        """Delete the open session and show the next one."""

        def after() -> Changes:
            rows = self._workspace.library.sessions()
            return self._show(request, self._page(rows[0] if rows else None, search))

        if self._workspace.active_job(session_id) is not None:
            return self._refused("This session is at work; stop it first.") | self.close_forms()
        return self._attempt(lambda: self._workspace.library.delete_session(session_id), after)

    def close_forms(self) -> Changes:
        """Put the rename and delete forms away."""
        header = self._panels.header
        return {header.rename_form: gr.update(visible=False), header.delete_form: gr.update(visible=False)}

    def read_uploads(self, session_id: str, uploads: list[str] | None, request: gr.Request) -> Changes:
        """Read dropped files."""
        cleared: Changes = {self._panels.reading.files: None}
        if not uploads:
            return cleared
        paths, folder = reading.take_uploads(uploads)
        return self._read(session_id, paths, folder, request) | cleared

    def read_path(self, session_id: str, text: str, request: gr.Request) -> Changes:
        """Read a folder or file of this computer, by its path."""
        text = text.strip().strip("'\"")
        if not text:
            return self._refused("Type the path of a folder or file on this computer.")
        path = Path(text).expanduser()
        if not path.is_absolute():
            return self._refused(f"{text} is not a full path; it should begin with / or ~ or a drive.")
        changes = self._read(session_id, [path], None, request)
        if self._panels.job in changes:
            changes[self._panels.reading.path] = ""
        return changes

    def _read(self, session_id: str, paths: list[Path], owned_folder: Path | None, request: gr.Request) -> Changes:
        def submit() -> str:
            row = self._session_for(session_id, paths[0].stem or paths[0].name)
            return self._workspace.submit_read(row.id, paths, owned_folder=owned_folder)

        return self._submit(submit, request)

    def go_on(self, session_id: str, request: gr.Request) -> Changes:
        """Continue an interrupted reading: what was asked for then, and whatever still waits."""
        row = find_session(self._workspace, session_id)
        if row is None:
            return self._page(None, "")
        view = session_view(self._workspace, row)
        asked = view.last_reading.request.get("paths", []) if view.last_reading else []
        paths = [path for path in map(Path, asked) if path.exists()]
        return self._submit(lambda: self._workspace.submit_read(session_id, paths), request)

    def reread(self, session_id: str, request: gr.Request) -> Changes:
        """Read the session's stored tokens again with the model at hand."""
        return self._submit(lambda: self._workspace.submit_reread(session_id), request)

    def ask(self, session_id: str, question: str, request: gr.Request) -> Changes:
        """Put a question; the words stay in the box if it is refused."""
        question = question.strip()
        if not question:
            return {self._panels.box.question: gr.skip()}
        active = self._workspace.active_job(session_id) if session_id else None
        if active is not None:
            doing = "reading" if active.kind in READING else "answering"
            return self._refused(f"Still {doing}. Ask again when it is done, or press Stop.")

        def submit() -> str:
            row = self._session_for(session_id, question[:60])
            return self._workspace.submit_ask(row.id, question)

        changes = self._submit(submit, request)
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

    def _session_for(self, session_id: str, wish: str) -> SessionRow:
        """The open session, named after what it is first given; or a new one."""
        row = find_session(self._workspace, session_id)
        wish = "".join(filter(str.isprintable, " ".join(wish.split())))[:MAX_NAME_CHARS].strip() or "Untitled"
        if row is None:
            return self._workspace.new_session(unused_name(self._workspace, wish))
        if _is_blank(row):
            self._workspace.library.rename_session(row.id, unused_name(self._workspace, wish))
        return row

    def _submit(self, submit: Callable[[], str], request: gr.Request) -> Changes:
        """Start a job; a change of `job` makes `follow` draw the page, so that this answers at once."""
        try:
            job_id = submit()
        except SalaError as error:
            return self._refused(str(error))
        job = self._workspace.job(job_id)
        return self._show(request, {self._panels.session: job.session_id, self._panels.job: job_id})

    def _attempt(self, action: Callable[[], object], after: Callable[[], Changes]) -> Changes:
        try:
            action()
        except SalaError as error:
            return self._refused(str(error))
        return after()

    def _refused(self, words: str) -> Changes:
        gr.Warning(escape(words))
        return {self._panels.stamp: gr.skip()}

    def _show(self, request: gr.Request, changes: Changes) -> Changes:
        """Note which session these changes bring to the window."""
        self._windows.choose(request.session_hash, changes[self._panels.session])
        return changes

    def _page_of(self, session_id: str, search: str) -> Changes:
        return self._page(find_session(self._workspace, session_id), search)

    def _page(self, row: SessionRow | None, search: str) -> Changes:
        rows = self._workspace.library.sessions(search.strip() or None)
        info = self._workspace.model_info()
        view = session_view(self._workspace, row) if row is not None else None
        return render_page(self._panels, info, rows, view, self._sources, search.strip()) | {
            self._panels.stamp: self._stamp(row.id if row is not None else "", search)
        }

    def _stamp(self, session_id: str, search: str) -> str:
        return stamp(self._workspace.library.sessions(), self._workspace.model_info(), session_id, search.strip())


def _is_blank(row: SessionRow) -> bool:
    return bool(UNTITLED.fullmatch(row.name)) and not row.num_documents and not row.num_messages


def _listed(rows: list[SessionRow], session_id: str) -> str | None:
    return session_id if any(row.id == session_id for row in rows) else None
