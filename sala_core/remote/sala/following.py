"""Follows a job at another Sala to its end, over as many connections as it takes; no event is lost or comes twice."""

import time
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress

from sala_core.errors import EngineError, EngineFailedError, EngineGoneError, EngineUnreachableError
from sala_core.remote.engine import Written
from sala_core.remote.sala.connection import PATIENCE_S, Connection
from sala_core.remote.sala.wire import Alive, End, WireEvent, WireToken, from_line

_PAUSE_S = 0.3


class Following:
    """Follows jobs. The connection may break as often as it likes: the server is asked from the next event on."""

    def __init__(
        self, connection: Connection, should_stop: Callable[[], bool], *, patience_s: float = PATIENCE_S
    ) -> None:
        """Prepare it.

        Args:
            connection: to the server.
            should_stop: has the server stop the job when it returns True.
            patience_s: how long connections may fail in a row.
        """
        self._connection, self._should_stop, self._patience_s = connection, should_stop, patience_s

    def events(self, job_id: str) -> Generator[WireEvent, None, End]:
        """The events of a job; returns how it has ended: "interrupted" also where the server does not know it any more.

        Raises EngineUnreachableError, EngineFailedError for lines that are none, EngineError for a refusal.
        """
        number, failing_since, has_told = 0, None, False
        while True:
            try:
                for data in self._connection.lines(f"/jobs/{job_id}/events", {"after": number}):
                    if not has_told and self._should_stop():
                        has_told = self._stop(job_id)
                    if data is None:
                        continue
                    failing_since = None
                    line = self._line(data)
                    if isinstance(line, End):
                        return line
                    if not isinstance(line, Alive):
                        number += 1
                        yield line
                broken = EngineUnreachableError(f"{self._connection.access.address} ended the stream too early")
            except EngineGoneError:
                return End(status="interrupted")
            except EngineUnreachableError as error:
                broken = error
            if self._should_stop():
                self._stop(job_id)
                return End(status="stopped")
            now = time.monotonic()
            failing_since = failing_since if failing_since is not None else now
            if now - failing_since > self._patience_s:
                raise broken
            time.sleep(_PAUSE_S)

    def _line(self, data: bytes) -> WireEvent | Alive | End:
        try:
            return from_line(data)
        except ValueError as error:
            raise EngineFailedError(
                f"{self._connection.access.address} sends what this program does not understand ({error}); update the "
                "older of the two programs"
            ) from error

    def _stop(self, job_id: str) -> bool:
        """Tell the server to end the job; return whether it knows."""
        with suppress(EngineError):
            self._connection.call("POST", f"/jobs/{job_id}/stop", should_stop=lambda: True)
            return True
        return False


class Shown:
    """The text of an answer as far as it was shown. What comes again after a restart is not shown again."""

    def __init__(self, address: str) -> None:
        """address: of the server, for messages."""
        self._address = address
        self._shown: dict[bool, str] = {False: "", True: ""}
        self._again: dict[bool, int] = {False: 0, True: 0}

    def begin_anew(self) -> None:
        """The answer begins again with its first word."""
        self._again = {False: 0, True: 0}

    def new(self, token: WireToken) -> Iterator[Written]:
        """What a token adds to what was shown. Raises EngineFailedError if the answer has become another one."""
        kind, text = token.thinking, token.text
        known = self._shown[kind][self._again[kind] : self._again[kind] + len(text)]
        if known != text[: len(known)]:
            raise EngineFailedError(
                f"{self._address} was started again in the middle of the answer, and now gives another one; ask again"
            )
        self._again[kind] += len(text)
        fresh = text[len(known) :]
        if fresh:
            self._shown[kind] += fresh
            yield Written(text=fresh, thinking=kind)
