"""What the parts of an open session share."""

from dataclasses import dataclass

from sala_core.engine.engine import Engine
from sala_core.session.state import SessionState
from sala_core.session.stream import StreamWriter
from sala_core.store import Library, SessionRow


@dataclass(frozen=True, kw_only=True)
class SessionContext:
    """An open session, whose lock is held, in its library and on an engine."""

    library: Library
    engine: Engine
    session_id: str
    writer: StreamWriter
    state: SessionState

    @property
    def row(self) -> SessionRow:
        """The session's present row in the library."""
        return self.library.session(self.session_id)

    def take_warnings(self) -> tuple[str, ...]:
        """The warnings since the last call. The list in `state` is empty afterwards."""
        warnings, self.state.warnings = self.state.warnings + self.library.take_notices(), []
        return tuple(warnings)
