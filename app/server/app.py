"""The web server: the page and its API behind the guard, only on 127.0.0.1."""

from __future__ import annotations

import os
import re
import secrets
import signal
import socket
import tempfile
import threading
import webbrowser
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import gradio as gr
import uvicorn
from fastapi import FastAPI

from app.grammar.parser import DEFAULT_PORT, Arguments
from app.page.page import build_page, page_options
from app.server.documents import documents_router
from app.server.guard import TOKEN_PARAMETER, Guard
from app.server.uploads_routes import uploads_router
from sala_core.errors import SalaError

if TYPE_CHECKING:
    from types import TracebackType

    from sala_core.session.workspace import Workspace

HOST = "127.0.0.1"
_GRACE_S = 2
_SCRIPT = re.compile(r"<script>(.*?)</script>", re.DOTALL)


def create_app(
    workspace: Workspace,
    *,
    port: int,
    token: str,
    page: gr.Blocks | None = None,
    on_new_token: Callable[[str], None] | None = None,
) -> FastAPI:
    """Build the whole application: API and page, both behind the guard.

    Args:
        workspace: sessions and jobs that the application works on.
        port: port of the server, part of the allowed Host headers.
        token: opens the page once.
        page: used instead of the page built for the workspace.
        on_new_token: called with a new token when another browser asks for the page.
    """
    inner = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    inner.include_router(documents_router(workspace))
    inner.include_router(uploads_router(workspace))
    options = page_options()
    gr.mount_gradio_app(inner, page or build_page(workspace), path="/", **options)
    guard = Guard(
        inner,
        port=port,
        token=token,
        inline_scripts=_SCRIPT.findall(options.get("head") or ""),
        on_new_token=on_new_token,
    )
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, lifespan=inner.router.lifespan_context)
    app.mount("/", guard)
    return app


def serve(arguments: Arguments, folder: Path) -> int:
    """Serve the page until SIGINT or SIGTERM. Return 0. Raises SalaError if the requested port cannot be used."""
    from sala_core.session.workspace import Workspace

    with (
        listening_socket(arguments.port) as listener,
        tempfile.TemporaryDirectory(prefix="sala-uploads-", ignore_cleanup_errors=True) as uploads,
        _QuietSignals() as signals,
        closing(
            Workspace(folder, arguments.model, arguments.device, arguments.kv_kind, bos=arguments.bos_choice)
        ) as workspace,
    ):
        os.environ["GRADIO_TEMP_DIR"] = os.environ["GRADIO_EXAMPLES_CACHE"] = uploads
        port, token = listener.getsockname()[1], secrets.token_urlsafe(32)
        app = create_app(workspace, port=port, token=token, on_new_token=lambda new: _announce(port, new))
        server = _Server(app, on_ready=lambda: _ready(port, token, browser=arguments.browser))
        server.run(sockets=[listener])
        print("\nStopping", flush=True)
        signals.restore()
    return 0


def listening_socket(port: int | None) -> socket.socket:
    """Return a listening socket on 127.0.0.1.

    port: None means the default port, or a free port if the default port is in use. Raises SalaError if a given port
    cannot be used.
    """
    try:
        return _bind(DEFAULT_PORT if port is None else port)
    except OSError as error:
        if port is not None:
            raise SalaError(
                f"port {port} cannot be used ({error.strerror}); choose another with --port, or leave it out"
            ) from error
        return _bind(0)


def address(port: int, token: str) -> str:
    """Return the address to open in a browser."""
    return f"http://{HOST}:{port}/?{TOKEN_PARAMETER}={token}"


class _Server(uvicorn.Server):
    """uvicorn without its own messages. Its access log would contain the launch token."""

    def __init__(self, app: FastAPI, *, on_ready: Callable[[], None]) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                log_level="warning",
                access_log=False,
                server_header=False,
                proxy_headers=False,
                ws="none",
                timeout_graceful_shutdown=_GRACE_S,
            )
        )
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start listening, then call `on_ready`."""
        await super().startup(sockets)
        if self.started:
            self._on_ready()


class _QuietSignals:
    """Ignores SIGINT and SIGTERM that uvicorn raises again after it has stopped, so that the cleanup can run."""

    def __enter__(self) -> _QuietSignals:
        self._previous = {
            number: signal.signal(number, lambda number, frame: None) for number in (signal.SIGINT, signal.SIGTERM)
        }
        return self

    def restore(self) -> None:
        """Restore the usual handlers. A further Ctrl-C then ends the process."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.restore()


def _bind(port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        if os.name != "nt":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((HOST, port))
        listener.listen()
    except OSError:
        listener.close()
        raise
    return listener


def _ready(port: int, token: str, *, browser: bool) -> None:
    _announce(port, token)
    if browser:
        threading.Thread(target=webbrowser.open, args=[address(port, token)], daemon=True).start()


def _announce(port: int, token: str) -> None:
    print(f"Open {address(port, token)}\nThe address works once; Ctrl-C stops the program.", flush=True)
