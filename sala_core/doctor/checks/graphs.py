"""CUDA graphs: decoding by captured graphs must give what the same passes give one operation at a time."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from sala_kernels.inspection.cases import relative_error
from torch import Tensor

from sala_core.doctor.checks.decoding import TEXT, begin, step_by_step
from sala_core.doctor.records import Examination, Figure, Outcome, failed, not_possible, ok
from sala_core.engine.decode import MAX_PASS_TOKENS
from sala_core.engine.engine import Engine

MAX_ERROR = 1e-3
"""Largest relative RMS difference of the linear states with and without graphs that passes."""

_PROMPT_TOKENS = 1500
_NEW_TOKENS = 24
_REPEATS = 3
_DRAFTS = (4, MAX_PASS_TOKENS)  # sizes of the passes over several tokens


@dataclass(frozen=True, kw_only=True)
class Decoded:
    """Greedy tokens after a text, the choices of passes over several tokens, and the linear states at the end.

    tokens: -1 stands for logits that are not finite. states: [layers, heads, K, V] float32.
    """

    tokens: tuple[int, ...]
    states: Tensor


def cuda_graphs(examination: Examination) -> Iterator[Outcome]:
    """The check "CUDA graphs", with the embedded model, since graphs do not depend on the size of a model."""
    name = "CUDA graphs"
    if examination.device == "cpu" or not torch.cuda.is_available():
        yield not_possible(name, "CUDA graphs need a card")
        return
    engine = Engine.load(device="cuda")
    ids = engine.tokenizer.encode_content(TEXT.read_text(encoding="utf-8"))[:_PROMPT_TOKENS]
    plain = decode_all(engine, ids.tolist(), graphs=False)
    yield compare(name, plain, [decode_all(engine, ids.tolist(), graphs=True) for _ in range(_REPEATS)])


def decode_all(engine: Engine, ids: Sequence[int], *, graphs: bool) -> Decoded:
    """Prefill `ids` in a new state, then decode greedily: token by token, then passes over several tokens."""
    state, decoder, sampler, first = begin(engine, ids, _NEW_TOKENS, graphs=graphs)
    chosen = step_by_step(state, decoder, sampler, first, _NEW_TOKENS)
    for size in _DRAFTS:
        if -1 not in chosen:
            chosen += decoder.step(state, chosen[-size:], sampler)
            decoder.confirm(state, size // 2)
    return Decoded(tokens=tuple(chosen), states=state.linear_states.clone())


def compare(name: str, plain: Decoded, graphed: Sequence[Decoded]) -> Outcome:
    """The outcome of one decoding without graphs and several with them.

    name: of the check. plain: without graphs. graphed: with graphs, each from a new state.
    """
    errors = [relative_error(one.states, plain.states) for one in graphed]
    same = [sum(a == b for a, b in zip(one.tokens, plain.tokens, strict=False)) for one in graphed]
    figures: dict[str, Figure] = {
        "tokens": len(plain.tokens),
        "the same tokens, by repetition": ", ".join(map(str, same)),
        "difference of the linear states, by repetition": ", ".join(f"{error:.1e}" for error in errors),
        "limit": MAX_ERROR,
    }
    advice = "attach this report to a bug report; until then use --device cpu"
    if any(-1 in one.tokens for one in (plain, *graphed)):
        return failed(name, "logits are not finite", advice, figures)
    if min(same) < len(plain.tokens):
        wrong = next(one for one, count in zip(graphed, same, strict=True) if count < len(plain.tokens))
        first = next(i for i, (a, b) in enumerate(zip(wrong.tokens, plain.tokens, strict=False)) if a != b)
        return failed(name, f"token {first} differs with a CUDA graph from the one without", advice, figures)
    if not max(errors) <= MAX_ERROR:
        return failed(name, f"linear states differ by {max(errors):.1e} with a CUDA graph", advice, figures)
    return ok(name, figures)
