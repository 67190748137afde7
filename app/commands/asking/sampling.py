"""The sampling parameters that a command line asks for."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from app.grammar.parser import Arguments

if TYPE_CHECKING:
    from sala_core.engine.sampling import SamplingParams


def sampling_params(arguments: Arguments, defaults: SamplingParams) -> SamplingParams:
    """Return the model's sampling defaults, changed by the options of the command line."""
    chosen: dict[str, Any] = {
        "max_tokens": arguments.max_tokens,
        "think": arguments.think,
        "thinking_budget": arguments.thinking_budget,
        "temperature": arguments.temperature,
        "top_p": arguments.top_p,
        "seed": arguments.seed,
        "verbatim": arguments.verbatim,
    }
    return replace(defaults, **{name: value for name, value in chosen.items() if value is not None})
