"""From a request to the desk and back: which model is meant, the events while it works, a client that leaves."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from starlette.concurrency import run_in_threadpool

from app.server.api.counters import Counters
from app.server.api.errors import ApiError
from sala_core.errors import ModelError, SalaError, SessionNotFoundError
from sala_core.events import Answer, PromptProgress, ReadProgress
from sala_core.session.served.request import Done, Request

if TYPE_CHECKING:
    from sala_core.session.served.desk import Desk
    from sala_core.session.workspace import Workspace
    from sala_core.store import SessionRow

SESSION_START = "sala/"
_READY_AGAIN_S = 0.2
_BEAT_S = 5.0
_PROGRESS_S = 0.5


@dataclass(frozen=True, kw_only=True)
class Beat:
    """Nothing has come for a while: the connection is kept alive."""


@dataclass(frozen=True, kw_only=True)
class Piece:
    """A piece of the answer."""

    text: str
    is_thinking: bool


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far the text before the answer is read. tokens_cached: what did not have to be read."""

    tokens_done: int
    tokens_total: int
    tokens_cached: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Finished:
    """The answer, complete. tokens_cached: of the prompt, what did not have to be read for this request."""

    answer: Answer
    session_id: str
    is_kept: bool
    prompt_tokens: int
    tokens_cached: int

    @property
    def finish_reason(self) -> str:
        """In OpenAI's words."""
        return "length" if self.answer.finish_reason == "length" else "stop"


@dataclass(kw_only=True)
class Answering:
    """All that requests share."""

    workspace: Workspace
    desk: Desk
    counters: Counters = field(default_factory=Counters)

    @property
    def model_id(self) -> str:
        """The id of the model: its name, of a folder the last part."""
        name = self.workspace.model_info().name
        return (
            name if not ("\\" in name or name.startswith(("/", "~", "."))) else name.replace("\\", "/").split("/")[-1]
        )

    def session(self, model: str) -> SessionRow | None:
        """The session that a model's id names; None for the model itself. Raises ApiError for any other id."""
        if model in (self.model_id, self.workspace.model_info().name):
            return None
        if model.startswith(SESSION_START):
            try:
                return self.workspace.library.session(model.removeprefix(SESSION_START))
            except SessionNotFoundError:
                pass
        message = f"the model {model!r} does not exist; /v1/models lists {self.model_id!r} and the sessions"
        raise ApiError(message, status=404, code="model_not_found", param="model")

    @property
    def finds(self) -> bool:
        """Whether the model only finds, so that a finder writes its answers."""
        sampling = self.workspace.model_info().sampling
        return sampling is not None and sampling.finds

    async def wait_until_ready(self) -> None:
        """Wait until the model is loaded. Raises ModelError where it cannot be."""
        while (info := self.workspace.model_info()).status == "loading":
            await asyncio.sleep(_READY_AGAIN_S)
        if info.status == "failed":
            raise ModelError(info.error or "the model cannot be loaded")

    async def events(
        self, sampling: dict[str, Any], start: Callable[[Request], None], is_gone: Callable[[], Any] | None = None
    ) -> AsyncIterator[Beat | Progress | Piece | Finished]:
        """Start a request, and give its events; the first call prepares it. When this is closed, the answer ends.

        Args:
            sampling: fields of SamplingParams.
            start: gives the request to the desk; called on another thread.
            is_gone: asked now and then whether the client has gone; None where that closes the iterator anyway.

        Raises ApiError, SalaError.
        """
        loop, queue = asyncio.get_running_loop(), asyncio.Queue[Any]()

        def tell(event: Any) -> None:
            loop.call_soon_threadsafe(queue.put_nowait, event)

        request = Request(tell=tell, sampling=sampling)
        follower = _Follower()
        is_over = False
        try:
            await run_in_threadpool(start, request)
            while not is_over:
                try:
                    event = await asyncio.wait_for(queue.get(), _BEAT_S if is_gone is None else 1.0)
                except TimeoutError:
                    if is_gone is not None and await is_gone():
                        return
                    yield Beat()
                    continue
                is_over = isinstance(event, Done)
                for shown in follower.take(event):
                    yield shown
            if (end := follower.finished) is not None:
                self.counters.add_answer(end.prompt_tokens, end.tokens_cached, end.answer.tokens_generated)
        finally:
            if not is_over:
                request.has_left = True
                await asyncio.shield(run_in_threadpool(self.desk.leave, request))


class _Follower:
    """Turns the desk's events into those of the API."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._shown_at = 0.0
        self._cached: int | None = None
        self._answer: Answer | None = None
        self.finished: Finished | None = None

    def take(self, event: Any) -> list[Progress | Piece | Finished]:
        """What is shown of an event. Raises SalaError of a request that failed."""
        if isinstance(event, ReadProgress):
            return self._progress(event)
        if isinstance(event, Answer):
            self._answer = event
        elif isinstance(event, Done):
            return self._end(event)
        elif not isinstance(event, PromptProgress) and event.text:
            return [Piece(text=event.text, is_thinking=event.thinking)]
        return []

    def _progress(self, event: ReadProgress) -> list[Progress | Piece | Finished]:
        if event.phase == "reading" and self._cached is None:
            self._cached = event.tokens_done if event.tokens_per_s == 0 else 0
        if time.monotonic() - self._shown_at < _PROGRESS_S:
            return []
        self._shown_at = time.monotonic()
        return [
            Progress(
                tokens_done=event.tokens_done,
                tokens_total=event.tokens_total,
                tokens_cached=self._cached or 0,
                seconds=time.monotonic() - self._began,
            )
        ]

    def _end(self, done: Done) -> list[Progress | Piece | Finished]:
        if done.error is not None:
            raise done.error if isinstance(done.error, SalaError) else ApiError.of(done.error)
        answer = self._answer
        if answer is None:
            raise ApiError("the answer was stopped before a word was written", status=500, kind="server_error")
        self.finished = Finished(
            answer=answer,
            session_id=done.session_id,
            is_kept=done.is_kept,
            prompt_tokens=answer.tokens_reused + answer.tokens_read,
            tokens_cached=max(0, answer.tokens_reused - done.tokens_read),
        )
        return [self.finished]
