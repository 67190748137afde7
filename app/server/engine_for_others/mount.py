"""The application for other Salas, beside the page: no cookie, no web page, a key on every path."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fastapi import FastAPI
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse

from app.server.engine_for_others.access import engine_key
from app.server.engine_for_others.routes import engine_router
from app.server.security_headers import is_from_web_page, set_security_headers

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from sala_core.session.workspace import Workspace


def engine_mount(workspace: Workspace, library: Path) -> ASGIApp:
    """The application. Raises LibraryError if its key cannot be kept.

    workspace: reads and answers. library: its folder.
    """
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.include_router(engine_router(workspace, engine_key(library)))
    return _NoWebPages(app)


class _NoWebPages:
    """Refuses what a browser sends for a page, and sets the security headers.

    Which name the request was sent to does not matter: nothing is served without the key, which no browser has.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return

        async def secured(message: Message) -> None:
            if message["type"] == "http.response.start":
                set_security_headers(MutableHeaders(scope=message), keep_cache=False)
            await send(message)

        if is_from_web_page(Headers(scope=scope)):
            await PlainTextResponse("A web page may not use this address.", status_code=403)(scope, receive, secured)
            return
        await self._app(scope, receive, secured)
