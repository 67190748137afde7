"""The valid ranges of the answer settings, the same for the command line and for the page. Standard library only.

Every value in these ranges is valid for `SamplingParams` in `sala_core.engine.sampling`, which checks its own, wider
contract.
"""

from typing import Generic, NamedTuple, TypeVar

Number = TypeVar("Number", int, float)


class Range(NamedTuple, Generic[Number]):
    """All numbers from `low` to `high`, both included."""

    low: Number
    high: Number


SEED = Range(0, 2**63 - 1)
"""The seeds that random generators take, everywhere in the program."""

TEMPERATURE = Range(0.0, 2.0)
"""Above 2 a text is noise, and noise in a conversation is read again with every later question."""

TOP_P = Range(0.01, 1.0)
MAX_TOKENS = Range(1, 100_000)
THINKING_BUDGET = Range(1, 1 << 20)

EVAL_MAX_TOKENS = Range(1, 1 << 20)
