"""The engine elsewhere that writes the answers of `ask`."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from app.grammar.parser import Arguments
from app.remote.choice import engine_choice

if TYPE_CHECKING:
    from sala_core.session.remote.turn import Writer


def open_writer(arguments: Arguments, folder: Path, stack: ExitStack) -> Writer | None:
    """The engine that the command line names; None for the model here. It is asked before the model here is loaded.

    folder: of the library. stack: closes the connection. Raises EngineError.
    """
    choice = engine_choice(arguments)
    if choice is None:
        return None
    from sala_core.remote.chat_engine import describe_settings
    from sala_core.remote.open import open_engine
    from sala_core.session.remote.turn import Writer

    engine = open_engine(choice, folder)
    stack.callback(engine.close)
    engine.connect()
    settings = describe_settings(
        {name: getattr(arguments, name) for name in ("temperature", "top_p", "max_tokens", "seed", "think")}
    )
    return Writer(engine=engine, settings=settings)
