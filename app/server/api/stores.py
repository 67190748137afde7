"""`/v1/files` and `/v1/vector_stores`: a file is a document, a store is a session."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response

from app.server.api.answering import Answering
from app.server.api.errors import ApiError
from app.server.api.evidence import FILE_START
from app.server.api.fields import read_object, text_field
from app.server.api.stored_files import StoredFile, StoredFiles
from sala_core.errors import LibraryError, SessionNotFoundError
from sala_core.events import ReadReceipt

if TYPE_CHECKING:
    from starlette.requests import Request

    from sala_core.store import JobRow, SessionRow

STORE_START = "vs_"
_BATCH_START = "vsfb_"
_WORKING = ("queued", "running")
_CANCELLED = ("stopped", "interrupted")
_MAX_RESULTS, _DEFAULT_RESULTS = 50, 10
_MAX_PAGE = 100


class Stores:
    """The routes for files and stores."""

    def __init__(self, serving: Answering) -> None:
        """Serve the library of a workspace."""
        self._serving, self._workspace = serving, serving.workspace
        self._library = serving.workspace.library
        self._files = StoredFiles(self._library.folder)

    async def files(self, request: Request) -> Response:
        """List the files that were sent, or take one more."""
        if request.method == "GET":
            return page(request, [each.to_json() for each in await run_in_threadpool(self._files.all)])
        form = await request.form(max_files=1, max_fields=10)
        sent = form.get("file")
        if not isinstance(sent, UploadFile):
            raise ApiError("file: a file is expected, as multipart/form-data", param="file")
        purpose = str(form.get("purpose") or "assistants")
        added = await run_in_threadpool(self._files.add, sent.filename or "", purpose, sent.file)
        return JSONResponse(added.to_json())

    async def file(self, request: Request) -> Response:
        """A file that was sent, or a document that an answer names; delete the former."""
        file_id = request.path_params["file_id"]
        stored = self._files.find(file_id)
        if request.method == "DELETE":
            if stored is None:
                raise _no_file(file_id)
            await run_in_threadpool(self._files.delete, stored)
            return JSONResponse({"id": file_id, "object": "file", "deleted": True})
        if stored is not None:
            return JSONResponse(stored.to_json())
        try:
            row = self._library.document(file_id.removeprefix(FILE_START))
        except LibraryError:
            raise _no_file(file_id) from None
        document = StoredFile(
            id=row.id, name=row.name, num_bytes=row.num_bytes, purpose="assistants", created_at=row.created_at
        )
        return JSONResponse(document.to_json())

    async def content(self, request: Request) -> Response:
        """The bytes of a file that was sent, or the text of a document."""
        file_id = request.path_params["file_id"]
        stored = self._files.find(file_id)
        if stored is not None:
            return FileResponse(self._files.path(stored), media_type="application/octet-stream")
        try:
            found = await run_in_threadpool(self._library.load_document, file_id.removeprefix(FILE_START))
        except LibraryError:
            raise _no_file(file_id) from None
        return PlainTextResponse(found.document.text)

    async def stores(self, request: Request) -> Response:
        """List the sessions, or add one with files to read."""
        if request.method == "GET":
            rows = await run_in_threadpool(self._library.sessions)
            return page(request, [self._store(row) for row in rows])
        raw = await read_object(request)
        if raw.get("expires_after"):
            raise ApiError("expires_after is not supported here: a session stays until it is deleted")
        name = text_field(raw, "name", "") or time.strftime("API %Y-%m-%d %H:%M:%S")
        files = self._named(raw.get("file_ids", []))
        row = self._workspace.new_session(name)
        if files:
            await run_in_threadpool(self._read, row, files)
        return JSONResponse(self._store(self._library.session(row.id)))

    async def store(self, request: Request) -> Response:
        """A session, a new name for it, or its way to the bin."""
        row = self._session(request)
        if request.method == "DELETE":
            self._library.bin_session(row.id)
            return JSONResponse({"id": STORE_START + row.id, "object": "vector_store.deleted", "deleted": True})
        if request.method == "POST":
            name = text_field(await read_object(request), "name", row.name)
            row = self._library.rename_session(row.id, name)
        return JSONResponse(self._store(row))

    async def store_files(self, request: Request) -> Response:
        """List the documents of a session, or read one more file into it."""
        row = self._session(request)
        if request.method == "GET":
            return page(request, await run_in_threadpool(self._store_files, row))
        raw = await read_object(request)
        (stored,) = self._named([text_field(raw, "file_id")])
        await run_in_threadpool(self._read, row, [stored])
        found = self._files.find(stored.id) or stored
        return JSONResponse(self._store_file(row, found, self._job(found, row)))

    async def store_file(self, request: Request) -> Response:
        """How a file stands in a session; or take its document out."""
        row, file_id = self._session(request), request.path_params["file_id"]
        found = next((item for item in self._store_files(row) if item["id"] == file_id), None)
        if found is None:
            raise _no_file(file_id)
        if request.method != "DELETE":
            return JSONResponse(found)
        stored = self._files.find(file_id)
        names = {stored.name} if stored is not None else set()
        ids = [each.id for each in self._library.documents(row.id) if each.id == file_id[5:] or each.name in names]
        if ids:
            self._workspace.submit_remove(row.id, ids)
        if stored is not None:
            self._files.note_job(stored, row.id, "")
        return JSONResponse({"id": file_id, "object": "vector_store.file.deleted", "deleted": True})

    async def batches(self, request: Request) -> Response:
        """Read several files into a session."""
        row, raw = self._session(request), await read_object(request)
        files = self._named(raw.get("file_ids", []))
        if not files:
            raise ApiError("file_ids: a list of files is expected", param="file_ids")
        job_id = await run_in_threadpool(self._read, row, files)
        return JSONResponse(self._batch(row, job_id))

    async def batch(self, request: Request) -> Response:
        """How such a reading stands."""
        return JSONResponse(self._batch(self._session(request), request.path_params["batch_id"]))

    async def batch_files(self, request: Request) -> Response:
        """The files of such a reading."""
        row, job_id = self._session(request), request.path_params["batch_id"].removeprefix(_BATCH_START)
        job = self._library.job(job_id)
        files = [each for each in self._files.of_session(row.id) if each.jobs[row.id] == job_id]
        return page(request, [self._store_file(row, each, job) for each in files])

    async def search(self, request: Request) -> Response:
        """The passages of a session that fit a question or words; no model is needed."""
        from sala_core.viewing.session_texts import session_finder

        row, raw = self._session(request), await read_object(request)
        query = raw.get("query")
        words = " ".join(map(str, query)) if isinstance(query, list) else text_field(raw, "query")
        limit = raw.get("max_num_results", _DEFAULT_RESULTS)
        if not isinstance(limit, int) or not 1 <= limit <= _MAX_RESULTS:
            raise ApiError(f"max_num_results: 1 to {_MAX_RESULTS} is expected", param="max_num_results")
        if raw.get("filters"):
            raise ApiError("filters are not supported here; leave them out", param="filters")
        found = await run_in_threadpool(lambda: session_finder(self._library, row.id).passages(words, limit))
        data = [
            {
                "file_id": FILE_START + item.document_id,
                "filename": item.document,
                "score": item.score,
                "attributes": {"page": item.page or 0, "line_start": item.line_start, "line_end": item.line_end},
                "content": [{"type": "text", "text": item.text}],
            }
            for item in found
        ]
        head = {"object": "vector_store.search_results.page", "search_query": [words]}
        return JSONResponse({**head, "data": data, "has_more": False, "next_page": None})

    def _session(self, request: Request) -> SessionRow:
        store_id = request.path_params["store_id"]
        try:
            return self._library.session(store_id.removeprefix(STORE_START))
        except SessionNotFoundError as error:
            message = f"no vector store has the id {store_id!r}"
            raise ApiError(message, status=404, code="vector_store_not_found", param="vector_store_id") from error

    def _named(self, ids: object) -> list[StoredFile]:
        """The files with these ids. Raises ApiError."""
        if not isinstance(ids, list):
            raise ApiError("file_ids: a list is expected", param="file_ids")
        found = []
        for file_id in ids:
            if (stored := self._files.find(str(file_id))) is None:
                raise _no_file(str(file_id))
            found.append(stored)
        return found

    def _read(self, row: SessionRow, files: Sequence[StoredFile]) -> str:
        """Queue the reading of files, and return the job's id. Raises SalaError."""
        folder = self._workspace.new_upload_folder()
        paths = [self._files.copy_to(folder, stored) for stored in files]
        job_id = self._workspace.readings.submit(row.id, paths, owned_folder=folder, keep_blank=True)
        for stored in files:
            self._files.note_job(stored, row.id, job_id)
        return job_id

    def _job(self, stored: StoredFile, row: SessionRow) -> JobRow | None:
        try:
            return self._library.job(stored.jobs[row.id])
        except (LibraryError, KeyError):
            return None

    def _store_files(self, row: SessionRow) -> list[dict[str, Any]]:
        """The files that were sent into a session, and its other documents."""
        sent = list(self._files.of_session(row.id))
        items = [self._store_file(row, stored, self._job(stored, row)) for stored in sent]
        names = {stored.name for stored in sent}
        for document in self._library.documents(row.id):
            if document.name not in names:
                known = StoredFile(
                    id=document.id,
                    name=document.name,
                    num_bytes=document.num_bytes,
                    purpose="assistants",
                    created_at=document.created_at,
                )
                items.append(self._store_file(row, known, None))
        return items

    def _store_file(self, row: SessionRow, stored: StoredFile, job: JobRow | None) -> dict[str, Any]:
        status, reason = _status(stored, job)
        return {
            "id": FILE_START + stored.id,
            "object": "vector_store.file",
            "created_at": int(stored.created_at),
            "vector_store_id": STORE_START + row.id,
            "status": status,
            "last_error": {"code": "invalid_file", "message": reason} if status == "failed" else None,
            "usage_bytes": stored.num_bytes,
            "chunking_strategy": {"type": "other"},
            "attributes": {},
        }

    def _store(self, row: SessionRow) -> dict[str, Any]:
        counts = self._counts(self._store_files(row))
        return {
            "id": STORE_START + row.id,
            "object": "vector_store",
            "created_at": int(row.created_at),
            "last_active_at": int(row.updated_at),
            "name": row.name,
            "usage_bytes": self._library.session_state_bytes(row.id),
            "file_counts": counts,
            "status": "in_progress" if counts["in_progress"] else "completed",
            "expires_after": None,
            "expires_at": None,
            "metadata": {},
        }

    def _batch(self, row: SessionRow, batch_id: str) -> dict[str, Any]:
        job_id = batch_id.removeprefix(_BATCH_START)
        job = self._library.job(job_id)
        files = [each for each in self._files.of_session(row.id) if each.jobs[row.id] == job_id]
        counts = self._counts([self._store_file(row, each, job) for each in files])
        is_over = job.status not in _WORKING
        status = "cancelled" if job.status in _CANCELLED else "completed" if is_over else "in_progress"
        return {
            "id": _BATCH_START + job_id,
            "object": "vector_store.files_batch",
            "created_at": int(job.created_at),
            "vector_store_id": STORE_START + row.id,
            "status": "failed" if job.status == "failed" else status,
            "file_counts": counts,
        }

    @staticmethod
    def _counts(items: Sequence[dict[str, Any]]) -> dict[str, int]:
        found = Counter(item["status"] for item in items)
        kinds = ("in_progress", "completed", "failed", "cancelled")
        return {**{kind: found[kind] for kind in kinds}, "total": len(items)}


def page(request: Request, items: list[dict[str, Any]]) -> JSONResponse:
    """One page of a list, by the parameters `limit`, `after` and `order` of a request. items: the newest first."""
    if request.query_params.get("order") == "asc":
        items = items[::-1]
    after = request.query_params.get("after")
    ids = [item["id"] for item in items]
    start = ids.index(after) + 1 if after in ids else 0
    asked = request.query_params.get("limit", str(_MAX_PAGE))
    limit = min(int(asked), _MAX_PAGE) if asked.isdigit() and int(asked) else _MAX_PAGE
    shown = items[start : start + limit]
    return JSONResponse(
        {
            "object": "list",
            "data": shown,
            "first_id": shown[0]["id"] if shown else None,
            "last_id": shown[-1]["id"] if shown else None,
            "has_more": start + limit < len(items),
        }
    )


def _status(stored: StoredFile, job: JobRow | None) -> tuple[str, str]:
    """How the reading of a file stands, and why it failed."""
    if job is None or job.status == "done":
        skipped = job.result.skipped if job is not None and isinstance(job.result, ReadReceipt) else ()
        reason = next((item.reason for item in skipped if item.name.endswith(stored.name)), "")
        return ("failed", reason) if reason else ("completed", "")
    if job.status in _WORKING:
        return "in_progress", ""
    return ("cancelled", "") if job.status in _CANCELLED else ("failed", job.error or "the reading failed")


def _no_file(file_id: str) -> ApiError:
    return ApiError(f"no file has the id {file_id!r}", status=404, code="file_not_found", param="file_id")
