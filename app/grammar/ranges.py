"""The valid ranges of the answer settings, for the command line and for the page. Standard library only.

The command line accepts more than the page. Every value in these ranges is valid for `SamplingParams` in
`sala_core.engine.sampling`, which checks its own, wider contract.
"""

from typing import Generic, NamedTuple, TypeVar

Number = TypeVar("Number", int, float)


class Range(NamedTuple, Generic[Number]):
    """All numbers from `low` to `high`, both included."""

    low: Number
    high: Number


SEED = Range(0, 2**63 - 1)
"""The seeds that random generators take, everywhere in the program."""

COMMAND_TEMPERATURE = Range(0.0, 100.0)
THINKING_BUDGET = Range(1, 1 << 20)

COMMAND_MAX_TOKENS = Range(1, 2**31 - 1)
EVAL_MAX_TOKENS = Range(1, 1 << 20)

PAGE_TEMPERATURE = Range(0.0, 2.0)
PAGE_TOP_P = Range(0.01, 1.0)
PAGE_MAX_TOKENS = Range(1, 100_000)
