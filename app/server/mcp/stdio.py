"""`mcp`: the MCP server on standard input and output, for a client that starts it.

Standard output carries the protocol only: the transport keeps it for itself, and whatever else is printed, also by
libraries and child processes, goes to standard error.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path
from types import FrameType

import anyio

from app.grammar.parser import Arguments
from app.server.mcp.bundle import write_bundle
from app.server.mcp.host import StdioHost
from app.server.mcp.roots import resolved_roots
from app.server.mcp.server import SalaServer


def serve_stdio(arguments: Arguments, folder: Path) -> int:
    """Serve until standard input ends, or write a bundle. Return 0. Raises SalaError for a folder that is not there.

    arguments: the command line. folder: of the library.
    """
    assert arguments.mcp is not None
    if arguments.mcp.bundle is not None:
        write_bundle(arguments.mcp.bundle, arguments)
        print(f"Wrote {arguments.mcp.bundle}. Open it with Claude Desktop, or another client for MCP bundles.")
        return 0
    host = StdioHost(arguments, folder, resolved_roots(arguments.mcp.allow))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, frame: _leave(host, number, frame))
    if sys.stdin.isatty():
        print("Waiting for an MCP client on standard input; Ctrl-C ends. See app/server/mcp/README.md", file=sys.stderr)
    try:
        anyio.run(SalaServer(host).run_stdio_async)
    finally:
        host.close()
    return 0


def _leave(host: StdioHost, number: int, frame: FrameType | None) -> None:
    """Save what was read and end at once: the main thread cannot be woken while it waits for a line."""

    def leave() -> None:
        try:
            host.close()
        finally:
            os._exit(0)

    threading.Thread(target=leave, name="leave").start()
