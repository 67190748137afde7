"""The tasks that wait for the engine's thread, and which of them is next: questions before readings."""

import threading
from collections.abc import Callable, Generator
from dataclasses import dataclass, field

from sala_core.engine.generate import Token
from sala_core.events import Answer, PromptProgress, ReadProgress, ReadReceipt
from sala_core.session.answer_text import AnswerText
from sala_core.store import JobProgress, JobResult, JobRow
from sala_core.store.rows import READING_KINDS

Event = ReadProgress | ReadReceipt | PromptProgress | Token | Answer
LOOK_AGAIN_S = 0.5
"""How often it is looked whether a question that waits for another program can be answered by now."""


@dataclass(kw_only=True)
class Task:
    """A job of this process while it is queued or running."""

    row: JobRow
    work: "Callable[[Task], Generator[Event, None, None]]"
    is_ready: "Callable[[Task | None], bool]" = lambda suspended: True
    """Whether it can run, given the task that would be suspended meanwhile; None between two tasks."""
    progress: JobProgress | None = None
    answer: AnswerText = field(default_factory=AnswerText)
    result: JobResult | None = None
    stopping: threading.Event = field(default_factory=threading.Event)
    is_cut_off: bool = False
    """The program ends; nobody pressed Stop."""
    waits_for: str = ""
    """Id of the task that has to end first, because both do not fit into memory."""
    began: float | None = None
    """When it began, on the monotonic clock."""

    @property
    def is_question(self) -> bool:
        """Whether it is a question; otherwise it is a reading."""
        return self.row.kind not in READING_KINDS

    def should_stop(self) -> bool:
        """Whether the user pressed Stop, or the program ends."""
        return self.stopping.is_set()

    def add(self, event: Event) -> None:
        """Take in an event of the work."""
        if isinstance(event, ReadProgress | PromptProgress):
            self.progress = event
        elif isinstance(event, Token):
            self.answer.add(event)
        else:
            self.result = event


class Line:
    """The items that wait, in the order in which they came. Safe to call from any thread.

    An item is a task, or a function that is called between two tasks.
    """

    def __init__(self) -> None:
        self._items: list[Task | Callable[[], None]] = []
        self._changed = threading.Condition()
        self._is_closed = False

    def put(self, item: Task | Callable[[], None], *, first: bool = False) -> None:
        """Add an item at the end; first: at the beginning, for a task that could not run yet."""
        with self._changed:
            self._items.insert(0 if first else len(self._items), item)
            self._changed.notify()

    def drop(self, task: Task) -> bool:
        """Take back a task that waits. Returns whether it did: one that was taken goes on."""
        with self._changed:
            if task not in self._items:
                return False
            self._items.remove(task)
            return True

    def close(self) -> None:
        """Let `take` return what is left, then None."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()

    def wake(self) -> None:
        """Have `take` look again: a task was stopped."""
        with self._changed:
            self._changed.notify()

    def take(self) -> Task | Callable[[], None] | None:
        """Wait for the next item and remove it; None once the line is closed and empty.

        A question goes before the readings that came before it, but not before functions. A task that is not ready is
        passed over; the questions of one session keep their order.
        """
        while True:
            with self._changed:
                item = self._next(self._items)
                if item is not None:
                    self._items.remove(item)
                    return item
                if self._is_closed:
                    return None
                self._changed.wait(LOOK_AGAIN_S if self._items else None)

    def take_question(self, suspended: Task) -> Task | None:
        """Remove the first question that can be answered while `suspended` waits between two chunks; None for none."""
        with self._changed:
            passed: set[str] = set()
            for item in self._items:
                if not isinstance(item, Task) or not item.is_question:
                    continue
                is_next = item.row.session_id not in passed and item.waits_for != suspended.row.id
                if item.should_stop() or (is_next and item.is_ready(suspended)):
                    self._items.remove(item)
                    return item
                passed.add(item.row.session_id)
        return None

    def tasks(self) -> list[Task]:
        """The tasks that wait, in the order in which they are taken: the questions first. Stopped ones are left out."""
        with self._changed:
            waiting = [item for item in self._items if isinstance(item, Task) and not item.should_stop()]
        return sorted(waiting, key=lambda task: not task.is_question)

    def _next(self, items: list[Task | Callable[[], None]]) -> Task | Callable[[], None] | None:
        before = []
        for item in items:
            if not isinstance(item, Task):
                break
            before.append(item)
        passed: set[str] = set()
        for task in sorted(before, key=lambda task: not task.is_question):
            is_next = not (task.is_question and task.row.session_id in passed)
            if self._is_closed or task.should_stop() or (is_next and task.is_ready(None)):
                return task
            if task.is_question:
                passed.add(task.row.session_id)
        return items[len(before)] if len(before) < len(items) else None
