"""One plan: what was dropped, typed or fetched, counted file by file, until somebody decides."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from sala_core.ingest.fetch.address import Address
    from sala_core.session.planning.records import Estimate, PlannedFile

PlanStatus = Literal["announced", "fetching", "counting", "ready", "reading", "failed"]
"""Announced: an address is fetched only after the user agrees. Ready: the user decides. Reading: it is decided."""

READ_AT_ONCE_FILES = 5
READ_AT_ONCE_TOKENS = 200_000
READ_AT_ONCE_S = 120.0
AGAIN_AT_ONCE_TOKENS = 32_768


@dataclass(kw_only=True, eq=False)
class Plan:
    """One plan. Its fields are changed by the thread that counts; lists only grow.

    session_id: to read into; "" for a new session, called `name`. paths: what is read. folder: is taken over by the
    reading, or removed with the plan; None for files that stay where they are. files: counted so far, in reading order.
    gone: names of files of the session that are not there any more. passwords: by the name of the file, in memory only.
    """

    id: str
    session_id: str
    name: str
    paths: tuple[Path, ...] = ()
    folder: Path | None = None
    addresses: tuple[Address, ...] = ()
    status: PlanStatus = "counting"
    note: str = ""
    error: str = ""
    files: list[PlannedFile] = field(default_factory=list)
    gone: tuple[str, ...] = ()
    bytes_done: int = 0
    bytes_total: int = 0
    passwords: dict[str, str] = field(default_factory=dict)
    stopping: threading.Event = field(default_factory=threading.Event)
    read_in: str = ""
    """The session that reads it, once it is decided."""
    needs_decision: bool = True
    """Whether it waits for the user in any case. Otherwise that is known once it is counted."""

    def count_to(self, bytes_done: int, bytes_total: int) -> None:
        """Note how far the counting is."""
        self.bytes_done, self.bytes_total = bytes_done, bytes_total

    def chosen(self, left_out: Iterable[str] = ()) -> list[PlannedFile]:
        """The files whose text the reading adds to the session. left_out: names that the user does not want."""
        names = set(left_out)
        wanted = ("new", "changed", "removed")
        return [file for file in self.files if file.state in wanted and file.name not in names]


def is_read_at_once(plan: Plan, found: Estimate) -> bool:
    """Whether a plan needs no decision: a few single files that are short, fit, and make nothing be read again.

    found: for all of its files.
    """
    if plan.needs_decision or found.refusal or not plan.chosen():
        return False
    if len(plan.files) > READ_AT_ONCE_FILES or any(file.state in ("skipped", "locked") for file in plan.files):
        return False
    is_short = found.tokens_new <= READ_AT_ONCE_TOKENS and (found.seconds or 0.0) <= READ_AT_ONCE_S
    again = found.tokens_again if any(file.state == "changed" for file in plan.files) else 0
    return is_short and again <= AGAIN_AT_ONCE_TOKENS
