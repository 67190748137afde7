"""The route that gives earlier turns to `earlier.js`. The guard lets only the page itself use it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import JSONResponse

from app.page.conversation import history_html
from app.page.earlier.window import num_folded
from app.page.view import find_session, session_view

if TYPE_CHECKING:
    from sala_core.session.workspace import Workspace

MAX_MESSAGES = 2000


def earlier_router(workspace: Workspace) -> APIRouter:
    """Return the route /api/sessions/ID/earlier: the last `count` of the messages that the page does not hold."""
    router = APIRouter(prefix="/api")

    @router.get("/sessions/{session_id}/earlier")
    def earlier(session_id: str, count: Annotated[int, Query(ge=2, le=MAX_MESSAGES)] = 60) -> Any:
        row = find_session(workspace, session_id)
        if row is None:
            return JSONResponse({"detail": "this session is not there any more"}, status_code=404)
        view = session_view(workspace, row)
        folded = num_folded(len(view.messages))
        start = max(0, folded - count)
        turns = {turn.answer_id: turn for turn in view.turns}
        shown = history_html(view.messages[start:folded], "", view.outdated, turns)
        return {"html": shown, "left": start // 2}

    return router
