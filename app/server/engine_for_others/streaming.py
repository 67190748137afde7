"""The lines of a job's events, for as long as it goes on and the client listens."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from fastapi.concurrency import run_in_threadpool

from sala_core.errors import SalaError
from sala_core.remote.sala.wire import Alive, End, to_line

if TYPE_CHECKING:
    from sala_core.session.hosting.client import Client
    from sala_core.session.hosting.sessions import SessionsOfOthers
    from sala_core.session.job_runner import JobView

ALIVE_S = 5.0
"""A line is sent at least this often."""
_LOOK_S = 0.05


async def lines_of(others: SessionsOfOthers, client: Client, job_id: str, number: int) -> AsyncIterator[bytes]:
    """A job's events from `number` on, then how it has ended; an `Alive` where nothing happens.

    Args:
        others: runs the job.
        client: whose it is.
        job_id: which.
        number: of the first event, from 0.
    """
    last = time.monotonic()
    while True:
        try:
            events, view, kind = await run_in_threadpool(others.events, client, job_id, number)
        except SalaError as error:  # the session was deleted meanwhile
            yield to_line(End(status="failed", error=str(error), kind=type(error).__name__))
            return
        for event in events:
            yield to_line(event)
        number += len(events)
        if view.status not in ("queued", "running"):
            yield to_line(End(status=view.status, error=view.error or "", kind=kind))
            return
        if events:
            last = time.monotonic()
        elif time.monotonic() - last > ALIVE_S:
            yield to_line(Alive(waiting=_reason(view)))
            last = time.monotonic()
        await asyncio.sleep(_LOOK_S)


def _reason(view: JobView) -> str:
    """Why a job has not begun; "" once it has. Names of others' sessions are not told."""
    if view.waiting is None:
        return ""
    return f"number {view.waiting.place:,} in the server's queue"
