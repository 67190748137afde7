"""What stands in front of the API: the `Host`, other web pages, the key, and the size of a body."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.responses import PlainTextResponse, Response

from app.server.api.errors import ApiError
from app.server.connections import LimitedBody
from app.server.security_headers import is_from_web_page, is_own_host, set_security_headers, shows_key

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_BODY_BYTES = 64 * 2**20
MAX_FILE_BYTES = 2 * 2**30
"""A file that is uploaded; it goes to the disk."""
_FILES_PATH = "/v1/files"
_OPEN_PATH = "/health"
_METHODS = "GET, POST, DELETE, OPTIONS"
_HEADERS = "authorization, content-type"
_CORS_S = "600"


class Access:
    """An ASGI application in front of the API. A refused request reaches nothing."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        key: Callable[[], str],
        hosts: Collection[str],
        origins: Collection[str] = (),
        max_body_bytes: int = MAX_BODY_BYTES,
    ) -> None:
        """Guard the API.

        Args:
            app: the API.
            key: gives the key that clients have to show.
            hosts: the program's own names, with its port, as the `Host` header has them.
            origins: of web pages that may use the API too; each needs the key.
            max_body_bytes: limit for the body of a request, except for an uploaded file.
        """
        self._app, self._key = app, key
        self._hosts, self._origins = frozenset(hosts), frozenset(origins)
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            return
        headers = Headers(scope=scope)
        origin = headers.get("origin", "")
        is_allowed = origin in self._origins

        async def secured(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = MutableHeaders(scope=message)
                set_security_headers(own, keep_cache=False)
                if is_allowed:
                    own["access-control-allow-origin"], own["vary"] = origin, "origin"
                    own["cross-origin-resource-policy"] = "cross-origin"
            await send(message)

        refused = self._refusal(scope, headers, is_allowed=is_allowed)
        if refused is not None:
            await refused(scope, receive, secured)
            return
        limit = MAX_FILE_BYTES if scope["path"].rstrip("/") == _FILES_PATH else self._max_body_bytes
        length = headers.get("content-length", "0")
        too_large = ApiError(f"a request may have {limit:,} bytes", status=413, code="request_too_large").response()
        if not length.isdigit() or int(length) > limit:
            await too_large(scope, receive, secured)
            return
        body = LimitedBody(receive, limit)
        try:
            await self._app(scope, body, secured)
        except ClientDisconnect:
            if not body.is_over:
                raise
            await too_large(scope, receive, secured)

    def _refusal(self, scope: Scope, headers: Headers, *, is_allowed: bool) -> Response | None:
        if not is_own_host(headers, self._hosts):
            return ApiError("this address does not serve that host name", status=403, code="wrong_host").response()
        if is_from_web_page(headers) and not is_allowed:
            message = "a web page may not use this address; `serve --allow-origin ORIGIN` allows one"
            return ApiError(message, status=403, code="wrong_origin").response()
        if is_allowed and scope["method"] == "OPTIONS":
            allowed = {"methods": _METHODS, "headers": _HEADERS}
            own = {f"access-control-allow-{name}": value for name, value in allowed.items()}
            return PlainTextResponse("", headers={**own, "access-control-max-age": _CORS_S})
        if scope["path"] == _OPEN_PATH:
            return None
        if not shows_key(headers, self._key()):
            message = "the key is missing or wrong; `python3 launch.py serve --show-key` prints it"
            return ApiError(message, status=401, code="invalid_api_key").response()
        return None
