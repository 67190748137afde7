"""SGLang's own calls: sessions of the server, and what is appended to them."""

from collections.abc import Callable, Generator, Mapping
from contextlib import closing
from typing import Any

from sala_core.disk.files import new_id
from sala_core.errors import EngineError
from sala_core.remote.engine import EngineInfo
from sala_core.remote.server import Patience, Server
from sala_core.remote.sglang.generated import Generated

_IDLE_S = 24 * 3600.0
_SHORT_S = 60.0
_INCREMENTAL = ("incremental_streaming_output", "stream_output")


class NativeApi:
    """The calls of one server."""

    def __init__(self, server: Server) -> None:
        self.server = server
        told = server.ask("GET", "/get_server_info").fields
        self._is_incremental = any(told.get(name) is True for name in _INCREMENTAL)

    def open_session(self, num_chars: int) -> str | None:
        """Open a session of the server, for a text of this length; its name, None where it opens none."""
        name = f"sala-{new_id()}"
        body = {"capacity_of_str_len": num_chars, "session_id": name, "streaming": True, "timeout": _IDLE_S}
        return name if self.server.ask("POST", "/open_session", body, timeout_s=_SHORT_S).value == name else None

    def close_session(self, name: str) -> None:
        """Close one. Where the server cannot be reached, it does so itself after a day."""
        try:
            self.server.ask("POST", "/close_session", {"session_id": name}, timeout_s=_SHORT_S)
        except EngineError:
            return

    def generated(self, info: EngineInfo) -> Generated:
        """A reader of one answer."""
        return Generated(self.server.access.address, info.model, is_incremental=self._is_incremental)

    def append(self, info: EngineInfo, name: str, text: str) -> Generated | None:
        """Append a short text to a session, and have nothing written. None where the server refuses."""
        body = {"text": text, "sampling_params": {"max_new_tokens": 0}, "session_params": {"id": name}}
        told = self.server.ask("POST", "/generate", body, timeout_s=_SHORT_S).fields.get("meta_info")
        if not isinstance(told, dict):
            return None
        made = self.generated(info)
        made.take_counts(told)
        return None if made.reason == "abort" else made

    def read(
        self, info: EngineInfo, name: str, text: str, patience: Patience, should_stop: Callable[[], bool]
    ) -> Generated:
        """Append a long text to a session, and have nothing written.

        Args:
            info: the engine.
            name: of the session.
            text: what is appended.
            patience: how long the server may be silent.
            should_stop: ends the waiting; the session is then as it was.

        Raises EngineError, EngineUnreachableError also where it was stopped.
        """
        body = {"text": text, "sampling_params": {"max_new_tokens": 0}, "session_params": {"id": name}, "stream": True}
        made = self.generated(info)
        with closing(self.lines(body, info, patience, should_stop)) as lines:
            for _ in made.read(lines):
                pass
        return made

    def lines(
        self, body: Mapping[str, Any], info: EngineInfo, patience: Patience, should_stop: Callable[[], bool]
    ) -> Generator[str, None, None]:
        """The lines of a streamed `POST /generate`.

        Args:
            body: the request.
            info: the engine.
            patience: how long the server may be silent.
            should_stop: ends the stream.

        Raises EngineError.
        """
        return self.server.lines("/generate", body, model=info.model, patience=patience, should_stop=should_stop)
