"""MiniCPM-SALA on one machine: the model, its state, reading, sessions."""

import os

# Before torch is imported: OpenMP threads that spin while they wait make small operations a hundred times slower as
# soon as anything else runs, and a web server is always something else.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from sala_core.engine.engine import Engine
from sala_core.engine.generate import Finished, PromptProgress, Token
from sala_core.engine.sampling import SamplingParams
from sala_core.errors import SalaError
from sala_core.model.state import SalaState

__all__ = ["Engine", "Finished", "PromptProgress", "SalaError", "SalaState", "SamplingParams", "Token"]
