"""Counts and estimates for the page, with the model of a workspace."""

import time
from collections.abc import Callable
from contextlib import suppress

from sala_core.engine.engine import Engine
from sala_core.errors import ModelError, SalaError
from sala_core.model.state import SalaState
from sala_core.session.planning.count import count_files
from sala_core.session.planning.estimate import estimate
from sala_core.session.planning.measured import Measured, Stretch
from sala_core.session.planning.records import Additions, CountOrder, Estimate
from sala_core.session.planning.speed import measure_first
from sala_core.session.stream import StreamWriter
from sala_core.store import Library

_POLL_S = 0.1


class Planner:
    """What a reading would take, before it begins. Safe to call from any thread."""

    def __init__(
        self,
        library: Library,
        engine: Callable[[], Engine | None],
        error: Callable[[], str | None],
        call: Callable[[Callable[[], None]], None],
        state_of: Callable[[str], SalaState | None],
    ) -> None:
        """Plan for one library.

        Args:
            library: what is known already.
            engine: the model; None until it is loaded.
            error: why it could not be loaded; None if it could, or is being loaded.
            call: has the engine's thread call a function between two jobs.
            state_of: the state of a session, by its id, if it is in memory.
        """
        self._library, self._engine, self._error = library, engine, error
        self._call, self._state_of = call, state_of
        self._first: Stretch | None = None
        self._is_measuring = False
        self.measured = Measured()

    def count(self, order: CountOrder) -> tuple[str, ...]:
        """`count_files`, once the model is loaded. Raises IngestError, and ModelError if the model is not loaded."""
        while (engine := self._engine()) is None and not order.should_stop():
            if reason := self._error():
                raise ModelError(reason)
            time.sleep(_POLL_S)
        if engine is None:
            return ()
        return count_files(self._library, StreamWriter(engine.tokenizer, engine.chat), order, self.measured)

    def estimate(self, session_id: str, additions: Additions) -> Estimate | None:
        """What a reading would take; None until the model is loaded. session_id: "" for a new session.

        Where nothing was ever read on this machine with this model, a first measurement is begun: the estimate has no
        time until it is there.
        """
        engine = self._engine()
        if engine is None:
            return None
        row = self._library.session(session_id) if session_id else None
        found = estimate(
            self._library,
            engine,
            row,
            additions,
            first=self._first,
            state=self._state_of(row.id) if row is not None else None,
            measured=self.measured,
        )
        if found.seconds is None and not self._is_measuring:
            self._is_measuring = True
            self._call(self._measure)
        return found

    def close(self) -> None:
        """Close what was measured."""
        self.measured.close()

    def _measure(self) -> None:
        engine = self._engine()
        if engine is not None:
            with suppress(SalaError):  # no memory: the estimate says so
                self._first = measure_first(engine)
