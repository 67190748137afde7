"""Who may use `/mcp`. The page's guard does not stand in front of it, because clients have no cookie.

The `Host` must be one of the program's own names, no web page may send the request (`Origin`, `Sec-Fetch-Site`), and it
must show the key of the interfaces. A process of the same user may show the library's key instead.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

from starlette.responses import JSONResponse

from app.server.security_headers import is_from_web_page, is_own_host, shows_key

if TYPE_CHECKING:
    from starlette.datastructures import Headers

    from app.server.key import PageKey

MCP_PATH = "/mcp"
FOLDERS_HEADER = "x-sala-folders"
"""Folders that the user has allowed to the process that calls, signed with the library's key. It grants access too."""
_NO_KEY = "The key is missing or wrong: send `Authorization: Bearer KEY`; `launch.py serve --show-key` prints it."


class Access:
    """Checks the headers of a request."""

    def __init__(self, *, key: PageKey, api_key: Callable[[], str], hosts: Collection[str]) -> None:
        """Guard one address.

        key: of the library. api_key: gives the key that clients have to show. hosts: the program's own names with its
        port, as the `Host` header has them.
        """
        self._key, self._api_key, self._hosts = key, api_key, frozenset(hosts)

    def refusal(self, headers: Headers) -> JSONResponse | None:
        """The response to a request that must not pass; None lets it pass."""
        if not is_own_host(headers, self._hosts):
            return error_response(403, "This address does not serve that host name.")
        if is_from_web_page(headers):
            return error_response(403, "A web page may not use this address.")
        if self._key.signed_folders(headers.get(FOLDERS_HEADER, "")) is not None:
            return None
        if shows_key(headers, self._api_key()):
            return None
        return error_response(401, _NO_KEY, {"www-authenticate": "Bearer"})


def error_response(status: int, message: str, headers: dict[str, str] | None = None) -> JSONResponse:
    """An error as JSON-RPC has it. status: of HTTP."""
    body = {"jsonrpc": "2.0", "id": None, "error": {"code": -32600, "message": message}}
    return JSONResponse(body, status_code=status, headers=headers)
