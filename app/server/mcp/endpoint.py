"""`/mcp` of the running program: streamable HTTP. The SDK is loaded with the first request that has access, so
that the page does not start a second later for those who do not use it."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

import anyio.to_thread
from starlette.datastructures import Headers, MutableHeaders

from app.server.api.key import api_key
from app.server.key import library_key
from app.server.mcp.access import MCP_PATH, Access, error_response
from app.server.mcp.roots import resolved_roots
from app.server.security_headers import set_security_headers

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

    from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
    from starlette.types import Message, Receive, Scope, Send

    from app.server.key import PageKey
    from sala_core.session.workspace import Workspace

_MAX_BODY_BYTES = 4 * 2**20
_MAX_SESSIONS = 64


def mcp_endpoint(workspace: Workspace, *, hosts: Collection[str], allowed: Sequence[Path]) -> McpEndpoint:
    """The endpoint of a running program. Raises IngestError if a folder of `allowed` is not there; LibraryError.

    workspace: reads and answers. hosts: the program's own names with its port. allowed: folders that may be read.
    """
    folder = workspace.library.folder
    key = library_key(folder)
    access = Access(key=key, api_key=partial(api_key, folder), hosts=hosts)
    return McpEndpoint(workspace, access, key=key, allowed=resolved_roots(allowed))


class McpEndpoint:
    """An ASGI application for one path, beside the page and its guard. It ends with the event loop."""

    def __init__(self, workspace: Workspace, access: Access, *, key: PageKey, allowed: Sequence[Path] = ()) -> None:
        """Serve a workspace.

        Args:
            workspace: reads and answers.
            access: who may come in.
            key: of the library; another process of the same user signs folders with it.
            allowed: resolved folders whose files may be read.
        """
        self._workspace, self._access, self._key, self._allowed = workspace, access, key, tuple(allowed)
        self._serving: asyncio.Task[None] | None = None
        self._ready = asyncio.Event()
        self._manager: StreamableHTTPSessionManager | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request. A refused one never reaches the tools."""

        async def secured(message: Message) -> None:
            if message["type"] == "http.response.start":
                set_security_headers(MutableHeaders(scope=message), keep_cache=False)
            await send(message)

        refused = self._access.refusal(Headers(scope=scope))
        if refused is None and scope["path"] != MCP_PATH:
            refused = error_response(404, f"There is nothing here; the address is {MCP_PATH}.")
        if refused is None:
            if self._serving is None:
                self._serving = asyncio.create_task(self._serve())
            await self._ready.wait()
            if self._manager is not None:
                await self._manager.handle_request(scope, receive, secured)
                return
            refused = error_response(503, "The interface is not there any more; start the program again.")
        await refused(scope, receive, secured)

    async def _serve(self) -> None:
        """Load the SDK; all its tasks belong to this one."""
        try:
            manager = await anyio.to_thread.run_sync(self._make)
            async with manager.run():
                self._manager = manager
                self._ready.set()
                await asyncio.Event().wait()
        finally:
            self._manager = None
            self._ready.set()

    def _make(self) -> StreamableHTTPSessionManager:
        from mcp.server.transport_security import TransportSecuritySettings

        from app.server.mcp.host import Host
        from app.server.mcp.server import SalaServer

        server = SalaServer(Host(self._workspace, self._allowed, self._key))
        server.streamable_http_app(
            streamable_http_path=MCP_PATH,
            max_request_body_size=_MAX_BODY_BYTES,
            max_sessions=_MAX_SESSIONS,
            transport_security=TransportSecuritySettings(enable_dns_rebinding_protection=False),  # checked by Access
        )
        return server.session_manager
