"""The engine elsewhere that a command line names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.grammar.parser import Arguments

if TYPE_CHECKING:
    from sala_core.remote.choice import EngineChoice


def engine_choice(arguments: Arguments) -> EngineChoice | None:
    """The engine of `--engine`; None for the model here. Raises EngineError for an address or a key that cannot be."""
    from sala_core.remote.access import Access, read_key
    from sala_core.remote.choice import EngineChoice

    named = arguments.engine
    if not named.url:
        return None
    key = read_key(named.key_file) if named.key_file is not None else ""
    return EngineChoice(
        access=Access.of(named.url, key, named.ca_file),
        model=named.model,
        context_tokens=named.context,
        sends=named.sends,
    )
