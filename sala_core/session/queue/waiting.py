"""How long a task has to wait: its place in the queue, and the time that what is before it is expected to take."""

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from sala_core.events import ReadProgress
from sala_core.session.queue.line import Task
from sala_core.store import Library

_KEPT = 8


@dataclass(frozen=True, kw_only=True)
class Waiting:
    """Why a queued job does not run yet.

    place: 1 for the next one. seconds: until it begins, as far as that can be told; None if it cannot. reason: what it
    waits for beside the queue; "" for nothing.
    """

    place: int
    seconds: float | None
    reason: str = ""


class Pace:
    """How long answers take on this machine: the mean of the last ones."""

    def __init__(self, library: Library) -> None:
        self._library = library
        self._seconds: deque[float] | None = None

    def add(self, seconds: float) -> None:
        """Take in the time of an answer."""
        self._known().append(seconds)

    def answer_s(self) -> float | None:
        """Seconds that an answer takes; None if nothing is known."""
        known = self._known()
        return sum(known) / len(known) if known else None

    def _known(self) -> "deque[float]":
        if self._seconds is None:
            answers = self._library.last_answers(_KEPT)
            times = [each.seconds_load + each.seconds_prefill + each.seconds_decode for each in answers]
            self._seconds = deque(times, _KEPT)
        return self._seconds


def waiting_of(task: Task, line: Sequence[Task], running: Sequence[Task], pace: Pace, reason: str) -> Waiting:
    """The place of a task that waits.

    Args:
        task: which one.
        line: all that wait, in the order in which they are taken.
        running: the tasks that run, a suspended one before the question that is answered meanwhile.
        pace: how long answers take.
        reason: what it waits for beside the queue.
    """
    ahead = line[: line.index(task)] if task in line else []
    seconds = [_left(each, task, pace) for each in running] + [_whole(each, pace) for each in ahead]
    known = [each for each in seconds if each is not None]
    return Waiting(place=len(ahead) + 1, seconds=sum(known) if len(known) == len(seconds) else None, reason=reason)


def _left(running: Task, task: Task, pace: Pace) -> float | None:
    """Seconds that a running task keeps another one waiting."""
    if running.is_question:
        spent = time.monotonic() - running.began if running.began is not None else 0.0
        whole = pace.answer_s()
        return None if whole is None else max(1.0, whole - spent)
    if task.is_question and running.row.id != task.waits_for:
        return 0.0  # it yields between two chunks
    return running.progress.seconds_left if isinstance(running.progress, ReadProgress) else None


def _whole(task: Task, pace: Pace) -> float | None:
    """Seconds that a task takes that has not begun."""
    return pace.answer_s() if task.is_question else None
