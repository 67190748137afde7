"""What a job reports, kept for a client that comes and goes: events have numbers, and any of them can be asked for."""

import threading
import time
from collections.abc import Iterator

from sala_core.engine.generate import Token
from sala_core.remote.sala.wire import WireEvent, WireToken
from sala_core.session.queue.line import Event

ABANDONED_S = 120.0
"""An answer that nobody has followed for this long is stopped, so that others are answered. A reading goes on."""


class Feed:
    """The events of one job. Safe to use from any thread."""

    def __init__(self) -> None:
        self._events: list[WireEvent] = []
        self._lock = threading.Lock()
        self._followed = time.monotonic()
        self.kind = ""
        """Name of the class of the error that ended the job; "" for none."""

    def add(self, event: Event) -> None:
        """Take in an event of the work."""
        wire = WireToken(id=event.id, text=event.text, thinking=event.thinking) if isinstance(event, Token) else event
        with self._lock:
            self._events.append(wire)

    def since(self, number: int) -> list[WireEvent]:
        """The events from `number` on, counted from 0. Whoever asks follows the job."""
        with self._lock:
            self._followed = time.monotonic()
            return self._events[number:]

    @property
    def is_abandoned(self) -> bool:
        """Whether nobody has followed the job for ABANDONED_S."""
        return time.monotonic() - self._followed > ABANDONED_S


class Feeds:
    """The feeds of the jobs of this process. Those of finished jobs are dropped once many are kept."""

    def __init__(self, most: int = 64) -> None:
        self._feeds: dict[str, Feed] = {}
        self._most = most
        self._lock = threading.Lock()

    def new(self, job_id: str) -> Feed:
        """A feed for a job."""
        with self._lock:
            self._feeds[job_id] = feed = Feed()
        return feed

    def get(self, job_id: str) -> Feed | None:
        """The feed of a job; None for one of an earlier process, or one that was dropped."""
        return self._feeds.get(job_id)

    def drop_old(self, active: set[str]) -> None:
        """Drop the oldest feeds beyond the limit. active: ids of jobs that are not over."""
        with self._lock:
            for job_id in list(self._over(active))[: max(0, len(self._feeds) - self._most)]:
                del self._feeds[job_id]

    def _over(self, active: set[str]) -> Iterator[str]:
        return (job_id for job_id in self._feeds if job_id not in active)
