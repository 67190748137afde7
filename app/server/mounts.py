"""Which application answers a path: the page behind its guard, or one of those that other programs use with a key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send


class Mounts:
    """An ASGI application in front of others. A path belongs to the mount that it equals or that it is below of."""

    def __init__(self, page: ASGIApp, mounts: Mapping[str, ASGIApp]) -> None:
        """page: gets all other paths. mounts: path, without a slash at its end -> application; each checks its key."""
        self._page, self._mounts = page, dict(mounts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a connection on."""
        path = scope.get("path", "") if scope["type"] == "http" else ""
        found = next(
            (app for start, app in self._mounts.items() if path == start or path.startswith(f"{start}/")), None
        )
        await (found or self._page)(scope, receive, send)
