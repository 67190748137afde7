"""A model whose next token is decided by a test. The rest, from prefill to the decoder's passes, is the real one."""

from collections.abc import Callable, Iterable, Sequence
from itertools import islice

import torch

from sala_core import Engine
from sala_core.engine.decode import Decoder
from sala_core.engine.one_token import OneTokenPass

Choose = Callable[[list[int]], int]
"""(ids of the answer so far) -> the next id."""

QWEN = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}"
    "{% if enable_thinking is defined and enable_thinking is false %}{{ '<think>\\n\\n</think>\\n\\n' }}{% endif %}"
    "{% endif %}"
)
"""A chat template that knows `enable_thinking`, as those of Qwen 3 and MiniCPM 4 do."""


def replace_logits(monkeypatch, engine: Engine, logits: Callable[[torch.Tensor], torch.Tensor]) -> None:
    """Let `logits` give those of the model, in every pass: the one over a single token would compute its own."""
    monkeypatch.setattr(engine.model, "logits", logits)
    monkeypatch.setattr(OneTokenPass, "supports", staticmethod(lambda model: False))


def script_model(monkeypatch, engine: Engine, choose: Choose) -> None:
    """Let `choose` decide each token of every answer, for each row of a pass, drafts and forced tokens included."""
    answer: dict[int, int] = {}  # position -> id, of this answer
    place = {"first": 0, "rows": 0}
    step, size = Decoder.step, engine.config.vocab_size

    def recorded_step(decoder, state, tokens, sampler):
        if not answer:
            place["first"] = state.position
        for row, token in enumerate(tokens):
            answer[state.position + row] = int(token)
        place["begin"] = state.position
        place["rows"] = len(tokens)
        try:
            return step(decoder, state, tokens, sampler)
        finally:
            place["rows"] = 0

    def logits(hidden):
        if not place["rows"]:  # after a prompt
            answer.clear()
        chosen = []
        for row in range(len(hidden)):
            ends = place["begin"] + row + 1 if place["rows"] else 0
            chosen.append(choose([answer[at] for at in range(place["first"], ends)] if ends else []))
        return torch.full((len(hidden), size), -100.0).scatter_(1, torch.tensor(chosen)[:, None], 100.0)

    monkeypatch.setattr(Decoder, "step", recorded_step)
    replace_logits(monkeypatch, engine, logits)


def in_turn(engine: Engine, thinking: Iterable[int], answer: Sequence[int]) -> Choose:
    """Think `thinking`, which may be endless; after the block is closed write `answer`, then an end token."""
    closing, end = engine.tokenizer.decode(engine.chat.thinking_end), min(engine.tokenizer.eos_token_ids)
    endless = iter(thinking)
    known: list[int] = []

    def choose(before: list[int]) -> int:
        if closing in engine.tokenizer.decode(before):
            after = next(n for n in range(len(before) + 1) if closing in engine.tokenizer.decode(before[:n]))
            rest = before[after:]
            return answer[len(rest)] if len(rest) < len(answer) else end
        known.extend(islice(endless, max(0, len(before) + 1 - len(known))))
        return known[len(before)] if len(before) < len(known) else end

    return choose
