"""The routes on which upload.js sends files and folders. The guard lets only the page itself use them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.requests import ClientDisconnect

from app.server.upload_body import Receiver
from app.server.upload_tree import MAX_ENTRIES, Listing
from app.server.uploads import IDLE_S, LOST_S, Uploads
from sala_core.errors import DiskFullError, SalaError, UploadGoneError
from sala_core.ingest.folders.safety import FOLDER_MARKS, REFUSED_FOLDER_SUFFIXES, REFUSED_FOLDERS

if TYPE_CHECKING:
    from app.page.reading_plan.plans import Plans
    from app.server.uploads import Upload
    from sala_core.session.workspace import Workspace

_WRITE_BYTES = 1 << 20
_Size = Annotated[int, Field(ge=0, le=2**53)]


class ListingBody(BaseModel):
    """The fields of `Listing`, and the id of the session that the page shows; '' if it shows none."""

    session: str = Field(max_length=64)
    files: list[tuple[str, _Size]] = Field(max_length=MAX_ENTRIES)
    folders: list[str] = Field(default=[], max_length=MAX_ENTRIES)
    rules: list[tuple[str, str]] = Field(default=[], max_length=MAX_ENTRIES)


class ReadBody(BaseModel):
    """Indices of the files that the browser could not open."""

    unreadable: list[int] = Field(default=[], max_length=MAX_ENTRIES)


def uploads_router(workspace: Workspace, plans: Plans) -> APIRouter:
    """Return the routes under /api/uploads: begin, send files, plan their reading, drop."""
    router = APIRouter(prefix="/api/uploads")
    uploads = Uploads(workspace, plans)

    @router.get("")
    def rules() -> dict[str, Any]:
        """Return the folders that a reading never enters, so that the browser need not list them."""
        return {
            "folders": sorted(REFUSED_FOLDERS),
            "suffixes": list(REFUSED_FOLDER_SUFFIXES),
            "marks": list(FOLDER_MARKS),
            "max_entries": MAX_ENTRIES,
        }

    @router.post("")
    def begin(body: ListingBody) -> Any:
        listing = Listing(files=body.files, folders=body.folders, rules=body.rules)
        try:
            upload = uploads.begin(body.session, listing)
        except SalaError as error:
            return _error_response(error)
        return {"upload": upload.id, "wanted": sorted(upload.missing)}

    @router.post("/{upload_id}/files")
    async def files(upload_id: str, request: Request) -> Any:
        try:
            upload = uploads.find(upload_id)
        except SalaError as error:
            return _error_response(error)
        if not upload.lock.acquire(blocking=False):
            return JSONResponse({"detail": "another request is sending files of this upload"}, status_code=409)
        try:
            return await _receive(uploads, upload, request)
        finally:
            upload.lock.release()

    @router.post("/{upload_id}/read")
    def read(upload_id: str, body: ReadBody) -> Any:
        try:
            upload = uploads.find(upload_id)
            uploads.wait(upload, IDLE_S)
            return {"plan": uploads.plan(upload, body.unreadable).id}
        except SalaError as error:
            return _error_response(error)

    @router.delete("/{upload_id}")
    def drop(upload_id: str) -> dict[str, str]:
        uploads.drop(upload_id)
        return {"status": "ok"}

    return router


async def _receive(uploads: Uploads, upload: Upload, request: Request) -> Response | dict[str, int]:
    """Write the files of one body. A file that is incomplete when the connection ends stays missing."""
    receiver, buffer = Receiver(upload), bytearray()
    uploads.wait(upload, None)
    wait_s = LOST_S
    try:
        async for chunk in request.stream():
            buffer += chunk
            if len(buffer) >= _WRITE_BYTES:
                await run_in_threadpool(receiver.feed, bytes(buffer))
                buffer.clear()
        await run_in_threadpool(receiver.feed, bytes(buffer))
        receiver.finish()
        wait_s = IDLE_S
    except ClientDisconnect:
        return Response(status_code=400)
    except DiskFullError as error:
        receiver.close()
        await run_in_threadpool(uploads.drop, upload.id)
        return _error_response(error)
    except SalaError as error:
        return _error_response(error)
    finally:
        receiver.close()
        uploads.wait(upload, wait_s)
    return {"missing": len(upload.missing)}


def _error_response(error: SalaError) -> JSONResponse:
    """Return the error's message with the HTTP status of its kind."""
    statuses = {DiskFullError: 507, UploadGoneError: 410}
    status = next((code for kind, code in statuses.items() if isinstance(error, kind)), 400)
    return JSONResponse({"detail": str(error)}, status_code=status)
