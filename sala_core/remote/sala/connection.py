"""Requests to another Sala. Each of them can be sent again without harm, so each is, until the server answers.

Time limits, in seconds: 5 to connect, 60 to send a piece, 20 without a byte on the stream of events (the server sends
one every 5), 120 of attempts without any success. A cut connection costs what was on the wire, and nothing else.
"""

import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import httpx

from sala_core.errors import (
    DocumentsMissingError,
    EngineChangedError,
    EngineError,
    EngineFailedError,
    EngineGoneError,
    EngineRefusedError,
    EngineUnreachableError,
    UploadGoneError,
    UploadOffsetError,
)
from sala_core.remote.access import Access
from sala_core.remote.sala.wire import MAX_LINE_BYTES, PREFIX

CONNECT_S, WRITE_S, SILENT_S, PATIENCE_S = 5.0, 60.0, 20.0, 120.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.2, 5.0
_POLL_S = 0.1
_MAX_REPLY_BYTES = 64 << 20
_UNAUTHORIZED, _NOT_FOUND, _CONFLICT, _TOO_LARGE, _UNAVAILABLE, _FULL = 401, 404, 409, 413, 503, 507
_BAD_GATEWAY = (502, 504)


class Connection:
    """A server's address, the key for it, and this client's secret."""

    def __init__(self, access: Access, secret: str, *, patience_s: float = PATIENCE_S) -> None:
        """Prepare the connection; nothing is sent.

        Args:
            access: address, key, and the certificates that vouch for the server.
            secret: by which the server tells this client from others.
            patience_s: how long a request is tried again while the server does not answer.

        Raises EngineError for a file that holds no certificates.
        """
        self.access = access
        self._patience_s = patience_s
        self.bytes_sent = 0
        """Bytes of bodies that were handed to the network, all attempts."""
        self._client = httpx.Client(
            headers={"authorization": f"Bearer {access.key}", "x-sala-client": secret},
            timeout=httpx.Timeout(SILENT_S, connect=CONNECT_S, write=WRITE_S),
            verify=access.verify(),
            trust_env=not access.is_here,
            follow_redirects=False,
        )

    def close(self) -> None:
        """Close all connections."""
        self._client.close()

    def call(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        content: bytes | None = None,
        query: Mapping[str, int] | None = None,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> dict[str, Any]:
        """Send a request until it is answered; return the JSON object of the answer.

        Args:
            method, path: of the request; the path stands below the routes' own.
            body: sent as JSON; None for none.
            content: sent as it is, in the place of a body.
            query: of the address.
            should_stop: ends the attempts when it returns True.

        Raises EngineUnreachableError when no attempt succeeds, EngineError for a refusal, DocumentsMissingError and
        UploadOffsetError for those that tell how to go on.
        """
        began, pause = time.monotonic(), _FIRST_PAUSE_S
        while True:
            try:
                return self._once(method, path, body, content, query)
            except EngineUnreachableError:
                if should_stop() or time.monotonic() - began > self._patience_s:
                    raise
            _wait(pause, should_stop)
            pause = min(_LONGEST_PAUSE_S, 2 * pause)

    def lines(self, path: str, query: Mapping[str, int]) -> Iterator[bytes | None]:
        """The lines of a stream as they come; None ten times a second while there is none.

        Args:
            path, query: as `call` takes them.

        Raises EngineUnreachableError where it breaks off, EngineError for a refusal.
        """
        stream = _Stream(self._client, self.access.url + PREFIX + path, query)
        stream.start()
        try:
            while True:
                try:
                    item = stream.items.get(timeout=_POLL_S)
                except queue.Empty:
                    yield None
                    continue
                if item is None:
                    return
                if isinstance(item, httpx.Response):
                    raise self._refusal(item)
                if isinstance(item, BaseException):
                    raise EngineUnreachableError(self._reason(item)) from item
                yield item
        finally:
            stream.cancel()

    def _once(
        self, method: str, path: str, body: Any, content: bytes | None, query: Mapping[str, int] | None
    ) -> dict[str, Any]:
        sent = len(content) if content is not None else 0
        try:
            request = self._client.build_request(
                method, self.access.url + PREFIX + path, json=body, content=content, params=query
            )
            sent = sent or len(request.content)
            response = self._client.send(request)
        except (httpx.HTTPError, OSError) as error:
            raise EngineUnreachableError(self._reason(error)) from error
        finally:
            self.bytes_sent += sent
        if response.status_code in _BAD_GATEWAY:
            raise EngineUnreachableError(
                f"{self.access.address} answers {response.status_code}; is the server running?"
            )
        if response.status_code != httpx.codes.OK:
            raise self._refusal(response)
        raw = _parsed(response)
        if len(response.content) > _MAX_REPLY_BYTES or raw is None:
            raise EngineFailedError(f"{self.access.address} does not answer as Sala does; is the address right?")
        return raw

    def _refusal(self, response: httpx.Response) -> EngineError | UploadGoneError | UploadOffsetError:
        """The error for an answer with another status than 200."""
        raw = (_parsed(response) or {}).get("error")
        told = raw if isinstance(raw, dict) else {}
        said, status, address = str(told.get("message", ""))[:500], response.status_code, self.access.address
        if status == _CONFLICT and isinstance(told.get("names"), list):
            return DocumentsMissingError([str(name) for name in told["names"]])
        if status == _CONFLICT and isinstance(told.get("received"), int):
            return UploadOffsetError(told["received"])
        if status == _UNAUTHORIZED:
            return EngineRefusedError(f"{address} refuses the key (401): {said}; give it by --engine-key-file")
        if status == _TOO_LARGE:
            return EngineRefusedError(f"{address} refuses what was sent as too large (413): {said}")
        if status == _FULL:
            return EngineRefusedError(f"the disk of {address} is full: {said}")
        if status == _NOT_FOUND and not told:
            return EngineFailedError(
                f"{address} is no Sala that serves others (404); start it there with: serve --engine-for-others"
            )
        if status == _NOT_FOUND:
            return EngineGoneError(f"{address} does not know it any more: {said}")
        if status in (_UNAVAILABLE, *range(500, 600)):
            return EngineFailedError(f"{address} failed ({status}): {said or 'no reason'}; look at the server")
        return EngineRefusedError(f"{address} refuses the request ({status}): {said or 'no reason'}")

    def _reason(self, error: BaseException) -> str:
        if (untrusted := self.access.untrusted(error)) is not None:
            return untrusted
        why = str(error) or type(error).__name__
        return f"{self.access.address} cannot be reached ({why}); what it has read stays there: ask again once it runs"


def failed(error: str, kind: str, address: str) -> EngineError:
    """The error for a job that has failed at a server.

    Args:
        error: what the server says.
        kind: name of the error's class there.
        address: of the server.
    """
    said = f"{address}: {error or 'it failed without a reason'}"
    if kind == "EngineChangedError":
        return EngineChangedError(said)
    if kind in ("MemoryBudgetError", "SettingsError", "SessionBusyError", "DiskFullError"):
        return EngineRefusedError(said)
    return EngineFailedError(said)


class _Stream(threading.Thread):
    """Reads one stream on a thread of its own, so that whoever follows it never waits for the network.

    items: lines (bytes); None at the end; an exception where it breaks off; the response where it is refused.
    """

    def __init__(self, client: httpx.Client, url: str, query: Mapping[str, int]) -> None:
        super().__init__(name="sala-events", daemon=True)
        self.items: queue.Queue[bytes | BaseException | httpx.Response | None] = queue.Queue(maxsize=4096)
        self._client, self._url, self._query = client, url, query
        self._is_cancelled = threading.Event()

    def cancel(self) -> None:
        """Stop to listen. The thread ends with the next byte, at the latest with the next heartbeat."""
        self._is_cancelled.set()

    def run(self) -> None:
        """Fill `items`."""
        try:
            with self._client.stream("GET", self._url, params=self._query) as response:
                if response.status_code != httpx.codes.OK:
                    response.read()
                    self._put(response)
                    return
                for line in _split(response.iter_raw()):
                    if not self._put(line):
                        return
            self._put(None)
        except (httpx.HTTPError, OSError, RuntimeError, ValueError) as error:  # RuntimeError: the client is closed
            self._put(error)

    def _put(self, item: bytes | BaseException | httpx.Response | None) -> bool:
        while not self._is_cancelled.is_set():
            try:
                self.items.put(item, timeout=_POLL_S)
            except queue.Full:
                continue
            return True
        return False


def _split(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Whole lines. What is left behind the last line break was cut off, and is no line."""
    rest = b""
    for piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        if len(rest) > MAX_LINE_BYTES:
            raise ValueError("a line does not end")
        yield from lines


def _parsed(response: httpx.Response) -> dict[str, Any] | None:
    try:
        raw = response.json()
    except (ValueError, RecursionError):
        return None
    return raw if isinstance(raw, dict) else None


def _wait(seconds: float, should_stop: Callable[[], bool]) -> None:
    end = time.monotonic() + seconds
    while not should_stop() and time.monotonic() < end:
        time.sleep(min(_POLL_S, seconds))
