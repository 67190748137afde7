"""Long-context evaluations of a local model, or of a peer model behind an OpenAI-compatible endpoint."""

from sala_core.evals.endpoint import Access, Endpoint
from sala_core.evals.local import LocalModel
from sala_core.evals.peer_tokens import PeerTokens
from sala_core.evals.records import EvalProgress, SampleDone
from sala_core.evals.run import SUITES, EvalDone, EvalPlan, evaluate
from sala_core.evals.summary import Row
from sala_core.evals.texts import TextSource

__all__ = [
    "SUITES",
    "Access",
    "Endpoint",
    "EvalDone",
    "EvalPlan",
    "EvalProgress",
    "LocalModel",
    "PeerTokens",
    "Row",
    "SampleDone",
    "TextSource",
    "evaluate",
]
