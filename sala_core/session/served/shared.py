"""A state in memory that goes over to a session which serves programs: most of them begin alike."""

from collections.abc import Sequence

from sala_core.session.session import Session
from sala_core.session.state import SessionState
from sala_core.store import Library
from sala_core.store.sessions import is_served


def shared_state(library: Library, session_id: str, others: Sequence[Session]) -> SessionState | None:
    """The state of another session, to be used by a served one; None where that saves nothing.

    library: holds the sessions. session_id: which one is opened. others: closed sessions whose states are in memory.
    """
    row = library.session(session_id)
    given = next((session.state for session in others if session.state.state is not None), None)
    if given is None or row.head is None or not is_served(row.name):
        return None
    given.move_to(session_id)
    return given
