"""Greedy decoding at the level of passes, as the checks need it: with or without CUDA graphs, through end tokens."""

from collections.abc import Sequence

import torch

from sala_core.assets import ASSETS
from sala_core.engine.decode import MAX_PASS_TOKENS, Decoder
from sala_core.engine.engine import Engine
from sala_core.engine.sampling import Sampler, SamplingParams
from sala_core.model.state import SalaState

TEXT = ASSETS / "quantize" / "held-out" / "letter.md"
"""A text of the program, which its embedded model was not trained on."""


def decode(engine: Engine, ids: Sequence[int], new_tokens: int) -> list[int]:
    """`new_tokens` greedy tokens after the prompt `ids`, from a new state. -1, and no more, for logits not finite."""
    state, decoder, sampler, first = begin(engine, ids, new_tokens)
    return step_by_step(state, decoder, sampler, first, new_tokens)


def begin(
    engine: Engine, ids: Sequence[int], new_tokens: int, *, graphs: bool | None = None
) -> tuple[SalaState, Decoder, Sampler, int]:
    """Prefill a new state with one token or more.

    Returns the state, a decoder for it, the decoder's sampler, and the first token, or -1 for logits not finite.

    Args:
        engine: the model.
        ids: the prompt.
        new_tokens: that will be decoded.
        graphs: use CUDA graphs; None as the engine does.
    """
    state = engine.new_state()
    state.reserve(len(ids) + new_tokens + 2 * MAX_PASS_TOKENS)
    sampler = Sampler(SamplingParams(temperature=0), engine.config.vocab_size, [], engine.model.device)
    *_, (_, hidden) = engine.read(state, list(ids))
    with torch.inference_mode():
        logits = engine.model.logits(hidden)[0]
    first = int(logits.argmax()) if bool(logits.isfinite().all()) else -1
    return state, Decoder(engine.model, state, sampler, traced=True, graphs=graphs), sampler, first


def step_by_step(state: SalaState, decoder: Decoder, sampler: Sampler, first: int, new_tokens: int) -> list[int]:
    """Greedy tokens, one pass for each, `first` included. -1, and no more, for logits that are not finite.

    Args:
        state: advances by all tokens but the last.
        decoder, sampler, first: as `begin` returned them.
        new_tokens: how many tokens.
    """
    tokens = [first]
    while len(tokens) < new_tokens and tokens[-1] >= 0:
        tokens += decoder.step(state, tokens[-1:], sampler)
        decoder.confirm(state, 1)
    return tokens
