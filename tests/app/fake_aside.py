"""Question lists over a workspace without a model: each question is answered by the script, in a thread."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sala_core import SamplingParams
from sala_core.events import Answer, Quotation
from sala_core.session.lists.list_runs import QuestionLists


class FakeAside:
    """The interface of `Aside`."""

    is_ready = True

    def __init__(self, workspace: Any) -> None:
        self._script = workspace.script

    def prepare(self, should_stop: Any) -> Iterator[Any]:
        return iter(())

    def ask(self, question: str, sampling: Any, should_stop: Any, writer: None) -> Iterator[Answer]:
        time.sleep(self._script.token_s)
        if should_stop():
            return
        yield Answer(
            text=f"“the carriage waited”, to {question}",
            thinking="",
            evidence=self._script.evidence,
            quotations=(
                Quotation(
                    text="the carriage waited",
                    document="novel.txt",
                    document_id="n",
                    page=None,
                    line_start=1,
                    line_end=1,
                ),
            ),
            tokens_reused=1,
            tokens_read=1,
            tokens_generated=1,
            seconds_load=0.0,
            seconds_prefill=0.0,
            seconds_decode=0.0,
            finish_reason="stop",
            model="embedded",
        )


class FakeAskedSession:
    """The interface of `Session` that a list needs."""

    sampling_defaults = SamplingParams()

    def __init__(self, workspace: Any) -> None:
        self._workspace = workspace

    def aside(self) -> FakeAside:
        return FakeAside(self._workspace)


def fake_lists(workspace: Any) -> QuestionLists:
    """The real question lists, on a thread of their own in the place of the engine's."""
    waiting: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def work() -> None:
        while True:
            waiting.get()()

    @contextmanager
    def open_session(session_id: str) -> Iterator[FakeAskedSession]:
        yield FakeAskedSession(workspace)

    threading.Thread(target=work, daemon=True).start()
    return QuestionLists(workspace.library.folder / "lists", waiting.put, open_session)  # type: ignore[arg-type]
