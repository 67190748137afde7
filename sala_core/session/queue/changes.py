"""Answer settings that a user has changed."""

from typing import TypedDict


class SamplingChanges(TypedDict, total=False):
    """Fields of SamplingParams that a user has set; the model's own apply to the others."""

    temperature: float
    top_p: float
    max_tokens: int
    think: bool
    thinking_budget: int
    seed: int
    verbatim: bool
