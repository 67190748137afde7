"""MiniCPM-SALA on one machine: the model, its state, the reading of documents, sessions.

The names below load on first use (PEP 562), because most of them need torch. The library, the events and the errors
work without it.
"""

import importlib
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sala_core.engine.engine import Engine
    from sala_core.engine.generate import Finished, Token
    from sala_core.engine.sampling import SamplingParams
    from sala_core.errors import SalaError
    from sala_core.events import PromptProgress
    from sala_core.model.state import SalaState

# OpenMP reads this when torch loads. Threads that spin while they wait make small operations a hundred times slower as
# soon as anything else runs on the machine, and next to a web server something always does.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

# oneDNN keeps the compiled code of every shape of matrices that it has multiplied, and torch's layer above it keeps a
# second list; 1,024 entries each by default, some 300 KB an entry. Questions have ever new lengths, so both lists grew
# with every question. A reading or an answer uses fewer than 64 shapes at a time.
for _cache in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):
    os.environ.setdefault(_cache, "64")

__all__ = ["Engine", "Finished", "PromptProgress", "SalaError", "SalaState", "SamplingParams", "Token"]

_EXPORTS = {
    "Engine": "sala_core.engine.engine",
    "Finished": "sala_core.engine.generate",
    "PromptProgress": "sala_core.events",
    "SalaError": "sala_core.errors",
    "SalaState": "sala_core.model.state",
    "SamplingParams": "sala_core.engine.sampling",
    "Token": "sala_core.engine.generate",
}
"""Name -> the module that defines it."""


def __getattr__(name: str) -> object:
    """Load an exported name from its module, once."""
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_EXPORTS[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """The module's own names and the exported ones."""
    return sorted({*globals(), *__all__})
