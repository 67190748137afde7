"""The current content of a session, gathered from the workspace for every part of the page."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from app.page.answer_settings import load_settings
from app.page.markup import block, escape, tag
from app.page.sources.source_list import SourceFacts
from app.page.turns.waiting_questions import waiting_questions
from sala_core.errors import LibraryError
from sala_core.store.rows import READING_KINDS, AskRequest

if TYPE_CHECKING:
    from sala_core.session.workspace import JobView, Meter, Workspace
    from sala_core.store import Library
    from sala_core.store.rows import DocumentRow, JobRow, MessageRow, SessionRow, SourceRow
    from sala_core.store.turns.operations import TurnRow


@dataclass(frozen=True, kw_only=True)
class SessionView:
    """Everything that the page shows of one session, except the progress of a running job."""

    row: SessionRow
    messages: list[MessageRow]
    documents: list[DocumentRow]
    meter: Meter
    active: JobView | None
    last: JobRow | None
    last_reading: JobRow | None
    refusal: str | None
    sources: list[SourceRow] = field(default_factory=list)
    watchable: list[str] = field(default_factory=list)
    """Folders that the session was read from, and that can be watched."""
    is_watched: bool = False
    watch_note: str = ""
    outdated: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """By message id, what answers refer to that is not in the session any more."""
    reading: JobView | None = None
    """The reading that is queued or running; `active` may be a question that is answered meanwhile."""
    waiting: list[JobView] = field(default_factory=list)
    """The questions behind the one that is being answered."""
    turns: list[TurnRow] = field(default_factory=list)
    listed: SourceFacts | None = None
    """What the list of sources is made of."""
    is_unread: bool = False
    """Whether a document is not read to its end. Turns that are to be read again are read with the next question."""
    unanswered: AskRequest | None = None
    """The question that was being answered when the program ended, if nothing was done since; None otherwise."""

    @property
    def pending_turn(self) -> str:
        """Id of the turn in whose place that question is asked; "" for a new turn."""
        request = self.active.request if self.active is not None else None
        version = request.instead_of if isinstance(request, AskRequest) and request.question else None
        return next((turn.id for turn in self.turns if version in (turn.id, turn.answer_id)), "")

    @property
    def pending_question(self) -> str:
        """The question that is being answered. It is not among the messages yet."""
        request = self.active.request if self.active is not None else None
        return request.question if isinstance(request, AskRequest) else ""

    @property
    def is_freed(self) -> bool:
        """Whether the session was read completely, and its saved state was freed afterwards."""
        if self.active is not None or self.refusal or not self.documents:
            return False
        return self.row.position == 0 and (self.last is None or self.last.status == "done")

    @property
    def can_continue(self) -> bool:
        """Whether something is unread: after a stop, after a crash, or because the state was freed."""
        if self.active is not None or self.refusal:
            return False
        last = self.last
        is_cut_short = last is not None and last.kind in READING_KINDS and last.status in ("interrupted", "stopped")
        return is_cut_short or self.is_unread

    @property
    def offered_question(self) -> AskRequest | None:
        """The question that can be asked again, once nothing else is to be done."""
        return None if self.active is not None or self.refusal or self.can_continue else self.unanswered


def find_session(workspace: Workspace, name_or_id: str) -> SessionRow | None:
    """The session's row, or None if there is none, for example after a deletion in another window."""
    if not name_or_id:
        return None
    try:
        return workspace.library.session(name_or_id)
    except LibraryError:
        return None


def session_view(workspace: Workspace, row: SessionRow) -> SessionView:
    """Gather one session's view."""
    library = workspace.library
    finished = [job for job in library.jobs(row.id) if job.status not in ("queued", "running")]
    readings = [job for job in finished if job.kind in READING_KINDS]
    active = workspace.active_job(row.id)
    parts, documents, sources = library.parts(row.id), library.documents(row.id), library.sources(row.id)
    waiting = workspace.readings.waiting(row.id)
    listed = SourceFacts(
        documents=documents,
        parts=parts,
        position=row.position,
        sources=sources,
        on_disk=workspace.on_disk.of(row.id),
        waiting=[job for job in waiting if active is None or job.id != active.id],
        last=readings[-1] if readings else None,
    )
    return SessionView(
        row=row,
        messages=library.messages(row.id),
        documents=documents,
        meter=workspace.meter(row.id),
        active=active,
        last=finished[-1] if finished else None,
        last_reading=readings[-1] if readings else None,
        refusal=workspace.refusal(row.id),
        sources=sources,
        listed=listed,
        watchable=workspace.watchers.folders(row.id),
        is_watched=workspace.watchers.is_on(row.id),
        watch_note=workspace.watchers.note(row.id),
        outdated=library.outdated_answers(row.id),
        reading=workspace.active_reading(row.id) if active is not None else None,
        waiting=waiting_questions(workspace, row.id) if active is not None else [],
        turns=library.turns(row.id),
        is_unread=any(part.document_id is not None and part.end > row.position for part in parts),
        unanswered=_unanswered(library, finished),
    )


def _unanswered(library: Library, finished: list[JobRow]) -> AskRequest | None:
    last = finished[-1] if finished else None
    if last is None or last.status != "interrupted" or not isinstance(last.request, AskRequest):
        return None
    return None if library.is_answered(last) else last.request


def running_job(workspace: Workspace, session_id: str, job_id: str = "") -> JobView | None:
    """The job `job_id` if it still runs. Without an id: the job that runs in the session, if any."""
    if job_id:
        try:
            job = workspace.job(job_id)
        except LibraryError:
            return None
        return job if job.status in ("queued", "running") else None
    return workspace.active_job(session_id) if session_id else None


def stamp(workspace: Workspace, session_id: str, job_id: str, search: str) -> str:
    """A short text that changes whenever the page would look different, except for the progress of a running job.

    Args:
        workspace: what the page shows.
        session_id: the open session; '' for none.
        job_id: the job that runs in it; '' for none.
        search: the text in the search box.
    """
    rows = workspace.library.sessions()
    facts = [(row.id, row.name, row.pinned, row.num_documents, row.num_messages, row.position == 0) for row in rows]
    turns = workspace.library.turns(session_id) if any(row.id == session_id for row in rows) else []
    shown = [(turn.id, len(turn.versions)) for turn in turns]
    info = workspace.model_info()
    settings = load_settings(workspace.library.folder).changes
    model = (info.status, info.name, info.device_note, info.kernels, info.switch_failure, info.writer)
    watching = (workspace.watchers.is_on(session_id), workspace.watchers.note(session_id)) if session_id else ()
    waiting = [job.id for job in workspace.readings.waiting(session_id)] if turns or session_id else []
    waiting += [job.id for job in workspace.questions.waiting(session_id)] if session_id else []
    files = (waiting, workspace.on_disk.of(session_id))
    seen = repr((facts, shown, settings, model, watching, files, session_id, job_id, search.strip()))
    return hashlib.blake2b(seen.encode(), digest_size=8).hexdigest()


def notice_html(view: SessionView | None) -> str:
    """What the user has to know or decide: a refused state, an unfinished reading, a failure."""
    if view is None or view.active is not None:
        return ""
    if view.refusal:
        return _notice("This session cannot continue as it is", view.refusal, "error")
    if view.is_freed:
        what = f"Its saved state was freed: up to {view.row.num_tokens:,} tokens are read again when you ask, or now."
        return _notice("To be read again", what, "info")
    if view.can_continue:
        waiting = view.row.num_tokens - view.row.position
        what = f"{waiting:,} tokens wait to be read." if waiting > 0 else "What was read so far is kept."
        return _notice("The reading was interrupted", what, "info")
    if view.offered_question is not None:
        return _notice("A question was interrupted", f"“{view.offered_question.question}” was not answered.", "info")
    if view.last is not None and view.last.status == "failed":
        head = "The reading failed" if view.last.kind in READING_KINDS else "No answer came"
        return _notice(head, view.last.error or "No reason was given.", "error")
    return ""


def _notice(head: str, text: str, kind: str) -> str:
    return block(tag("strong", escape(head)), tag("span", escape(text)), class_=f"notice notice-{kind}")
