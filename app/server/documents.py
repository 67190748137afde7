"""Stored documents by id: the lines around a place, so that the page can show where an answer comes from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, HTTPException, Query

from sala_core.errors import LibraryError

if TYPE_CHECKING:
    from sala_core.session.workspace import Workspace

MAX_LINES = 400


def documents_router(workspace: Workspace) -> APIRouter:
    """Return the routes under /api that read the workspace's library."""
    router = APIRouter(prefix="/api")

    @router.get("/health")
    def health() -> dict[str, str]:
        return {"status": "ok"}

    @router.get("/documents/{document_id}")
    def document(
        document_id: str,
        line: Annotated[int, Query(ge=1)] = 1,
        context: Annotated[int, Query(ge=0, le=MAX_LINES // 2)] = 20,
    ) -> dict[str, Any]:
        try:
            row = workspace.library.document(document_id)
            text = workspace.library.load_document(document_id).document.text
        except LibraryError as error:
            raise HTTPException(status_code=404, detail=str(error)) from error
        lines = text.split("\n")
        first, last = max(1, line - context), min(len(lines), line + context)
        return {
            "id": row.id,
            "name": row.name,
            "num_pages": row.num_pages,
            "num_lines": len(lines),
            "line_start": first,
            "lines": lines[first - 1 : last],
        }

    return router
