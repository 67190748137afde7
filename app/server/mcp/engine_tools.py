"""Tools that need the model: reading, counting, asking. Long work goes on as a job of the workspace."""

from __future__ import annotations

import threading
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import anyio
import anyio.to_thread
from mcp.server.mcpserver import Context, ListRoots, Resolve
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import ListRootsResult, ToolAnnotations
from pydantic import Field

from app import wording
from app.server.mcp import jobs
from app.server.mcp.library_tools import Session
from app.server.mcp.records import AskResult, ReadResult, SkippedInfo, StatusResult
from app.server.mcp.roots import allowed_paths, roots_of_uris
from app.server.mcp.text_tools import MAX_TEXT_CHARS
from sala_core.errors import SessionNotFoundError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mcp.server.mcpserver import MCPServer

    from app.server.mcp.host import Host
    from app.server.mcp.records import Record
    from sala_core.session.workspace import Workspace
    from sala_core.store import SessionRow

R = TypeVar("R", bound="Record")

_ADDS = ToolAnnotations(read_only_hint=False, destructive_hint=False, idempotent_hint=False, open_world_hint=False)
_ADDS_ONCE = ToolAnnotations(read_only_hint=False, destructive_hint=False, idempotent_hint=True, open_world_hint=False)
_MAX_PATHS = 100
_MAX_SKIPPED = 50
_STOP_S = 5.0

Wait = Annotated[
    float, Field(ge=0, le=3600, description="seconds to wait for the result; after them it goes on as a job")
]
Paths = Annotated[
    list[Annotated[str, Field(min_length=1, max_length=4096)]],
    Field(min_length=1, max_length=_MAX_PATHS, description="files and folders, inside the folders that are allowed"),
]


async def client_roots(ctx: Context) -> ListRootsResult | ListRoots:
    """The client's own folders, where it tells them."""
    capabilities = ctx.client_capabilities
    if capabilities is None or capabilities.roots is None:
        return ListRootsResult(roots=[])
    return ListRoots()


def add_engine_tools(server: MCPServer, host: Host) -> None:
    """Add ask, read_documents and stop_reading."""

    @server.tool(title="Ask about what was read", annotations=_ADDS)
    async def ask(
        session: Session,
        question: Annotated[str, Field(min_length=1, max_length=MAX_TEXT_CHARS)],
        ctx: Context,
        wait_s: Wait = 50,
    ) -> AskResult:
        """Have the local model answer from everything that a session has read; the turn is kept in the session.

        The answer comes with its evidence (passages with their places) and its quotations, each word for word or not.
        Give them to the user with the answer.
        """
        if not question.strip():
            raise ToolError("the question is empty; write one")
        arguments = {"session": session, "question": question, "wait_s": wait_s}
        if (program := await anyio.to_thread.run_sync(host.running)) is not None:
            return await program.call(ctx, "ask", arguments, AskResult)
        return await _ask(host, ctx, session, question, wait_s)

    @server.tool(title="Read documents", annotations=_ADDS_ONCE)
    async def read_documents(
        session: Annotated[str, Field(min_length=1, max_length=200, description="name; a new one makes a session")],
        paths: Paths,
        ctx: Context,
        roots: Annotated[ListRootsResult, Resolve(client_roots)],
        count_only: Annotated[bool, Field(description="only count tokens and time, read nothing")] = False,
        wait_s: Wait = 50,
    ) -> ReadResult:
        """Read files or folders into a session: whole, once. What it has read already is not read again.

        Only files inside the folders that the user has allowed are read. A long reading goes on as a job.
        """
        own = roots_of_uris(root.uri for root in roots.roots) if host.trusts_client_roots else ()
        allowed = (*host.allowed, *own, *host.vouched(ctx))
        library = host.library.folder
        found = await anyio.to_thread.run_sync(partial(allowed_paths, paths, allowed, library=library))
        if (program := await anyio.to_thread.run_sync(host.running)) is not None:
            arguments = {"session": session, "paths": list(map(str, found)), "count_only": count_only, "wait_s": wait_s}
            return await program.call(ctx, "read_documents", arguments, ReadResult, roots=allowed)
        if count_only:
            return await _count(host, ctx, session, found)
        return await _read(host, ctx, session, found, wait_s)

    @server.tool(title="Stop a reading", annotations=_ADDS_ONCE)
    async def stop_reading(
        job: Annotated[str, Field(min_length=1, max_length=64, description="the job that read_documents named")],
        ctx: Context,
    ) -> StatusResult:
        """Stop a reading or a question. What was read so far is kept, and read_documents continues it."""
        if (program := await anyio.to_thread.run_sync(host.running)) is not None:
            return await program.call(ctx, "stop_reading", {"job": job}, StatusResult)
        row = await anyio.to_thread.run_sync(host.library.job, job)
        workspace = host.loaded()
        is_own = workspace is not None and (await anyio.to_thread.run_sync(workspace.job, job)).is_own
        if workspace is not None and is_own:
            await anyio.to_thread.run_sync(workspace.stop, job)
            await jobs.follow(ctx, workspace, job, _STOP_S)
        session = await anyio.to_thread.run_sync(partial(host.library.session, row.session_id))
        row = await anyio.to_thread.run_sync(host.library.job, job)
        info = jobs.job_info(row, session.name, is_orphaned=host.library.is_orphaned(row))
        if info.status in ("queued", "running"):
            told = "It is told to stop, and ends at its next step."
            other = "Another process does it; stop it there."
            info = info.model_copy(update={"message": told if is_own else other})
        return StatusResult(model="", model_status="", session=None, jobs=[info], answer=None, reading=None)


async def _ask(host: Host, ctx: Context, name: str, question: str, wait_s: float) -> AskResult:
    row = await anyio.to_thread.run_sync(host.library.session, name)
    workspace = await _workspace(host, ctx)
    await _check_model(workspace, row)
    job = await anyio.to_thread.run_sync(workspace.submit_ask, row.id, question)
    try:
        view = await jobs.follow(ctx, workspace, job, wait_s)
    except anyio.get_cancelled_exc_class():
        with anyio.CancelScope(shield=True):  # the client has left, or does not want the answer any more
            await anyio.to_thread.run_sync(workspace.stop, job)
        raise
    if view.result is None:
        return jobs.open_answer(job, row.name, view.status)
    return jobs.answered(job, row.name, row.id, view.status, view.result)  # type: ignore[arg-type]


async def _read(host: Host, ctx: Context, name: str, paths: Sequence[Path], wait_s: float) -> ReadResult:
    workspace = await _workspace(host, ctx)
    row, is_new = await anyio.to_thread.run_sync(_session_for, workspace, name)
    try:
        await _check_model(workspace, row)
        job = await anyio.to_thread.run_sync(workspace.submit_read, row.id, paths)
    except BaseException:
        if is_new:
            workspace.library.delete_if_blank(row.id)
        raise
    view = await jobs.follow(ctx, workspace, job, wait_s)
    if view.result is None:
        return jobs.open_reading(job, row.name, view.status)
    found = jobs.receipt(job, row.name, view.status, view.result)  # type: ignore[arg-type]
    if not found.files:
        reasons = "; ".join(f"{item.name}: {item.reason}" for item in found.skipped[:3])
        raise ToolError(f"nothing was read. {reasons or 'There is no file that can be read; name other files'}")
    return found


async def _count(host: Host, ctx: Context, name: str, paths: Sequence[Path]) -> ReadResult:
    """Count the tokens of files without reading them, and estimate what a reading takes."""
    from sala_core.session.planning.records import Additions, CountOrder, PlannedFile

    workspace = await _workspace(host, ctx)
    try:
        row = await anyio.to_thread.run_sync(workspace.library.session, name)
    except SessionNotFoundError:
        row = None
    files: list[PlannedFile] = []
    stopping = threading.Event()
    order = CountOrder(
        paths=tuple(paths),
        report=files.append,
        session_id=row.id if row is not None else "",
        should_stop=stopping.is_set,
    )
    await jobs.notify(ctx, "Counting tokens")
    try:
        await anyio.to_thread.run_sync(workspace.planner.count, order, abandon_on_cancel=True)
    finally:
        stopping.set()
    new = [file for file in files if file.state in ("new", "changed", "removed")]
    additions = Additions(
        num_tokens=sum(file.num_tokens for file in new),
        replaced=frozenset(file.content_hash for file in new if file.state == "changed"),
    )
    session_id = row.id if row is not None else ""
    found = await anyio.to_thread.run_sync(workspace.planner.estimate, session_id, additions)
    return _counted(name, files, additions.num_tokens, found)


def _counted(session: str, files: Sequence[Any], tokens_new: int, found: Any) -> ReadResult:
    skipped = [file for file in files if file.state in ("skipped", "locked")]
    counted = [file for file in files if file.state not in ("skipped", "locked")]
    tokens = sum(file.num_tokens for file in counted)
    time = f", in about {wording.duration(found.seconds)}" if found is not None and found.seconds is not None else ""
    message = (
        f"{wording.plural(len(counted), 'file')}, {wording.plural(tokens, 'token')}; "
        f"{wording.plural(tokens_new, 'token')} would be read{time}"
    )
    if found is not None and found.refusal:
        message += f". It does not fit: {found.refusal}"
    return ReadResult(
        status="counted",
        job="",
        session=session,
        message=message,
        files=len(counted),
        pages=sum(file.num_pages for file in counted),
        tokens=tokens,
        tokens_read=tokens_new,
        skipped=[SkippedInfo(name=file.name, reason=file.reason or file.state) for file in skipped[:_MAX_SKIPPED]],
        num_skipped=len(skipped),
        seconds=round(found.seconds, 1) if found is not None and found.seconds is not None else None,
        warnings=[],
    )


async def _workspace(host: Host, ctx: Context) -> Workspace:
    """The workspace, with a note to the client where the first call has to load the program's larger half."""
    if host.loaded() is None:
        await jobs.notify(ctx, "Loading the model")
    return await anyio.to_thread.run_sync(host.workspace)


async def _check_model(workspace: Workspace, row: SessionRow) -> None:
    """Raise ToolError where another model has read the session."""
    if (reason := await anyio.to_thread.run_sync(workspace.refusal, row.id)) is not None:
        raise ToolError(f"session {row.name!r}: {reason}")


def _session_for(workspace: Workspace, name: str) -> tuple[SessionRow, bool]:
    """The session of this name, and whether it was made now."""
    try:
        return workspace.library.session(name), False
    except SessionNotFoundError:
        return workspace.new_session(name), True
