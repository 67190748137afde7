"""`engines`: the engines on this machine that can write answers, with their models and how long a text each takes."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from app.grammar.parser import Arguments
from app.remote.words import context_words

if TYPE_CHECKING:
    from sala_core.remote.found import FoundServer


def engines(arguments: Arguments, folder: Path) -> int:
    """Ask the well-known ports of this machine, and print what answers."""
    from sala_core.remote.found import engines_here

    found = engines_here()
    if arguments.json:
        print(json.dumps([asdict(server) for server in found], indent=2))
    else:
        print("\n".join(engines_lines(found)))
    return 0


def engines_lines(found: Sequence[FoundServer]) -> Iterator[str]:
    """Yield the lines of the list."""
    from sala_core.remote.found import KIND_NAMES, PORTS

    asked = ", ".join(f"{name} ({port})" for port, name in PORTS.items())
    if not found:
        yield f"No engine answers on this machine. Asked were the ports of {asked}."
        yield "Start one of them, or name any server: ask SESSION QUESTION --engine URL"
        return
    for server in found:
        name = KIND_NAMES[server.engines[0].kind] if server.engines else server.expected
        yield f"{name} at {server.url}"
        if server.problem:
            yield f"  {server.problem}"
        elif not server.engines:
            yield "  no model is loaded or installed there"
        for info in server.engines:
            yield f"  {info.model}: {context_words(info)}"
    yield ""
    first = next((info for server in found for info in server.engines), None)
    if first is not None:
        yield f'Ask one: ask SESSION "QUESTION" --engine {first.url} --engine-model {shlex.quote(first.model)}'
