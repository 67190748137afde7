"""The route of the first run. The guard lets only the page itself use it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi import APIRouter

from app.page.first_run.sample import sample_session
from app.page.settings.stored import load_program

if TYPE_CHECKING:
    from sala_core.session.workspace import Workspace


def first_run_router(workspace: Workspace) -> APIRouter:
    """Return the route /api/first-run: the sample's session, and whether the tour was seen."""
    router = APIRouter(prefix="/api")

    @router.get("/first-run")
    def show() -> dict[str, Any]:
        session = sample_session(workspace)
        return {"session": session, "tour": bool(session) and not load_program(workspace.library.folder).tour}

    return router
