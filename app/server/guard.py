"""The guard: it checks every request before the application sees it, and sets the headers of every response.

Every web page that the user has open, and every program on this machine, can reach a server on 127.0.0.1. Therefore
the Host header must be this server's (a foreign name that resolves to 127.0.0.1 is refused), a request from another
origin is refused, and every request needs the launch cookie. Only a token gives the cookie, and only once: the address
printed at the start holds one, or the private file that opens the browser. Browsers send the cookie only to paths below
the page's place, which no other program knows.
"""

import asyncio
import hmac
import re
import secrets
from collections.abc import Callable, Sequence
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs, urlencode

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.server.connections import LimitedBody
from app.server.entrance import ALIVE_PATH, FILE_PARAMETER, OPEN_PATH, TOKEN_PARAMETER
from app.server.key import COOKIE_S, RENEW_S, PageKey
from app.server.security_headers import content_policy, is_own_host, local_names, set_security_headers

MAX_BODY_BYTES = 32 * 2**20
MAX_UPLOAD_BYTES = 2 * 2**30
_UPLOAD_PATH = re.compile(r"/api/uploads/[0-9a-f]{32}/files")
_SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
_UNCHANGING_PATHS = ("/assets/", "/static/", "/svelte/")
_CLOSED_PATHS = re.compile(
    r"/(gradio_api/)?"
    r"(file[=/]|upload|proxy=|runs|run-history|deep_link|vibe|undo-vibe|monitoring|profiling|stream/|openapi|docs|redoc)"
)
"""Gradio's routes that read files by path, take uploads, fetch from other servers or keep records. This program serves
files by id and takes uploads on a route of its own."""

_NEEDS_ADDRESS = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Not open here yet</title>
<style>body{font:1.05rem/1.6 system-ui,sans-serif;max-width:36rem;margin:15vh auto;padding:0 1.5rem}
@media(prefers-color-scheme:dark){body{background:#161616;color:#eee}}</style>
<h1>This page is not open in this browser yet</h1>
<p>Run <code>python3 launch.py</code> again on this computer: it opens a window of the running program. Or use the
address that the program printed where it was started; it works once.</p>
<script>
const place = localStorage.getItem("sala-place") ?? "";
if (/^\\/[\\w-]+\\/$/.test(place) && !location.pathname.startsWith(place)) location.replace(place + location.search);
</script></html>"""
"""Sent to a browser without the cookie. One that has opened the page at this port before knows its place."""

_ENTER = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Sala</title>
<meta http-equiv="refresh" content="0;url={place}"></html>"""
"""Sent with the cookie. A redirect would not do: the browser does not send a strict cookie where a file led to it."""

_MAX_FORM_BYTES, _FORM_S = 4096, 2.0
_PUBLIC_FILES = {
    "/favicon.ico": ("image/x-icon", ""),
    "/manifest.json": ("application/manifest+json", '{"name": "Sala"}'),
}
"""Browsers ask for these without the cookie. Chromium reports a manifest without any member as an error."""


class Guard:
    """ASGI middleware in front of the whole application."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        port: int,
        token: str,
        key: PageKey | None = None,
        inline_scripts: Sequence[str] = (),
        on_new_token: Callable[[str], None] | None = None,
        on_opened: Callable[[str], None] | None = None,
        max_body_bytes: int = MAX_BODY_BYTES,
        max_upload_bytes: int = MAX_UPLOAD_BYTES,
    ) -> None:
        """Guard `app`.

        Args:
            app: the application behind the guard.
            port: port of the server, part of the allowed Host headers.
            token: opens the page once. A browser that shows it gets the launch cookie.
            key: signs cookies and tokens; None for a fresh one.
            inline_scripts: bodies of scripts that the page adds itself, in addition to those in the served HTML.
            on_new_token: called with a new token when a browser without a cookie comes and every token is used up.
            on_opened: called with the name of the private folder that a window was opened from.
            max_body_bytes: limit for the body of a request.
            max_upload_bytes: limit for the body of a request that brings files.
        """
        self._app = app
        self._hosts = local_names(port)
        self._cookie_name = f"sala_launch_{port}"
        self._key = key or PageKey.fresh()
        self.place = f"/{self._key.place}"
        self._tokens = [token]
        self._inline_scripts = tuple(inline_scripts)
        self._on_new_token = on_new_token
        self._on_opened = on_opened
        self._max_body_bytes = max_body_bytes
        self._max_upload_bytes = max_upload_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection. A refused request never reaches the application."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            inside = self._inside(scope)
            if self._refuse_origin(scope, changes=True) is None and inside and self._cookie_age_s(scope) is not None:
                await self._app(inside, receive, send)
            else:
                await send({"type": "websocket.close", "code": 1008, "reason": "not allowed"})
        elif scope["type"] == "http":
            await self._http(scope, receive, send)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        inside = self._inside(scope)
        route = self._route(scope)
        outgoing = _Outgoing(send, route, self._inline_scripts)
        response = await self._enter(scope, receive) or self._refuse_or_open(scope, inside)
        if response is not None or inside is None:
            await (response or self._explain_access(scope))(scope, receive, outgoing)
            await outgoing.finish()
            return
        if route == "/" and (self._cookie_age_s(scope) or 0) > RENEW_S:
            outgoing.cookie = self._cookie_header()
        limit = self._max_upload_bytes if _UPLOAD_PATH.fullmatch(route) else self._max_body_bytes
        length = Headers(scope=scope).get("content-length", "0")
        too_large = PlainTextResponse(f"A request may have {limit:,} bytes at most.", status_code=413)
        if not length.isdigit() or int(length) > limit:
            await too_large(scope, receive, outgoing)
            return
        body = LimitedBody(receive, limit)
        try:
            await self._app(_plain_html(inside), body, lambda message: outgoing.pass_on(message, body))
        except ClientDisconnect:
            if not body.is_over:
                raise
        if body.is_over and not outgoing.has_started:
            await too_large(scope, receive, outgoing)
        await outgoing.finish()

    def _inside(self, scope: Scope) -> Scope | None:
        """The scope as the application sees it, mounted at the page's place; None for a path outside of it."""
        return {**scope, "root_path": self.place} if scope["path"].startswith(self.place + "/") else None

    def _route(self, scope: Scope) -> str:
        """The path without the page's place."""
        path: str = scope["path"]
        return path.removeprefix(self.place) if path.startswith(self.place + "/") else path

    def _refuse_or_open(self, scope: Scope, inside: Scope | None) -> Response | None:
        """Return the response to a request that must not pass, or the redirect to the page; None lets it pass."""
        changes = scope["method"] not in _SAFE_METHODS
        if (reason := self._refuse_origin(scope, changes=changes)) is not None:
            return PlainTextResponse(reason, status_code=403)
        query = parse_qs(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        if inside is None and (answer := self._public(scope["path"], query)) is not None:
            return answer
        shown = query.pop(TOKEN_PARAMETER, None)
        known = inside is not None and self._cookie_age_s(scope) is not None
        if shown and scope["method"] == "GET" and (self._use(shown[-1]) or known):
            return self._open(self._route(scope), query)
        if inside is None or not known:
            return self._explain_access(scope)
        if _CLOSED_PATHS.match(self._route(scope)):
            return PlainTextResponse("There is nothing here.", status_code=404)
        return None

    def _public(self, path: str, query: dict[str, list[str]]) -> Response | None:
        """Return the response to what needs no cookie: empty files, and the proof that this program has the key."""
        if path in _PUBLIC_FILES:
            media_type, content = _PUBLIC_FILES[path]
            return Response(content, media_type=media_type)
        challenge = query.get("challenge", [""])[-1]
        if path == ALIVE_PATH and 0 < len(challenge) <= 64:
            return PlainTextResponse(self._key.proof(challenge))
        return None

    async def _enter(self, scope: Scope, receive: Receive) -> Response | None:
        """Return the way to the page for a form with a token, which the private file sends; None for other requests.

        The form comes from a file, so its origin is no reason to refuse it. The token is.
        """
        if (
            scope["method"] != "POST"
            or scope["path"] != OPEN_PATH
            or not is_own_host(Headers(scope=scope), self._hosts)
        ):
            return None
        try:
            form = parse_qs((await asyncio.wait_for(_form(receive), _FORM_S)).decode("latin-1"))
        except TimeoutError:
            return self._explain_access(scope)
        if not self._use(form.get(TOKEN_PARAMETER, [""])[-1]):
            return self._explain_access(scope)
        if self._on_opened is not None:
            self._on_opened(form.get(FILE_PARAMETER, [""])[-1])
        headers = {"set-cookie": self._cookie_header()}
        return HTMLResponse(_ENTER.format(place=f"{self.place}/"), headers=headers)

    def _refuse_origin(self, scope: Scope, *, changes: bool) -> str | None:
        """Return why the Host or the origin of the request is refused; None if both are this server's."""
        headers = Headers(scope=scope)
        if not is_own_host(headers, self._hosts):
            return "This address does not serve that host name."
        origins, site = headers.getlist("origin"), headers.get("sec-fetch-site")
        own_origin = origins == [f"http://{headers['host'].lower()}"]
        if changes and not own_origin and (origins or site != "same-origin"):
            return "A request that changes something must come from the page itself."
        if changes and site not in (None, "same-origin"):
            return "A request that changes something must come from the page itself."
        visits = headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"
        if site not in (None, "same-origin", "none") and not visits:
            return "Another site may not use this address."
        return None

    def _cookie_age_s(self, scope: Scope) -> float | None:
        """Age of the launch cookie in seconds; None if there is no valid one."""
        try:
            cookies = SimpleCookie(Headers(scope=scope).get("cookie", ""))
        except CookieError:
            return None
        morsel = cookies.get(self._cookie_name)
        return self._key.cookie_age_s(morsel.value) if morsel is not None else None

    def _cookie_header(self) -> str:
        """The header that gives a browser the launch cookie."""
        fixed = f"Max-Age={COOKIE_S}; Path={self.place}/; HttpOnly; SameSite=Strict"
        return f"{self._cookie_name}={self._key.new_cookie()}; {fixed}"

    def _use(self, token: str) -> bool:
        """Whether the token opens the page. It is used up by this call."""
        matching = [known for known in self._tokens if _equal(token, known)]
        for known in matching:
            self._tokens.remove(known)
        return bool(matching) or self._key.use_token(token)

    def _open(self, path: str, query: dict[str, list[str]]) -> Response:
        """Set the cookie and redirect the browser to the same page at its place, without the token."""
        own_path = self.place + "/" + path.lstrip("/\\")
        rest = urlencode(query, doseq=True)
        headers = {"set-cookie": self._cookie_header()}
        return RedirectResponse(own_path + (f"?{rest}" if rest else ""), status_code=303, headers=headers)

    def _explain_access(self, scope: Scope) -> Response:
        """Tell a browser how to open the page. If every token is used up, make a new one for the terminal."""
        if "text/html" not in Headers(scope=scope).get("accept", ""):
            return PlainTextResponse("Open the page with the address that the program printed.", status_code=403)
        if not self._tokens and self._on_new_token is not None:
            self._tokens.append(secrets.token_urlsafe(32))
            self._on_new_token(self._tokens[-1])
        return HTMLResponse(_NEEDS_ADDRESS, status_code=403)


class _Outgoing:
    """`send` that sets the security headers. It holds an HTML page back until all its inline scripts are known."""

    def __init__(self, send: Send, path: str, inline_scripts: Sequence[str]) -> None:
        self.has_started = False
        self.cookie = ""
        self._send, self._inline_scripts = send, inline_scripts
        self._keep_cache = path.startswith(_UNCHANGING_PATHS)
        self._page_messages: list[Message] = []

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.has_started = True
            headers = MutableHeaders(scope=message)
            set_security_headers(headers, keep_cache=self._keep_cache)
            if self.cookie:
                headers.append("set-cookie", self.cookie)
            if headers.get("content-type", "").startswith("text/html"):
                self._page_messages.append(message)
                return
            headers["content-security-policy"] = content_policy(b"", self._inline_scripts)
        elif self._page_messages:
            self._page_messages.append(message)
            return
        await self._send(message)

    async def pass_on(self, message: Message, body: LimitedBody) -> None:
        """Send the response of the application. Drop its response to a body that exceeded the limit."""
        if self.has_started or not body.is_over:
            await self(message)

    async def finish(self) -> None:
        """Send a page that was held back, with the content policy for its scripts."""
        if not self._page_messages:
            return
        page = b"".join(message.get("body", b"") for message in self._page_messages[1:])
        headers = MutableHeaders(scope=self._page_messages[0])
        headers["content-security-policy"] = content_policy(page, self._inline_scripts)
        for message in self._page_messages:
            await self._send(message)


async def _form(receive: Receive) -> bytes:
    """The body of a small form, cut at its limit."""
    body, more = b"", True
    while more and len(body) <= _MAX_FORM_BYTES:
        message = await receive()
        body += message.get("body", b"")
        more = message["type"] == "http.request" and message.get("more_body", False)
    return body[:_MAX_FORM_BYTES]


def _plain_html(scope: Scope) -> Scope:
    """Return the scope without Accept-Encoding if it asks for a page: the guard must be able to read its scripts."""
    if "text/html" not in Headers(scope=scope).get("accept", ""):
        return scope
    return {**scope, "headers": [item for item in scope["headers"] if item[0].lower() != b"accept-encoding"]}


def _equal(left: str, right: str) -> bool:
    return hmac.compare_digest(left.encode(), right.encode())
