"""One question, appended to a session of an SGLang server, and its answer."""

import time
from collections.abc import Callable, Generator
from contextlib import closing
from typing import Any, Literal

from sala_core.errors import EngineError, EngineFailedError, EngineUnreachableError
from sala_core.events import PromptProgress
from sala_core.remote.chat_engine import TEMPERATURE
from sala_core.remote.engine import EngineAnswer, EngineEvent, EngineInfo, EngineSettings, SessionText
from sala_core.remote.plan import Plan
from sala_core.remote.server import Patience
from sala_core.remote.sglang.appended import (
    AFTER_LENGTH,
    AFTER_STOP,
    ServerSession,
    continuation,
    pieces_of,
    turn_digest,
)
from sala_core.remote.sglang.native import NativeApi
from sala_core.written_by import WrittenBy

_TOLERANCE_TOKENS = 32


class Appending:
    """One question, appended to a session of the server, and its answer."""

    def __init__(
        self,
        api: NativeApi,
        session: SessionText,
        question: str,
        settings: EngineSettings,
        made: Plan,
        held: ServerSession,
        info: EngineInfo,
        notes: list[str],
    ) -> None:
        """Prepare.

        Args:
            api: of the server.
            session, question, settings: as `RemoteEngine.ask` takes them.
            made: what fits.
            held: the server's session.
            info: the engine.
            notes: what the user is told with the answer.
        """
        self._notes = notes
        self._api, self._session, self._question, self._settings = api, session, question, settings
        self._made, self._held, self._info = made, held, info
        self._text = continuation(held, session.turns[len(held.pieces) - 1 :], question)
        self._got = api.generated(info)
        self.held_after: ServerSession | None = None
        """What the server holds behind a whole answer."""
        self._has_begun = False

    @property
    def text(self) -> str:
        """What is appended."""
        return self._text

    def run(
        self, own: int, patience: Patience, should_stop: Callable[[], bool]
    ) -> Generator[EngineEvent, None, Literal["done", "forgotten"]]:
        """Pass on the answer. "forgotten": the server does not hold what it should, and nothing was passed on.

        Args:
            own: tokens of `text`.
            patience: how long the server may be silent.
            should_stop: ends the answer.

        Raises EngineError.
        """
        started = time.monotonic()
        first: float | None = None
        yield PromptProgress(tokens_done=0, tokens_total=own, reader=self._info.name)
        warnings = list(self._notes)
        try:
            with closing(self._api.lines(self._body(), self._info, patience, should_stop)) as lines:
                for event in self._got.read(lines):
                    if not self._has_begun and not self._is_expected(own):
                        return "forgotten"
                    first, self._has_begun = first or time.monotonic(), True
                    yield event
        except EngineUnreachableError as error:
            if not self._has_begun:
                if should_stop():
                    return "done"
                raise
            if not should_stop():
                warnings.append(f"The answer ends here: {error}. “Regenerate” asks for a whole one.")
            yield self._end("stopped", started, first, warnings)
            return "done"
        except EngineError as error:
            if not self._has_begun and _is_forgotten(str(error)):
                return "forgotten"
            raise
        if self._got.reason == "abort":
            if _is_forgotten(self._got.message):
                return "forgotten"
            raise EngineFailedError(f"{self._info.name} ended without an answer: {self._got.message}")
        self._note()
        yield self._end(self._got.reason, started, first, warnings)
        return "done"

    def _is_expected(self, own: int) -> bool:
        """Whether the server's session held, before this question, what was appended to it."""
        wanted = self._held.tokens + own
        return not self._got.prompt_tokens or abs(self._got.prompt_tokens - wanted) <= _TOLERANCE_TOKENS + own // 2

    def _note(self) -> None:
        got = self._got
        self.held_after = ServerSession(
            id=self._held.id,
            pieces=(*pieces_of(self._session), turn_digest(self._question, got.text)),
            tokens=got.prompt_tokens + got.written_tokens,
            before=AFTER_LENGTH if got.reason == "length" else AFTER_STOP,
        )

    def _body(self) -> dict[str, Any]:
        settings = self._settings
        sampling: dict[str, Any] = {
            "max_new_tokens": self._made.max_tokens,
            "temperature": TEMPERATURE if settings.temperature is None else settings.temperature,
        }
        named = {"top_p": settings.top_p, "sampling_seed": settings.seed}
        sampling |= {name: value for name, value in named.items() if value is not None}
        return {
            "text": self._text,
            "sampling_params": sampling,
            "session_params": {"id": self._held.id},
            "stream": True,
        }

    def _end(self, reason: str, started: float, first: float | None, warnings: list[str]) -> EngineAnswer:
        got, ended = self._got, time.monotonic()
        if self._settings.think is not None:
            warnings.append(f"{self._info.name} decided itself whether it thinks.")
        return EngineAnswer(
            finish_reason=reason,
            written_by=WrittenBy(
                engine=self._info.name,
                address=self._api.server.access.address,
                basis="state",
                tokens_again=max(0, got.prompt_tokens - got.cached_tokens) if got.prompt_tokens else None,
                tokens_reused=got.cached_tokens if got.prompt_tokens else None,
            ),
            tokens_generated=got.written_tokens,
            seconds_prefill=(first or ended) - started,
            seconds_decode=ended - (first or ended),
            warnings=tuple(warnings),
        )


def _is_forgotten(message: str) -> bool:
    """Whether a refusal says that the server knows the session no more."""
    words = message.lower()
    return "session" in words and ("not exist" in words or "close was requested" in words)
