"""MiniCPM-SALA on one machine: the model, its state, reading, sessions."""

from sala_core.engine import Engine, Finished, Progress, Token
from sala_core.errors import SalaError
from sala_core.sampling import SamplingParams
from sala_core.state import SalaState

__all__ = ["Engine", "Finished", "Progress", "SalaError", "SalaState", "SamplingParams", "Token"]
