"""The routes. All of them are below `/engine/v1`, and all need the key.

GET    /                       the model, and whether it is ready
POST   /documents/missing      which of these documents are not here whole, and how much of each is
PUT    /documents/HASH         the next bytes of a document
GET    /sessions               the client's sessions
DELETE /sessions/KEY           one of them, with its state
PUT    /jobs/ID                read what an order names, or ask; the same id again is the same job
GET    /jobs/ID/events         its events from a number on, a line each
POST   /jobs/ID/stop           end it at its next token or chunk
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from functools import wraps
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, Response, StreamingResponse
from starlette.requests import ClientDisconnect

from app.server.engine_for_others.access import AccessError, client_of
from app.server.engine_for_others.bodies import LimitError, read_json, read_order
from app.server.engine_for_others.streaming import lines_of
from sala_core.errors import DiskFullError, LibraryError, ModelError, SalaError, SessionBusyError, UploadError
from sala_core.remote.sala.order import is_hash
from sala_core.remote.sala.parcel import MAX_PARCEL_BYTES
from sala_core.remote.sala.wire import PREFIX, PROTOCOL

if TYPE_CHECKING:
    from sala_core.session.hosting.client import Client
    from sala_core.session.workspace import Workspace

MAX_PIECE_BYTES = 8 << 20
"""Most bytes of a document in one request."""
MAX_JSON_BYTES = 16 << 20
_STATUS = ((DiskFullError, 507), (SessionBusyError, 409), (LibraryError, 404), (ModelError, 503), (UploadError, 400))

Handler = Callable[..., Awaitable[Response]]


def engine_router(workspace: Workspace, key: str) -> APIRouter:
    """The routes of a workspace. key: what a request has to show."""
    from sala_core.session.hosting.sessions import SessionsOfOthers

    others = SessionsOfOthers(workspace)
    router = APIRouter(prefix=PREFIX)

    def guarded(handler: Handler) -> Handler:
        """Check the key, and turn errors into responses."""

        @wraps(handler)
        async def checked(request: Request) -> Response:
            try:
                return await handler(request, client_of(request, key))
            except AccessError as error:
                return _error(401, str(error), "AccessError")
            except LimitError as error:
                return _error(413, str(error), "LimitError")
            except ClientDisconnect:
                return Response(status_code=499)
            except SalaError as error:
                return _of(error)
            except ValueError as error:
                return _error(400, str(error), "ValueError")

        del checked.__wrapped__  # type: ignore[attr-defined]  # FastAPI would read the handler's own parameters
        return checked

    @guarded
    async def describe(request: Request, client: Client) -> Response:
        info = workspace.model_info()
        engine = workspace.engine if info.status == "ready" else None
        return JSONResponse(
            {
                "protocol": PROTOCOL,
                "model": info.name,
                "status": info.status,
                "error": info.error or "",
                "max_tokens": info.max_tokens,
                "fingerprint": engine.fingerprint if engine else "",
                "tokenizer": engine.tokenizer.fingerprint if engine else "",
            }
        )

    @guarded
    async def missing(request: Request, client: Client) -> Response:
        names = (await read_json(request, MAX_JSON_BYTES)).get("documents")
        if not isinstance(names, list) or not all(map(is_hash, names)):
            raise ValueError("documents is no list of SHA-256 hashes")
        received = others.received(client)
        return JSONResponse(
            {"missing": {name: received.num_received(name) for name in names if not received.has(name)}}
        )

    @guarded
    async def put_document(request: Request, client: Client) -> Response:
        name, offset, total = request.path_params["name"], _whole(request, "offset"), _whole(request, "total")
        if not is_hash(name):
            raise ValueError("the document's name is no SHA-256 hash")
        if total > MAX_PARCEL_BYTES:
            raise LimitError(f"a document has {total:,} bytes, and {MAX_PARCEL_BYTES:,} is the most")
        if int(request.headers.get("content-length") or 0) > MAX_PIECE_BYTES:
            raise LimitError(f"send a document in pieces of {MAX_PIECE_BYTES:,} bytes at most")
        received, at = others.received(client), offset
        if received.has(name):
            return JSONResponse({"received": total})
        ticket = received.begin(name, offset, total)
        async for data in request.stream():
            if at + len(data) > min(total, offset + MAX_PIECE_BYTES):
                raise LimitError("more bytes came than the request has told")
            if data:
                at = await run_in_threadpool(received.add, name, ticket, data)
        if at == total:
            await run_in_threadpool(received.finish, name)
        return JSONResponse({"received": at})

    @guarded
    async def sessions(request: Request, client: Client) -> Response:
        rows = await run_in_threadpool(others.sessions, client)
        listed = [
            {"key": key, "tokens": row.num_tokens, "tokens_read": row.position, "documents": row.num_documents}
            for key, row in rows.items()
        ]
        return JSONResponse({"sessions": listed})

    @guarded
    async def delete(request: Request, client: Client) -> Response:
        await run_in_threadpool(others.delete, client, request.path_params["key"])
        return JSONResponse({})

    @guarded
    async def put_job(request: Request, client: Client) -> Response:
        raw = await read_json(request, MAX_JSON_BYTES)
        order = read_order(request.path_params["job_id"], raw)
        view = await run_in_threadpool(others.submit, client, order)
        return JSONResponse({"status": view.status, "error": view.error or ""})

    @guarded
    async def events(request: Request, client: Client) -> Response:
        job_id, after = request.path_params["job_id"], _whole(request, "after")
        await run_in_threadpool(others.job, client, job_id)
        lines = lines_of(others, client, job_id, after)
        return StreamingResponse(lines, media_type="application/x-ndjson", headers={"cache-control": "no-store"})

    @guarded
    async def stop(request: Request, client: Client) -> Response:
        await run_in_threadpool(others.stop, client, request.path_params["job_id"])
        return JSONResponse({})

    for method, path, handler in (
        ("GET", "/", describe),
        ("POST", "/documents/missing", missing),
        ("PUT", "/documents/{name}", put_document),
        ("GET", "/sessions", sessions),
        ("DELETE", "/sessions/{key}", delete),
        ("PUT", "/jobs/{job_id}", put_job),
        ("GET", "/jobs/{job_id}/events", events),
        ("POST", "/jobs/{job_id}/stop", stop),
    ):
        router.add_api_route(path, handler, methods=[method], response_model=None)
    return router


def _whole(request: Request, name: str) -> int:
    """A whole number of the query; 0 where it is left out. Raises ValueError."""
    text = request.query_params.get(name, "0")
    if not text.isascii() or not text.isdigit() or len(text) > 15:
        raise ValueError(f"{name} is no whole number")
    return int(text)


def _of(error: SalaError) -> Response:
    """The response for an error of the tree, with what the client needs to go on."""
    status = next((number for kind, number in _STATUS if isinstance(error, kind)), 400)
    more: dict[str, Any] = {}
    for name in ("received", "names"):
        if hasattr(error, name):
            status, more[name] = 409, getattr(error, name)
    return _error(status, str(error), type(error).__name__, more)


def _error(status: int, message: str, kind: str, more: Mapping[str, Any] | None = None) -> Response:
    body = json.dumps({"error": {"message": message, "kind": kind, **(more or {})}})
    return Response(body, status_code=status, media_type="application/json")
