"""Opens the engine at an address: which kind it is, its server tells."""

from contextlib import closing
from pathlib import Path

from sala_core.remote.chat_engine import ChatEngine
from sala_core.remote.choice import EngineChoice
from sala_core.remote.describe import chosen
from sala_core.remote.engine import RemoteEngine
from sala_core.remote.sala.engine import SalaEngine
from sala_core.remote.sala.wire import PREFIX
from sala_core.remote.server import Server
from sala_core.remote.sglang.session_engine import SessionEngine

_SALA_REFUSAL = "AccessError"


def open_engine(choice: EngineChoice, library: Path) -> RemoteEngine:
    """The engine that a user has chosen. Asks its server what it is. Raises EngineError where it cannot be used.

    library: folder of the library, where an engine that keeps state notes what it has.
    """
    with closing(Server(choice.access)) as server:
        if is_sala(server):
            return SalaEngine(choice.access, library)
        info = chosen(server, choice.model)
    if info.has_sessions and choice.sends != "passages":
        return SessionEngine(choice, library)
    return ChatEngine(choice)


def is_sala(server: Server) -> bool:
    """Whether another Sala answers at an address as an engine for others. Raises EngineUnreachableError."""
    told = server.ask("GET", f"{PREFIX}/").value
    if not isinstance(told, dict):
        return False
    error = told.get("error")
    return "protocol" in told or (isinstance(error, dict) and error.get("kind") == _SALA_REFUSAL)
