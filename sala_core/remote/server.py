"""Requests to an engine's server. Nothing is sent twice, no redirect is followed, and every failure has its message."""

import asyncio
import json
import queue
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from sala_core.errors import EngineFailedError, EngineUnreachableError
from sala_core.remote.access import Access
from sala_core.remote.refusals import Head, refusal

CONNECT_S = 5.0
_WRITE_S = 60.0
_CONNECT_TRIES = 3
_POLL_S = 0.1
_MAX_REPLY_BYTES = 256 << 20
_MAX_ERROR_BYTES = 1 << 16
_MAX_LINE_BYTES = 16 << 20

_END = object()


@dataclass(frozen=True, kw_only=True)
class Reply:
    """A whole reply. value: its JSON; None where it is none."""

    status: int
    value: Any

    @property
    def fields(self) -> Mapping[str, Any]:
        """The value, if it is a JSON object that came with success; an empty one otherwise."""
        return self.value if self.status == httpx.codes.OK and isinstance(self.value, dict) else {}


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How long a server may be silent, in seconds: before the first byte of an answer, and between two of them."""

    first_s: float
    between_s: float = 180.0


class Server:
    """One server. Every stream has a connection of its own, which ends with it."""

    def __init__(self, access: Access) -> None:
        self.access = access
        self._client = httpx.Client(**self._options())

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def ask(self, method: str, path: str, body: Any = None, *, timeout_s: float = CONNECT_S) -> Reply:
        """A short request and its whole reply, whatever the status.

        Args:
            method: GET or POST.
            path: below the server's address.
            body: sent as JSON; None sends none.
            timeout_s: for the connection, and for every pause of the server.

        Raises EngineUnreachableError; EngineFailedError for a reply without end.
        """
        try:
            timeout = httpx.Timeout(timeout_s, connect=min(timeout_s, CONNECT_S))
            request = self._client.build_request(
                method, self.access.url + path, content=None if body is None else _json(body), timeout=timeout
            )
            response = self._client.send(request, stream=True)
            try:
                raw = bytearray()
                for piece in response.iter_bytes():
                    raw += piece
                    if len(raw) > _MAX_REPLY_BYTES:
                        raise EngineFailedError(f"the reply of {self.access.address} to {path} does not end")
            finally:
                response.close()
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            raise self._unreachable(error, timeout_s) from error
        return Reply(status=response.status_code, value=_parsed(bytes(raw)))

    def lines(
        self,
        path: str,
        body: Any,
        *,
        model: str,
        patience: Patience,
        should_stop: Callable[[], bool],
    ) -> Generator[str, None, None]:
        """The lines of a streamed reply, as they come. Ends early, and closes the connection, where it is stopped.

        A connection that cannot be made is tried again, because nothing was sent; after that nothing is.

        Args:
            path: below the server's address.
            body: sent as JSON.
            model: who is asked, for messages.
            patience: how long the server may be silent.
            should_stop: looked at ten times a second.

        Raises EngineError. A stream that breaks off raises EngineUnreachableError.
        """
        exchange = _Exchange(self.access.url + path, _json(body), self._options())
        exchange.start()
        try:
            head = _next_item(exchange, patience.first_s, should_stop)
            if head is None:
                return
            if isinstance(head, _Silence):
                raise EngineUnreachableError(
                    f"{self.access.address} has been silent for {patience.first_s:,.0f} s; it may still be reading: "
                    "look at it there, and ask again when it is idle, or choose a faster engine"
                )
            if isinstance(head, BaseException):
                raise self._unreachable(head, patience.first_s) from head
            if head.status != httpx.codes.OK:
                raise refusal(head, self.access.address, model)
            if head.text is not None:
                yield head.text
                return
            yield from self._rest(exchange, patience, should_stop)
        finally:
            exchange.cancel()

    def _rest(self, exchange: "_Exchange", patience: Patience, should_stop: Callable[[], bool]) -> Iterator[str]:
        wait = patience.first_s  # the head may come at once, long before the prompt is read
        while True:
            item = _next_item(exchange, wait, should_stop)
            if item is None or item is _END:
                return
            if isinstance(item, _Silence):
                raise EngineUnreachableError(f"{self.access.address} stopped in the middle: silent for {wait:,.0f} s")
            if isinstance(item, BaseException):
                raise EngineUnreachableError(
                    f"the connection to {self.access.address} broke off: {_why(item)}"
                ) from item
            yield item
            if item and not item.startswith(":"):
                wait = patience.between_s

    def _options(self) -> dict[str, Any]:
        headers = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
        key = self.access.key

        def authorize(request: httpx.Request) -> httpx.Request:
            if key:
                request.headers["Authorization"] = f"Bearer {key}"
            return request

        # `auth` is always given, so that no password of a .netrc file goes to the server
        return {
            "headers": headers,
            "auth": authorize,
            "trust_env": not self.access.is_here,
            "follow_redirects": False,
            "verify": self.access.verify(),
        }

    def _unreachable(self, error: BaseException, waited_s: float) -> EngineUnreachableError:
        address = self.access.address
        if (untrusted := self.access.untrusted(error)) is not None:
            return EngineUnreachableError(untrusted)
        if isinstance(error, (httpx.ConnectError, httpx.ConnectTimeout)):
            reason = f"no server answers at {address} ({_why(error)}); start the engine there, or choose another one"
            return EngineUnreachableError(reason)
        if isinstance(error, (httpx.ReadTimeout, httpx.PoolTimeout)):
            return EngineUnreachableError(f"{address} has been silent for {waited_s:,.0f} s; ask again when it is idle")
        if isinstance(error, (httpx.WriteError, httpx.WriteTimeout)):
            return EngineUnreachableError(
                f"{address} took only a part of the request ({_why(error)}); the server, or a proxy before it, may "
                "limit the size of requests"
            )
        return EngineUnreachableError(
            f"{address} closed the connection before it answered ({_why(error)}); it may have ended or been started "
            "again: ask again once it runs"
        )


class _Silence:
    """Nothing came in time."""


def _next_item(exchange: "_Exchange", wait_s: float, should_stop: Callable[[], bool]) -> Any:
    """The next item of an exchange; a _Silence after `wait_s` seconds; None where it is stopped."""
    end = time.monotonic() + wait_s
    while True:
        try:
            return exchange.items.get(timeout=_POLL_S)
        except queue.Empty:
            if should_stop():
                return None
            if time.monotonic() > end:
                return _Silence()


class _Exchange(threading.Thread):
    """One request on a thread with its own event loop, so that it can be cancelled at any moment, also in a pause."""

    def __init__(self, url: str, content: bytes, options: Mapping[str, Any]) -> None:
        super().__init__(name="engine-request", daemon=True)
        self._url, self._content, self._options = url, content, options
        self.items: queue.Queue[Any] = queue.Queue()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._is_cancelled = False
        self._guard = threading.Lock()

    def cancel(self) -> None:
        """Close the connection, if it is still open."""
        with self._guard:
            self._is_cancelled = True
            if self._loop is not None and self._task is not None and not self._loop.is_closed():
                self._loop.call_soon_threadsafe(self._task.cancel)

    def run(self) -> None:
        """Make the exchange, and end the items with _END or an exception."""
        try:
            asyncio.run(self._main())
        except (httpx.HTTPError, httpx.InvalidURL, OSError, EngineFailedError) as error:
            self.items.put(error)
        except asyncio.CancelledError:
            return
        else:
            self.items.put(_END)

    async def _main(self) -> None:
        with self._guard:
            self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
            if self._is_cancelled:
                raise asyncio.CancelledError
        timeout = httpx.Timeout(None, connect=CONNECT_S, write=_WRITE_S)
        async with httpx.AsyncClient(**self._options, timeout=timeout) as client:
            for tries_left in reversed(range(_CONNECT_TRIES)):
                try:
                    await self._exchange(client)
                    return
                except (httpx.ConnectError, httpx.ConnectTimeout):
                    if not tries_left:
                        raise
                    await asyncio.sleep(1.0)
        with self._guard:
            self._task = None

    async def _exchange(self, client: httpx.AsyncClient) -> None:
        async with client.stream("POST", self._url, content=self._content) as response:
            is_stream = response.headers.get("content-type", "").startswith("text/event-stream")
            is_good = response.status_code == httpx.codes.OK
            text = None
            if not is_good or not is_stream:
                limit = _MAX_REPLY_BYTES if is_good else _MAX_ERROR_BYTES
                raw = bytearray()
                async for piece in response.aiter_bytes():
                    raw += piece
                    if len(raw) > limit:
                        break
                text = bytes(raw[:limit]).decode("utf-8", "replace")
            names = ("retry-after", "location")
            after, location = (response.headers.get(name, "") for name in names)
            self.items.put(Head(status=response.status_code, retry_after=after, location=location, text=text))
            if text is None:
                await self._put_lines(response)

    async def _put_lines(self, response: httpx.Response) -> None:
        """Cut at line feeds only: httpx would also cut at U+2028, which JSON may hold as it is."""
        rest = b""
        async for piece in response.aiter_bytes():
            *whole, rest = (rest + piece).split(b"\n")
            for line in whole:
                self.items.put(line.rstrip(b"\r").decode("utf-8", "replace"))
            if len(rest) > _MAX_LINE_BYTES:
                raise EngineFailedError("a line of the engine's answer does not end")
        if rest:
            self.items.put(rest.decode("utf-8", "replace"))


def events(lines: Iterator[str]) -> Iterator[str]:
    """The data of server-sent events; comments and other fields are passed over. A reply that is no stream is one."""
    for line in lines:
        if line.startswith("data:"):
            yield line[5:].strip()
        elif line.startswith(("{", "error:")):
            yield line.removeprefix("error:").strip()


def _json(body: Any) -> bytes:
    """JSON in UTF-8: escapes would make Cyrillic three times as long. Lone surrogates become question marks."""
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def _parsed(raw: bytes) -> Any:
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        return None


def _why(error: BaseException) -> str:
    return str(error) or type(error).__name__
