"""How many tokens a text has for an engine: counted by its server where it can, otherwise estimated and corrected."""

from collections.abc import Mapping
from typing import Any

from sala_core.errors import EngineError
from sala_core.remote.engine import EngineInfo, EngineKind
from sala_core.remote.server import Server

_BYTES_PER_TOKEN = 3.0
"""Low: English has 4.3 bytes a token with a large vocabulary, Chinese about 3. Too many is safer than too few."""

_MARGIN = 1.1
_COUNT_S = 60.0
_MIN_BYTES = 400


class TokenCounter:
    """Counts for one model of one server. What a server has reported of a prompt corrects later estimates."""

    def __init__(self, server: Server, info: EngineInfo) -> None:
        self._server, self._info = server, info
        self._per_byte = 1 / _BYTES_PER_TOKEN
        self._can_count = info.kind in _REQUESTS
        self._known: dict[str, int] = {}

    def estimate(self, text: str) -> int:
        """Tokens of a text, rather too many than too few. Asks nobody."""
        return int(len(text.encode("utf-8", "replace")) * self._per_byte) + 1

    def count(self, text: str) -> int:
        """Tokens of a text: the server's count, or else the estimate."""
        if self._can_count:
            try:
                counted = self._counted(text)
            except EngineError:
                counted = None
            if counted is not None:
                self.learn(text, counted)
                return counted
            self._can_count = False
        return self.estimate(text)

    def count_document(self, content_hash: str, text: str) -> int:
        """Tokens of a document, counted once. content_hash: of its text."""
        if content_hash not in self._known:
            self._known[content_hash] = self.count(text)
        return self._known[content_hash]

    @property
    def is_exact(self) -> bool:
        """Whether the server counts."""
        return self._can_count

    def learn(self, text: str, num_tokens: int) -> None:
        """Correct later estimates by what the server says that a text has."""
        num_bytes = len(text.encode("utf-8", "replace"))
        if num_bytes >= _MIN_BYTES and num_tokens > 0:
            self._per_byte = _MARGIN * num_tokens / num_bytes

    def _counted(self, text: str) -> int | None:
        path, body = _REQUESTS[self._info.kind]
        body = {key: text if value is _TEXT else value for key, value in body.items()}
        if self._info.kind in _NAMES_MODEL:
            body["model"] = self._info.model
        told = self._server.ask("POST", path, body, timeout_s=_COUNT_S).fields
        count, tokens = told.get("count"), told.get("tokens")
        if type(count) is int:
            return count
        return len(tokens) if isinstance(tokens, list) else None


_TEXT = object()
_REQUESTS: Mapping[EngineKind, tuple[str, Mapping[str, Any]]] = {
    "vllm": ("/tokenize", {"prompt": _TEXT, "add_special_tokens": False}),
    "sglang": ("/tokenize", {"prompt": _TEXT, "add_special_tokens": False}),
    "llama.cpp": ("/tokenize", {"content": _TEXT, "add_special": False}),
    "llama-cpp-python": ("/extras/tokenize/count", {"input": _TEXT}),
}
"""Kind -> path and body of the request that counts a text."""

_NAMES_MODEL: tuple[EngineKind, ...] = ("vllm", "sglang", "llama-cpp-python")
