"""The events of SGLang's own `POST /generate`, streamed."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from sala_core.errors import EngineFailedError, EngineUnreachableError
from sala_core.remote.engine import Written
from sala_core.remote.refusals import stream_error
from sala_core.remote.server import events
from sala_core.text.thinking import ThinkSplitter

_DONE = "[DONE]"


class Generated:
    """Reads one answer. All fields are complete once `read` has ended; the counts come with the first event."""

    def __init__(self, address: str, model: str, *, is_incremental: bool) -> None:
        """Prepare.

        Args:
            address: of the server, for messages.
            model: who was asked.
            is_incremental: each event holds only what is new, by a setting of the server; otherwise all so far.
        """
        self._address, self._model, self._is_incremental = address, model, is_incremental
        self._splitter, self._so_far = ThinkSplitter(), ""
        self.prompt_tokens = self.cached_tokens = self.written_tokens = 0
        self.reason = ""
        """"stop", "length" or "abort"."""
        self.message = ""
        """Of an abort."""
        self.text = ""
        """The answer without its thinking."""

    def read(self, lines: Iterator[str]) -> Iterator[Written]:
        """The answer's text. Raises EngineError; EngineUnreachableError where it breaks off."""
        for data in events(lines):
            if data == _DONE:
                break
            yield from self._take(self._event(data))
        yield from self._written("", is_last=True)
        if not self.reason:
            raise EngineUnreachableError(f"{self._address} broke off before the answer of {self._model!r} was complete")

    def _event(self, data: str) -> Mapping[str, Any]:
        try:
            event = json.loads(data)
        except (ValueError, RecursionError):
            event = None
        if not isinstance(event, dict):
            raise EngineFailedError(f"{self._address} sent something that is no answer: {data[:80]!r}")
        if event.get("error"):
            raise stream_error(event, self._address, self._model)
        return event

    def _take(self, event: Mapping[str, Any]) -> Iterator[Written]:
        told = event.get("meta_info")
        if isinstance(told, dict):
            self.take_counts(told)
        if self.reason == "abort":
            return
        text = event.get("text")
        if not isinstance(text, str):
            return
        if not self._is_incremental:
            text, self._so_far = text[len(self._so_far) :], text
        yield from self._written(text)

    def take_counts(self, told: Mapping[str, Any]) -> None:
        """Take in what the server says of the request. A count of zero may be left out."""
        self.prompt_tokens = _count(told, "prompt_tokens") or self.prompt_tokens
        self.cached_tokens = _count(told, "cached_tokens") or self.cached_tokens
        self.written_tokens = _count(told, "completion_tokens") or self.written_tokens
        end = told.get("finish_reason")
        if isinstance(end, dict):
            kind = str(end.get("type", "stop"))
            self.reason = kind if kind in ("length", "abort") else "stop"
            self.message = str(end.get("message") or "")

    def _written(self, text: str, *, is_last: bool = False) -> Iterator[Written]:
        pieces = self._splitter.push(text) if text else []
        for piece in (*pieces, *(self._splitter.flush() if is_last else [])):
            self.text += "" if piece.thinking else piece.text
            yield Written(text=piece.text, thinking=piece.thinking)


def _count(told: Mapping[str, Any], name: str) -> int:
    value = told.get(name)
    return value if type(value) is int and value > 0 else 0
