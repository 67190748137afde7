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
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

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
from app.remote.choice import engine_choice
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
from app.server.mcp.access import MCP_PATH
from app.server.mcp.endpoint import mcp_endpoint
from app.server.mounts import Mounts
from app.server.native_window import show_window
from app.server.plans_routes import plans_router
from app.server.program import announce, is_page_served, listening_host, mounts_of, own_names, tls_options, without_page
from app.server.sources.routes import sources_router
from app.server.uploads_routes import uploads_router
from sala_core.errors import LibraryError, SalaError

if TYPE_CHECKING:
    from types import TracebackType

    from starlette.types import ASGIApp

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
    mounts: Mapping[str, ASGIApp] | None = None,
) -> FastAPI:
    """Build the whole application: page and its API behind the guard, and beside it what other programs use.

    Args:
        workspace: sessions and jobs that the application works on.
        port: port of the server, part of the allowed Host headers.
        token: opens the page once.
        page: used instead of the page built for the workspace.
        key: signs cookies and tokens; None for one that ends with the process.
        on_new_token: called with a new token when another browser asks for the page.
        on_opened: called with the name of the private folder that a window was opened from.
        mounts: by path, the applications for other programs. Each checks its own key.
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
    app.mount("/", Mounts(guard, mounts or {}))
    return app


def serve(arguments: Arguments, folder: Path) -> int:
    """Serve the page until SIGINT or SIGTERM. Return 0. Raises SalaError if the requested port cannot be used."""
    from sala_core.session.workspace import Workspace

    with (
        listening_socket(arguments.port, listening_host(arguments)) as listener,
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
        mcp = mcp_endpoint(workspace, hosts=own_names(arguments, port), allowed=arguments.page_allow)
        mounts: dict[str, ASGIApp] = {MCP_PATH: mcp, **mounts_of(workspace, folder, arguments, port)}
        app = create_app(
            workspace,
            port=port,
            token=token,
            key=library_key(folder),
            on_new_token=None if arguments.browser and arguments.serve is None else lambda new: _announce(port, new),
            on_opened=lambda name: remove_redirect(folder, name),
            mounts=mounts,
        )
        if not is_page_served(arguments):
            app = without_page(mounts)
        server = _Server(app, on_ready=lambda: _ready(arguments, folder, port, token), tls=tls_options(arguments))
        if (engine := engine_choice(arguments)) is not None:
            workspace.engines.choose(engine, keep=False)
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
        kv: Literal["auto", "bf16", "int8", "fp8"] = "bf16" if choice.kv == "plain" else choice.kv
        now = replace(arguments, model=choice.model, device=choice.device, kv=kv)
        note_running(folder, port, settings_of(now))


def listening_socket(port: int | None, host: str = HOST) -> socket.socket:
    """Return a listening socket.

    port: None means the default port, or a free port if the default port is in use. host: the address, by default that
    of this computer alone. Raises SalaError if a given port, or the address, cannot be used.
    """
    try:
        return _bind(DEFAULT_PORT if port is None else port, host)
    except OSError as error:
        if host != HOST:
            raise SalaError(f"{host} cannot be listened at ({error.strerror}); choose another --host") from error
        if port is not None:
            raise SalaError(
                f"port {port} cannot be used ({error.strerror}); choose another with --port, or leave it out"
            ) from error
        return _bind(0, host)


class _Server(uvicorn.Server):
    """uvicorn without its own messages. Its access log would contain the launch token."""

    def __init__(self, app: FastAPI, *, on_ready: Callable[[], None], tls: Mapping[str, str]) -> None:
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
                **tls,  # type: ignore[arg-type]
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


def _bind(port: int, host: str) -> socket.socket:
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        if os.name != "nt":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen()
    except OSError:
        listener.close()
        raise
    return listener


def _ready(arguments: Arguments, folder: Path, port: int, token: str) -> None:
    if is_page_served(arguments):
        note_running(folder, port, settings_of(arguments))
    if arguments.serve is not None:
        announce(folder, arguments, port)
        return
    if arguments.window:
        return
    if not arguments.browser:
        _announce(port, token)
        return
    print(f"Sala runs at http://{HOST}:{port}/ and opens in your browser; Ctrl-C stops it.", flush=True)
    threading.Thread(target=open_window, args=[folder, port, token], daemon=True).start()


def _announce(port: int, token: str) -> None:
    print(f"Open {address(port, token)}\nThe address works once; Ctrl-C stops the program.", flush=True)
