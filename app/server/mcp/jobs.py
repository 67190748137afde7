"""Jobs of the workspace as results: followed with progress notifications, or told as they stand."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError

from app import wording
from app.remote.words import answered_by
from app.server.mcp import places
from app.server.mcp.records import AskResult, JobInfo, ReadResult, SkippedInfo, Status

if TYPE_CHECKING:
    from sala_core.events import Answer, ReadReceipt
    from sala_core.session.job_runner import JobView
    from sala_core.session.workspace import Workspace
    from sala_core.store import JobRow
    from sala_core.store.rows import JobProgress

_POLL_S = 0.1
_HEARTBEAT_S = 5.0
_MAX_SKIPPED = 50
_MAX_WARNINGS = 20
_OVER = ("done", "failed", "stopped", "interrupted")


class _Notes:
    """Progress notifications of one call: their number always grows, also where a job goes back to an earlier phase."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._last, self._at, self._words = 0.0, 0.0, ""

    async def show(self, words: str, done: int = 0, total: int | None = None) -> None:
        now = time.monotonic()
        if words == self._words and now - self._at < _HEARTBEAT_S:
            return
        self._last, self._at, self._words = max(self._last + 0.001, float(done)), now, words
        await self._ctx.report_progress(self._last, None if total is None else max(total, self._last), words)


async def follow(ctx: Context, workspace: Workspace, job_id: str, wait_s: float) -> JobView:
    """Wait for a job, and tell the client how it stands.

    Returns it when it is over, or as it is after `wait_s` seconds. ctx: of the call. Raises ToolError for a failed job.
    """
    notes, until = _Notes(ctx), time.monotonic() + wait_s
    while True:
        view = await anyio.to_thread.run_sync(workspace.job, job_id)
        if view.status == "failed":
            raise ToolError(view.error or "the job failed; try again")
        if view.status in _OVER or time.monotonic() >= until:
            return view
        await notes.show(*_words(view, workspace))
        await anyio.sleep(_POLL_S)


async def notify(ctx: Context, words: str) -> None:
    """Tell the client one line."""
    await _Notes(ctx).show(words)


def _words(view: JobView, workspace: Workspace) -> tuple[str, int, int | None]:
    """How an unfinished job stands: a line, tokens done, and of how many."""
    model = workspace.model_info()
    if model.status == "loading":
        return "Loading the model", 0, None
    if view.status == "queued":
        reason = view.waiting.reason if view.waiting is not None else ""
        return f"Waiting: {reason}" if reason else "Waiting", 0, None
    if view.text:
        return "Writing the answer", 0, None
    if view.progress is None:
        return "Preparing", 0, None
    return progress_words(view.progress), view.progress.tokens_done, view.progress.tokens_total


def progress_words(progress: JobProgress) -> str:
    """A line for people: "Reading 12,000 of 40,000 tokens"."""
    verb = {"preparing": "Preparing", "restoring": "Opening"}.get(getattr(progress, "phase", ""), "Reading")
    file = getattr(progress, "file", "")
    if verb == "Preparing":
        return f"Preparing {file}" if file else "Preparing"
    return f"{verb} {wording.count(progress.tokens_done)} of {wording.plural(progress.tokens_total, 'token')}"


def job_info(row: JobRow, session: str, *, is_orphaned: bool) -> JobInfo:
    """A job as a result. session: its name. is_orphaned: whether the process that did it has ended."""
    progress = row.progress
    is_reading = row.kind != "ask"
    status: Status = "interrupted" if is_orphaned else row.status
    words = {
        "queued": "It waits.",
        "running": progress_words(progress) + "." if progress is not None else "It runs.",
        "done": "It is done.",
        "failed": row.error or "It failed.",
        "stopped": "It was stopped; what was read is kept.",
        "interrupted": "The program ended before it was done; what was read is kept. "
        + ("Call read_documents with the same paths to continue." if is_reading else "Ask again."),
    }
    speed, left = getattr(progress, "tokens_per_s", None), getattr(progress, "seconds_left", None)
    is_open = status in ("queued", "running")
    return JobInfo(
        job=row.id,
        session=session,
        kind=row.kind,
        status=status,
        message=words[status],
        tokens_done=progress.tokens_done if progress is not None else None,
        tokens_total=progress.tokens_total if progress is not None else None,
        tokens_per_s=round(speed, 1) if speed and is_open else None,
        seconds_left=round(left, 1) if left is not None and is_open else None,
    )


def open_answer(job: str, session: str, status: Status) -> AskResult:
    """A question that is not answered yet, or that was stopped before a word was written."""
    is_over = status in _OVER
    after = f"call read_status with job {job!r} for the answer"
    return AskResult(
        status=status,
        job=job,
        session=session,
        message="Stopped before a word was written; ask again" if is_over else f"Not answered yet; {after}",
        answer="",
        found=None,
        evidence=[],
        quotations=[],
        confidence=None,
        finish_reason="",
        model="",
        written_by="",
        tokens_read=0,
        tokens_reused=0,
        seconds=0.0,
        warnings=[],
    )


def answered(job: str, session: str, session_id: str, status: Status, answer: Answer) -> AskResult:
    """An answer as a result.

    Args:
        job, session, session_id, status: of the question.
        answer: what the model said.
    """
    from sala_core.evidence.finding import NOT_FOUND
    from sala_core.evidence.verify import unverified_quotations

    lost = unverified_quotations(answer.text, answer.quotations)
    is_found = None if answer.confidence is None else not answer.text.startswith(NOT_FOUND)
    how = "No sentence answers it surely; the nearest passages are quoted" if is_found is False else "Answered"
    stand = f"{wording.plural(len(answer.quotations), 'quotation')} found word for word"
    return AskResult(
        status=status,
        job=job,
        session=session,
        message=f"{how}; {stand}" + (f", {len(lost)} not found in the documents" if lost else ""),
        answer=answer.text,
        found=is_found,
        evidence=places.passages(session_id, answer.evidence),
        quotations=places.quoted(session_id, answer.quotations, lost),
        confidence=answer.confidence,
        finish_reason=answer.finish_reason,
        model=answer.model,
        written_by=" ".join(answered_by(answer.written_by)) if answer.written_by is not None else "",
        tokens_read=answer.tokens_read,
        tokens_reused=answer.tokens_reused,
        seconds=round(answer.seconds_prefill + answer.seconds_decode, 3),
        warnings=list(answer.warnings[:_MAX_WARNINGS]),
    )


def open_reading(job: str, session: str, status: Status) -> ReadResult:
    """A reading that goes on."""
    return ReadResult(
        status=status,
        job=job,
        session=session,
        message=f"It goes on; call read_status with job {job!r} to see how far it is, and stop_reading to stop it",
        files=0,
        pages=0,
        tokens=0,
        tokens_read=0,
        skipped=[],
        num_skipped=0,
        seconds=None,
        warnings=[],
    )


def receipt(job: str, session: str, status: Status, read: ReadReceipt) -> ReadResult:
    """What a reading has done, as a result.

    Args:
        job, session, status: of the reading.
        read: its receipt.
    """
    skipped = f"; {wording.plural(len(read.skipped), 'file')} not read" if read.skipped else ""
    how = "Stopped; what was read is kept" if read.stopped else f"Read {wording.plural(read.files, 'file')}"
    return ReadResult(
        status=status,
        job=job,
        session=session,
        message=f"{how}, {wording.plural(read.tokens, 'token')}{skipped}",
        files=read.files,
        pages=read.pages,
        tokens=read.tokens,
        tokens_read=read.tokens_read,
        skipped=[SkippedInfo(name=item.name, reason=item.reason) for item in read.skipped[:_MAX_SKIPPED]],
        num_skipped=len(read.skipped),
        seconds=round(read.seconds, 3),
        warnings=list(read.warnings[:_MAX_WARNINGS]),
    )
