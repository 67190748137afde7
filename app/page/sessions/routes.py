"""The routes for sessions: the bin, pins, hits of a search. The guard lets only the page itself use them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel

from app import wording
from sala_core.errors import SalaError

if TYPE_CHECKING:
    from sala_core.session.workspace import Workspace


class PinBody(BaseModel):
    """Whether the session stands at the top of the list."""

    pinned: bool


def sessions_router(workspace: Workspace) -> APIRouter:
    """Return the routes /api/bin, /api/sessions/ID/pin and /api/search."""
    router = APIRouter(prefix="/api")
    library = workspace.library

    @router.get("/bin")
    def show() -> list[dict[str, Any]]:
        return [
            {
                "id": row.id,
                "name": row.name,
                "facts": " · ".join(
                    (
                        wording.plural(row.num_documents, "document"),
                        wording.plural(row.num_messages, "message"),
                        wording.size(library.session_state_bytes(row.id)),
                    )
                ),
                "when": f"Deleted {wording.ago(row.binned_at or 0.0)}, {wording.days_left(row.binned_at or 0.0)}",
            }
            for row in library.sessions_in_bin()
        ]

    @router.post("/bin/{session_id}/restore")
    def restore(session_id: str) -> Any:
        return _answer(lambda: {"id": (row := library.restore_session(session_id)).id, "name": row.name})

    @router.delete("/bin/{session_id}")
    def delete(session_id: str) -> Any:
        return _answer(lambda: {"freed": wording.size(library.delete_session(session_id, only_in_bin=True))})

    @router.delete("/bin")
    def empty() -> Any:
        return _answer(lambda: {"freed": wording.size(library.empty_bin(older_than_s=0.0))})

    @router.get("/sessions/{session_id}")
    def about(session_id: str) -> Any:
        return _answer(lambda: {"pinned": library.session(session_id).pinned})

    @router.post("/sessions/{session_id}/pin")
    def pin(session_id: str, body: PinBody) -> Any:
        return _answer(lambda: {"pinned": library.pin_session(session_id, pinned=body.pinned).pinned})

    @router.get("/search")
    def search(q: Annotated[str, Query(max_length=400)] = "") -> list[dict[str, Any]]:
        return [asdict(hit) for hit in library.search_hits(q)]

    return router


def _answer(work: Callable[[], dict[str, Any]]) -> Any:
    try:
        return work()
    except SalaError as error:  # no status of an error: the browser would log it as a fault of the page
        return {"refused": str(error)}
