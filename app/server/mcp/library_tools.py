"""Tools over the library: what has been read, what is being read, copies of sessions. No model is needed."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

from mcp_types import ToolAnnotations
from pydantic import Field

from app import wording
from app.server.mcp import jobs
from app.server.mcp.places import document_uri
from app.server.mcp.records import (
    AskResult,
    DocumentInfo,
    ForkResult,
    ReadResult,
    SessionInfo,
    SessionList,
    Status,
    StatusResult,
)

if TYPE_CHECKING:
    from mcp.server.mcpserver import MCPServer

    from app.server.mcp.host import Host
    from sala_core.store import JobRow, Library, SessionRow

READ_ONLY = ToolAnnotations(read_only_hint=True, idempotent_hint=True, open_world_hint=False)
_MAX_SESSIONS = 100
_MAX_DOCUMENTS = 20
_MAX_ALL_DOCUMENTS = 400
_MAX_JOBS = 20
_UNFINISHED: tuple[Status, ...] = ("interrupted", "queued", "running")

Session = Annotated[str, Field(min_length=1, max_length=200, description="name or id of a session")]


def add_library_tools(server: MCPServer, host: Host) -> None:
    """Add list_sessions, read_status and fork_session."""

    @server.tool(title="List sessions", annotations=READ_ONLY)
    def list_sessions(
        search: Annotated[str, Field(max_length=200, description="only sessions with this word; empty for all")] = "",
        limit: Annotated[int, Field(ge=1, le=_MAX_SESSIONS)] = 50,
    ) -> SessionList:
        """List the sessions of the library, the latest first, with their documents."""
        library = host.library
        rows = library.sessions(search=search or None)
        left, sessions = _MAX_ALL_DOCUMENTS, []
        for row in rows[:limit]:
            found = session_info(library, row, min(_MAX_DOCUMENTS, left))
            left -= len(found.documents)
            sessions.append(found)
        return SessionList(num_sessions=len(rows), sessions=sessions)

    @server.tool(title="Status of readings and questions", annotations=READ_ONLY)
    def read_status(
        session: Annotated[str, Field(max_length=200, description="name or id of a session")] = "",
        job: Annotated[str, Field(max_length=64, description="a job that ask or read_documents named")] = "",
    ) -> StatusResult:
        """Tell how a reading or a question stands: tokens, speed, time left; its result when it is over.

        Without a session and a job: all that is under way, or was interrupted.
        """
        library = host.library
        chosen = library.job(job) if job else None
        row = library.session(chosen.session_id if chosen is not None else session) if chosen or session else None
        names = {each.id: each.name for each in ((row,) if row is not None else library.sessions())}
        found = [chosen] if chosen is not None else library.jobs(row.id) if row is not None else _unfinished(library)
        rows = [each for each in reversed(found) if each.session_id in names][:_MAX_JOBS]
        model, status = _model(host)
        return StatusResult(
            model=model,
            model_status=status,
            session=session_info(library, row, _MAX_DOCUMENTS) if row is not None else None,
            jobs=[jobs.job_info(each, names[each.session_id], is_orphaned=library.is_orphaned(each)) for each in rows],
            answer=_answer(chosen, row),
            reading=_reading(chosen, row),
        )

    @server.tool(
        title="Copy a session",
        annotations=ToolAnnotations(read_only_hint=False, destructive_hint=False, open_world_hint=False),
    )
    def fork_session(
        session: Session,
        new_name: Annotated[str, Field(min_length=1, max_length=200, description="name of the copy")],
    ) -> ForkResult:
        """Copy a session with its conversation. The copy shares what was read: nothing is read again."""
        library = host.library
        row = library.fork_session(library.session(session).id, new_name)
        shared = f"{wording.plural(row.position, 'token')} need not be read again"
        return ForkResult(
            session=row.name, id=row.id, tokens_shared=row.position, message=f"{row.name} is a copy of it; {shared}"
        )


def session_info(library: Library, row: SessionRow, max_documents: int) -> SessionInfo:
    """A session as a result, with its first documents."""
    documents = library.documents(row.id)
    return SessionInfo(
        name=row.name,
        id=row.id,
        model=row.model,
        tokens=row.num_tokens,
        tokens_read=row.position,
        num_documents=len(documents),
        documents=[
            DocumentInfo(
                name=each.name,
                id=each.id,
                tokens=each.num_tokens,
                pages=each.num_pages,
                uri=document_uri(row.id, each.id),
            )
            for each in documents[:max_documents]
        ],
        num_messages=row.num_messages,
        updated=datetime.fromtimestamp(row.updated_at, UTC).isoformat(timespec="seconds"),
    )


def _model(host: Host) -> tuple[str, str]:
    """The model's name, and how it stands."""
    workspace = host.loaded()
    if workspace is None:
        where = host.running()
        return "", f"in the running program, port {where.port}" if where is not None else "not loaded"
    model = workspace.model_info()
    return model.name, f"failed: {model.error}" if model.error else model.status


def _unfinished(library: Library) -> list[JobRow]:
    """Jobs of all sessions that are not over, the oldest first. What is over can be thousands, each with its answer."""
    found = [row for status in _UNFINISHED for row in library.jobs(status=status)]
    return sorted(found, key=lambda row: row.created_at)


def _answer(job: JobRow | None, row: SessionRow | None) -> AskResult | None:
    """The answer of a question that is over."""
    if job is None or row is None or job.kind != "ask" or job.result is None:
        return None
    return jobs.answered(job.id, row.name, row.id, job.status, job.result)  # type: ignore[arg-type]


def _reading(job: JobRow | None, row: SessionRow | None) -> ReadResult | None:
    """What a reading that is over has done."""
    if job is None or row is None or job.kind == "ask" or job.result is None:
        return None
    return jobs.receipt(job.id, row.name, job.status, job.result)  # type: ignore[arg-type]
