"""The events of a streamed chat completion, whoever serves it."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sala_core.errors import EngineFailedError, EngineUnreachableError
from sala_core.events import PromptProgress
from sala_core.remote.engine import Written
from sala_core.remote.refusals import stream_error
from sala_core.remote.server import events
from sala_core.text.thinking import ThinkSplitter

_DONE = "[DONE]"
_REASONS = {"length": "length", "max_tokens": "length"}


@dataclass(frozen=True, kw_only=True)
class Usage:
    """What a server reports of an answer, in tokens; None where it does not. cached: of the prompt, not read again."""

    prompt: int | None = None
    cached: int | None = None
    written: int | None = None


class ChatStream:
    """Reads the lines of one answer. All fields are complete once `read` has ended."""

    def __init__(self, address: str, model: str) -> None:
        """address: of the server, and model: who was asked, for messages."""
        self._address, self._model = address, model
        self._splitter = ThinkSplitter()
        self.usage = Usage()
        self.reason = ""
        """"stop" or "length"; "" while the answer goes on."""
        self.served: list[str] = []
        """Names of the models that the server says it answers with."""

    def read(self, lines: Iterator[str]) -> Iterator[Written | PromptProgress]:
        """The answer's text and thinking, and the progress of the prompt where the server tells it.

        Raises EngineFailedError for an error inside the stream or for what is none, EngineContextError,
        EngineUnreachableError where the stream ends before the answer does.
        """
        is_done = False
        for data in events(lines):
            if data == _DONE:
                is_done = True
                break
            yield from self._take(self._event(data))
        yield from self._written(self._splitter.flush())
        if not is_done and not self.reason:
            raise EngineUnreachableError(f"{self._address} broke off before the answer of {self._model!r} was complete")
        self.reason = self.reason or "stop"  # some servers send no reason before [DONE]

    def _event(self, data: str) -> dict[str, Any]:
        try:
            event = json.loads(data)
        except (ValueError, RecursionError):
            event = None
        if not isinstance(event, dict):
            raise EngineFailedError(
                f"{self._address} sent something that is no answer: {data[:80]!r}; look at the server's own log"
            )
        if event.get("error") or event.get("object") == "error":
            raise stream_error(event, self._address, self._model)
        return event

    def _take(self, event: Mapping[str, Any]) -> Iterator[Written | PromptProgress]:
        name = event.get("model")
        if isinstance(name, str) and name and name not in self.served:
            self.served.append(name)
        progress = event.get("prompt_progress")
        if isinstance(progress, dict):
            done, total = (_whole(progress.get(key)) or 0 for key in ("processed", "total"))
            yield PromptProgress(tokens_done=done, tokens_total=total, reader=self._model)
        self._count(event)
        choices = event.get("choices")
        for choice in choices if isinstance(choices, list) else []:
            if not isinstance(choice, dict):
                continue
            delta = choice.get("delta") or choice.get("message") or {}
            if isinstance(delta, dict):
                thought = delta.get("reasoning_content") or delta.get("reasoning")
                if isinstance(thought, str) and thought:
                    yield Written(text=thought, thinking=True)
                if isinstance(text := delta.get("content"), str) and text:
                    yield from self._written(self._splitter.push(text))
            if isinstance(reason := choice.get("finish_reason"), str) and reason:
                self.reason = _REASONS.get(reason, "stop")

    def _count(self, event: Mapping[str, Any]) -> None:
        usage, timings = event.get("usage"), event.get("timings")
        prompt, cached, written = self.usage.prompt, self.usage.cached, self.usage.written
        if isinstance(usage, dict):
            details = usage.get("prompt_tokens_details")
            prompt, written = _whole(usage.get("prompt_tokens")), _whole(usage.get("completion_tokens"))
            if isinstance(details, dict) and _whole(details.get("cached_tokens")) is not None:
                cached = _whole(details.get("cached_tokens"))
        if isinstance(timings, dict) and cached is None:
            cached = _whole(timings.get("cache_n"))
        self.usage = Usage(prompt=prompt, cached=cached, written=written)

    def _written(self, pieces: list[Any]) -> Iterator[Written]:
        for piece in pieces:
            yield Written(text=piece.text, thinking=piece.thinking)


def _whole(value: Any) -> int | None:
    return value if type(value) is int and value >= 0 else None
