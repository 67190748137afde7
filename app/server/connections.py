"""Limits on connections and on the log, so that no other program can hold the page up by opening connections.

uvicorn waits for the head of a request as long as the other side likes, and asyncio logs each connection that it cannot
accept. Here each state of a connection has a time limit, and there are at most so many connections in all and in each
state: the oldest one that has not sent a whole head gives way to a new one.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import h11
from starlette.types import Message, Receive
from uvicorn.protocols.http.h11_impl import H11Protocol

State = Literal["head", "body", "reply"]
_LOGGERS = ("uvicorn.error", "asyncio")


@dataclass(frozen=True, kw_only=True)
class ConnectionLimits:
    """Limits for the connections of a server."""

    max_connections: int = 128
    max_waiting: int = 48
    """Connections without a whole head of a request."""
    max_bodies: int = 32
    """Connections whose body is still coming. A further one is closed."""
    head_s: float = 10.0
    """From the first byte of a connection or of a further request to the end of its head."""
    body_s: float = 30.0
    """For a body, and a second more for each `min_body_bytes_per_s` that have come."""
    min_body_bytes_per_s: int = 16 << 10
    unread_s: float = 2.0
    """From a response to the end of a body that nobody reads any more."""


def limited_protocol(limits: ConnectionLimits | None = None) -> type[H11Protocol]:
    """A protocol for `uvicorn.Config(http=...)`. Its connections share the limits."""
    chosen = limits or ConnectionLimits()
    connections: dict[_Limited, State] = {}
    return type("LimitedProtocol", (_Limited,), {"limits": chosen, "all": connections})


class _Limited(H11Protocol):
    """One connection. `all` holds the state of each, the oldest first."""

    limits: ConnectionLimits
    all: dict[_Limited, State]
    _timer: asyncio.TimerHandle | None = None
    _num_bytes = 0

    def connection_made(self, transport: Any) -> None:
        """Take a connection, or close the oldest one that waits."""
        super().connection_made(transport)
        self.all[self] = "head"
        self._set_timer(self.limits.head_s, self._expire)
        waiting = [one for one, state in self.all.items() if state == "head"]
        if len(waiting) > self.limits.max_waiting or len(self.all) > self.limits.max_connections:
            waiting[0].drop()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self.all.pop(self, None)
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take bytes, and start or end the time limit of the state that they lead to."""
        self._num_bytes += len(data)
        super().data_received(data)
        self._follow()

    def on_response_complete(self) -> None:
        """End a request. A body that is still coming is read for a moment, so that the response arrives."""
        super().on_response_complete()
        if self.conn.their_state is h11.SEND_BODY:
            self._set_timer(self.limits.unread_s, self.drop)
        else:
            self._follow()

    def drop(self) -> None:
        """Close the connection at once."""
        self.all.pop(self, None)
        self._stop_timer()
        self.transport.abort()

    def _follow(self) -> None:
        """Bring state and time limit up to date."""
        old = self.all.get(self)
        theirs = self.conn.their_state
        state: State = "head" if theirs is h11.IDLE else "body" if theirs is h11.SEND_BODY else "reply"
        if old is None or state == old:
            return
        self.all[self] = state
        if state == "reply":
            self._stop_timer()
        elif state == "head":
            self._set_timer(self.limits.head_s, self._expire)
        elif list(self.all.values()).count("body") > self.limits.max_bodies:
            self.drop()
        elif not (self.cycle and self.cycle.response_complete):
            self._num_bytes, self._since = 0, time.monotonic()
            self._set_timer(self.limits.body_s, self._check_body)

    def _check_body(self) -> None:
        """Close a connection whose body comes too slowly. While the program is the slower one, wait."""
        late = time.monotonic() - self._since - self.limits.body_s - self._num_bytes / self.limits.min_body_bytes_per_s
        if late >= 0 and not self.flow.read_paused:
            self._expire()
        else:
            self._set_timer(max(1.0, -late), self._check_body)

    def _expire(self) -> None:
        self.drop()

    def _set_timer(self, seconds: float, action: Callable[[], None]) -> None:
        self._stop_timer()
        self._timer = self.loop.call_later(seconds, action)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class LogLimit(logging.Filter):
    """Lets at most `max_records` records a minute through, and says how many it left out."""

    def __init__(self, max_records: int = 20, period_s: float = 60.0) -> None:
        super().__init__()
        self._max_records, self._period_s = max_records, period_s
        self._since, self._num_records = 0.0, 0

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is written."""
        if time.monotonic() - self._since > self._period_s:
            left_out = self._num_records - self._max_records
            self._since, self._num_records = time.monotonic(), 0
            if left_out > 0:
                record.msg = f"{record.getMessage()} ({left_out:,} messages before this one were left out)"
                record.args = ()
        self._num_records += 1
        return self._num_records <= self._max_records


def limit_log() -> None:
    """Limit the messages of the web server and of the event loop. A second call changes nothing."""
    for name in _LOGGERS:
        logger = logging.getLogger(name)
        if not any(isinstance(each, LogLimit) for each in logger.filters):
            logger.addFilter(LogLimit())


class LimitedBody:
    """`receive` that counts the bytes of a body. A body over the limit looks like a client that disconnected."""

    def __init__(self, receive: Receive, limit: int) -> None:
        """limit: bytes."""
        self._receive, self._left = receive, limit

    @property
    def is_over(self) -> bool:
        """Whether the body has exceeded the limit."""
        return self._left < 0

    async def __call__(self) -> Message:
        if self.is_over:
            return {"type": "http.disconnect"}
        message = await self._receive()
        self._left -= len(message.get("body", b""))
        return {"type": "http.disconnect"} if self.is_over else message
