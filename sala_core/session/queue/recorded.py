"""Work of a command, recorded as a job, so that a page on the same library can show it as what it is."""

import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import TypeVar

from sala_core.errors import LibraryError, SalaError
from sala_core.events import Answer, ReadProgress, ReadReceipt
from sala_core.store import JobRequest, JobStatus, Library

E = TypeVar("E")
_SAVE_EVERY_S = 1.0


def recorded(library: Library, session_id: str, request: JobRequest, events: Iterable[E]) -> Iterator[E]:
    """Pass on the events of a reading or a question, and keep its progress and its end in a job's row.

    A process that is killed leaves a row whose owner is gone; the next look at it marks it as interrupted. A library
    that cannot be written to keeps no row: the work itself then says what is wrong.

    Args:
        library: holds the session.
        session_id: which session.
        request: what is done.
        events: of `Session.read`, `Session.remove` or `Session.ask`.
    """
    job_id = library.create_job(session_id, request).id
    library.update_job(job_id, status="running")
    result: ReadReceipt | Answer | None = None
    status: JobStatus = "stopped"
    error: str | None = None
    saved = 0.0
    try:
        for event in events:
            if isinstance(event, ReadReceipt | Answer):
                result = event
            elif isinstance(event, ReadProgress) and time.monotonic() - saved > _SAVE_EVERY_S:
                library.update_job(job_id, progress=event)
                saved = time.monotonic()
            yield event
        status = "stopped" if result is None or _is_stopped(result) else "done"
    except SalaError as reason:
        status, error = "failed", str(reason)
        raise
    finally:
        with suppress(LibraryError):  # a full disk, which the work itself has met or will meet
            library.update_job(job_id, status=status, result=result, error=error)


def _is_stopped(result: ReadReceipt | Answer) -> bool:
    return result.stopped if isinstance(result, ReadReceipt) else result.finish_reason == "stopped"
