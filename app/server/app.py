"""The web server: the page and its API behind the guard, only on 127.0.0.1."""

from __future__ import annotations

import os
import re
import secrets
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import gradio as gr
import uvicorn
from fastapi import FastAPI

from app.grammar.parser import DEFAULT_PORT, Arguments
from app.page.earlier.routes import earlier_router
from app.page.first_run.routes import first_run_router
from app.page.first_run.sample import make_sample
from app.page.models.routes import models_router
from app.page.page import build_page, page_options
from app.page.question_lists.routes import questions_router
from app.page.reading_plan.plans import Plans
from app.page.sessions.routes import sessions_router
from app.page.settings.routes import settings_router
from app.page.settings.stored import load_program, save_program
from app.server.connections import limit_log, limited_protocol
from app.server.documents import documents_router
from app.server.entrance import (
    HOST,
    address,
    forget_running,
    note_running,
    open_window,
    remove_redirect,
    settings_of,
)
from app.server.guard import Guard
from app.server.key import PageKey, library_key
from app.server.native_window import show_window
from app.server.plans_routes import plans_router
from app.server.sources.routes import sources_router
from app.server.uploads_routes import uploads_router
from sala_core.errors import LibraryError, SalaError

if TYPE_CHECKING:
    from types import TracebackType

    from sala_core.session.workspace import ModelChoice, Workspace

_GRACE_S = 2
_SCRIPT = re.compile(r"<script>(.*?)</script>", re.DOTALL)


def create_app(
    workspace: Workspace,
    *,
    port: int,
    token: str,
    page: gr.Blocks | None = None,
    key: PageKey | None = None,
    on_new_token: Callable[[str], None] | None = None,
    on_opened: Callable[[str], None] | None = None,
) -> FastAPI:
    """Build the whole application: API and page, both behind the guard.

    Args:
        workspace: sessions and jobs that the application works on.
        port: port of the server, part of the allowed Host headers.
        token: opens the page once.
        page: used instead of the page built for the workspace.
        key: signs cookies and tokens; None for one that ends with the process.
        on_new_token: called with a new token when another browser asks for the page.
        on_opened: called with the name of the private folder that a window was opened from.
    """
    inner = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    inner.include_router(documents_router(workspace))
    plans = Plans(workspace)
    inner.include_router(uploads_router(workspace, plans))
    inner.include_router(plans_router(workspace, plans))
    inner.include_router(sources_router(workspace))
    for router in (models_router, settings_router, sessions_router, first_run_router, questions_router, earlier_router):
        inner.include_router(router(workspace))
    options = page_options()
    gr.mount_gradio_app(inner, page or build_page(workspace, plans), path="/", **options)
    guard = Guard(
        inner,
        port=port,
        token=token,
        key=key,
        inline_scripts=_SCRIPT.findall(options.get("head") or ""),
        on_new_token=on_new_token,
        on_opened=on_opened,
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
            Workspace(
                folder,
                arguments.model,
                arguments.device,
                arguments.kv_kind,
                bos=arguments.bos_choice,
                kv_at_rest=arguments.kv_at_rest,
            )
        ) as workspace,
    ):
        for notice in workspace.library.take_notices():
            print(f"Note: {notice}", flush=True)
        os.environ["GRADIO_TEMP_DIR"] = os.environ["GRADIO_EXAMPLES_CACHE"] = uploads
        port, token = listener.getsockname()[1], secrets.token_urlsafe(32)
        app = create_app(
            workspace,
            port=port,
            token=token,
            key=library_key(folder),
            on_new_token=None if arguments.browser else lambda new: _announce(port, new),
            on_opened=lambda name: remove_redirect(folder, name),
        )
        server = _Server(app, on_ready=lambda: _ready(arguments, folder, port, token))
        workspace.on_switched = lambda choice: _keep_choice(arguments, folder, port, choice)
        make_sample(workspace)
        try:
            if arguments.window:
                server.run_beside(listener, lambda: show_window(address(port, token)))
            else:
                server.run(sockets=[listener])
        finally:
            forget_running(folder)
        print("\nStopping", flush=True)
        signals.restore()
    return 0


def _keep_choice(arguments: Arguments, folder: Path, port: int, choice: ModelChoice) -> None:
    """Keep the model that was chosen on the page for later starts, and tell starts of today which one runs."""
    with suppress(LibraryError):  # the model is loaded all the same
        kept = load_program(folder)
        save_program(folder, replace(kept, model=choice.model))
        now = replace(arguments, model=choice.model, device=choice.device, kv=choice.kv)  # type: ignore[arg-type]
        note_running(folder, port, settings_of(now))


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
                http=limited_protocol(),
                ws="none",
                timeout_graceful_shutdown=_GRACE_S,
            )
        )
        self._on_ready = on_ready
        limit_log()

    def run_beside(self, listener: socket.socket, work: Callable[[], None]) -> None:
        """Serve in a thread of its own while `work` runs in this one, then stop."""
        thread = threading.Thread(target=self.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            while not self.started and thread.is_alive():
                time.sleep(0.05)
            work()
        finally:
            self.should_exit = True
            thread.join()

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


def _ready(arguments: Arguments, folder: Path, port: int, token: str) -> None:
    note_running(folder, port, settings_of(arguments))
    if arguments.window:
        return
    if not arguments.browser:
        _announce(port, token)
        return
    print(f"Sala runs at http://{HOST}:{port}/ and opens in your browser; Ctrl-C stops it.", flush=True)
    threading.Thread(target=open_window, args=[folder, port, token], daemon=True).start()


def _announce(port: int, token: str) -> None:
    print(f"Open {address(port, token)}\nThe address works once; Ctrl-C stops the program.", flush=True)
