"""Counts files without a model: a token is four bytes. Estimates follow a script."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from sala_core.ingest import FoundFile, walk
from sala_core.session.planning.records import Additions, CountOrder, Estimate, PlannedFile

EASY = Estimate(
    tokens=0,
    tokens_new=0,
    tokens_again=0,
    seconds=4.0,
    is_first=False,
    memory_bytes=225_000_000,
    memory_free_bytes=20_000_000_000,
    disk_bytes=160_000_000,
    disk_free_bytes=62_000_000_000,
    refusal="",
)


class FakePlanner:
    """The interface of Planner. A test changes `estimate_as`, `known` and `passwords`."""

    def __init__(self) -> None:
        self.estimate_as = EASY
        self.known: dict[str, str] = {}
        """Name of a file -> its state."""
        self.passwords: dict[str, str] = {}
        """Name of an encrypted file -> what opens it."""
        self.before_count: Callable[[], None] = lambda: None

    def count(self, order: CountOrder) -> tuple[str, ...]:
        self.before_count()
        entries = list(walk(order.paths, order.limits))
        total = sum(entry.num_bytes for entry in entries if isinstance(entry, FoundFile))
        done = 0
        for entry in entries:
            if order.should_stop():
                return ()
            if isinstance(entry, FoundFile):
                done += entry.num_bytes
                order.report(self._planned(entry, order))
            else:
                order.report(PlannedFile(name=entry.name, state="skipped", reason=entry.reason))
            order.progress(done, total)
        return ()

    def _planned(self, entry: FoundFile, order: CountOrder) -> PlannedFile:
        file = PlannedFile(name=entry.name, state="new", num_tokens=entry.num_bytes // 4 + 1, num_bytes=entry.num_bytes)
        needed = self.passwords.get(entry.name)
        if needed is not None and order.password_of(entry.name) != needed:
            wrong = order.password_of(entry.name) is not None
            reason = "this password does not open it" if wrong else "encrypted"
            return replace(file, state="locked", num_tokens=0, reason=reason)
        state: Any = self.known.get(entry.name, "new")
        return replace(file, state=state)

    def estimate(self, session_id: str, additions: Additions) -> Estimate:
        tokens = additions.num_tokens
        return replace(self.estimate_as, tokens=tokens, tokens_new=tokens)


@dataclass
class FakeReadings:
    """The interface of Readings, over the jobs of a FakeWorkspace."""

    workspace: Any

    def take_nothing_read(self, session_id: str) -> str:
        return ""

    def waiting(self, session_id: str) -> list[Any]:
        jobs = self.workspace.library.jobs(session_id, status="queued")
        return [job for job in jobs if job.kind == "read"]

    def cancel(self, job_id: str) -> None:
        self.workspace.calls.append(("cancel", job_id))
        self.workspace.library.work[job_id].status = "stopped"
        self.workspace.stops.add(job_id)
