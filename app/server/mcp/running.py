"""The program that runs with the same library already: it reads and answers, for one model in memory and one queue."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import httpx2
from mcp.client.client import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError
from mcp.shared.exceptions import MCPError

from app.server.entrance import HOST, running_port
from app.server.key import PageKey, existing_key
from app.server.mcp.access import FOLDERS_HEADER, MCP_PATH

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from app.grammar.parser import Arguments
    from app.server.mcp.records import Record

R = TypeVar("R", bound="Record")

_PROTOCOL = "2026-07-28"
_CONNECT_S = 10.0
_SILENCE_S = 60.0
"""The other program notifies every few seconds while it works."""


@dataclass(frozen=True, kw_only=True)
class RunningProgram:
    """The tools of another process on this machine. key: of the library, which lets this process in there."""

    port: int
    key: PageKey

    async def call(
        self, ctx: Context, name: str, arguments: dict[str, Any], result: type[R], *, roots: Sequence[Path] = ()
    ) -> R:
        """Call a tool there, pass its progress on to the client, and return its result.

        Args:
            ctx: of the call that is passed on.
            name, arguments: the tool.
            result: what it returns.
            roots: folders whose files may be read for it.

        Raises ToolError with the sentence that the other program gives, or where it has ended.
        """
        headers = {FOLDERS_HEADER: self.key.sign_folders(list(map(str, roots)))}

        async def pass_on(progress: float, total: float | None, message: str | None) -> None:
            await ctx.report_progress(progress, total, message)

        timeout = httpx2.Timeout(_CONNECT_S, read=_SILENCE_S)
        try:
            async with (
                httpx2.AsyncClient(headers=headers, timeout=timeout, trust_env=False) as http,
                Client(
                    streamable_http_client(f"http://{HOST}:{self.port}{MCP_PATH}", http_client=http), mode=_PROTOCOL
                ) as client,
            ):
                done = await client.call_tool(name, arguments, progress_callback=pass_on)
        except (MCPError, httpx2.HTTPError, OSError) as error:
            raise ToolError(
                f"the program that runs with this library, at port {self.port}, did not answer ({error}); try again"
            ) from error
        text = " ".join(item.text for item in done.content if item.type == "text")
        if done.is_error:
            raise ToolError(text)
        return result.model_validate(done.structured_content)


def find_running(arguments: Arguments, folder: Path) -> RunningProgram | None:
    """The program that runs with this library and the settings that the command line names; None without one.

    arguments: the command line. folder: of the library.
    """
    key = existing_key(folder)
    port = running_port(arguments, folder, key) if key is not None else None
    return RunningProgram(port=port, key=key) if key is not None and port is not None else None
