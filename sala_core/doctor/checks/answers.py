"""What the model computes: the perplexity of a text, thirty greedy tokens, and RULER's first needle."""

import math
from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from sala_core.doctor.checks.decoding import TEXT, decode
from sala_core.doctor.checks.models import examined_model, num_parameters, reason_not_to_run
from sala_core.doctor.private import is_published
from sala_core.doctor.records import Examination, Figure, Outcome, failed, not_possible, ok
from sala_core.engine.engine import Engine
from sala_core.errors import TokenizerError
from sala_core.evals.local import LocalModel
from sala_core.evals.records import Reply
from sala_core.evals.run import EvalPlan, make_reading
from sala_core.model.checkpoint import EMBEDDED, load_config_json, resolve_model
from sala_core.model.config import SalaConfig
from sala_core.stopping import never
from sala_core.text.lengths import length_name
from sala_core.text.tokenizer import Tokenizer

_NEW_TOKENS = 30
_QUESTION = "Which city is the capital of France, and which river runs through it?"
_NEEDLE_TOKENS = {"card": 1 << 15, "quick card": 1 << 13, "CPU": 4096, "quick CPU": 2048}
_LARGE_CPU_TOKENS = 1024  # where a model of billions of parameters runs on a CPU
_LARGE = 1_000_000_000
_TEXT_TOKENS = 2048
_LOGITS_AT_ONCE = 256
_MAX_ANSWER_TOKENS = 128
_WEIGHTS = (
    "read the model's files whole (python3 launch.py --model NAME verify); if they are right, attach this report to a "
    "bug report"
)


def answers(examination: Examination) -> Iterator[Outcome]:
    """The checks "perplexity", "greedy tokens" and "needle", with one loaded model. Raises ModelError."""
    names = ("perplexity", "greedy tokens", "needle")
    model, note = examined_model(examination), ""
    reason = reason_not_to_run(_config(model), examination, resolve_model(model))
    if reason and examination.model == EMBEDDED:  # the downloaded model was not asked for
        model, note, reason = EMBEDDED, f"with the embedded model; {model} {reason}", ""
    if reason:
        yield from (not_possible(name, reason) for name in names)
        return
    kv = examination.kv
    engine = Engine.load(model, device=examination.device, kv=kv)  # type: ignore[arg-type]  # checked by the grammar
    answering = Answers(engine, quick=examination.quick)
    for check in (answering.perplexity, answering.greedy_tokens, answering.needle):
        outcome = check()
        yield replace(outcome, reason=outcome.reason or note)


def _config(model: str) -> SalaConfig:
    return SalaConfig.from_dict(load_config_json(resolve_model(model)))


class Answers:
    """The checks of a loaded model."""

    def __init__(self, engine: Engine, *, quick: bool) -> None:
        """engine: the model. quick: shorter texts."""
        self._engine, self._quick = engine, quick
        self._model = engine.name if is_published(engine.name) else "<model>"

    def perplexity(self) -> Outcome:
        """The mean loss of a text of the program, with and without the token that some streams begin with."""
        engine = self._engine
        ids = engine.tokenizer.encode_content(TEXT.read_text(encoding="utf-8"))[: self._text_tokens].tolist()
        start, chance = self._stream_start(), math.log(engine.config.vocab_size)
        nats = {"without <s>": self._nats(ids, 0)}
        if start:
            nats["with <s>"] = self._nats([*start, *ids], len(start))
        figures: dict[str, Figure] = {"model": self._model, "text": f"{TEXT.name}, {len(ids):,} tokens"}
        for name, value in nats.items():
            figures[f"nats per token {name}"] = round(value, 4)
            figures[f"perplexity {name}"] = round(math.exp(min(value, 50.0)), 2)
        figures |= {
            "<s> of the tokenizer": ", ".join(map(str, start)) or "none",
            "streams begin with <s>": len(engine.tokenizer.stream_start) > 0,
            "nats per token of guessing": round(chance, 2),
            "numbers": self._numbers,
        }
        if not all(map(math.isfinite, nats.values())):
            return failed("perplexity", "logits are not finite", _WEIGHTS, figures)
        best = min(nats.values())
        if best >= chance:
            reason = f"the model predicts the text no better than guessing ({best:.2f} of {chance:.2f} nats per token)"
            return failed("perplexity", reason, _WEIGHTS, figures)
        return ok("perplexity", figures)

    def _stream_start(self) -> list[int]:
        """The ids of <s>, whether streams begin with it or not; [] for a tokenizer without it."""
        try:
            return Tokenizer.from_folder(resolve_model(self._engine.name), bos=True).stream_start.tolist()
        except TokenizerError:
            return []

    def greedy_tokens(self) -> Outcome:
        """Thirty greedy tokens, twice from a new state."""
        name, first, second = "greedy tokens", self._greedy(), self._greedy()
        text = self._engine.tokenizer.decode([token for token in first if token >= 0])
        figures: dict[str, Figure] = {
            "model": self._model,
            "question": _QUESTION,
            "tokens": ", ".join(map(str, first)),
            "the same twice": first == second,
            "finite logits": -1 not in first,
        }
        if -1 in (*first, *second):
            return failed(name, "logits are not finite", _WEIGHTS, figures, text)
        if first != second:
            at = next(i for i, (a, b) in enumerate(zip(first, second, strict=True)) if a != b)
            advice = "attach this report to a bug report; until then do not rely on answers of this device"
            return failed(name, f"token {at} differs between two runs", advice, figures, text)
        return ok(name, figures, text=text)

    def needle(self) -> Outcome:
        """The first sample of RULER's first task (arXiv:2404.06654): a number planted in repeated sentences."""
        length = self._needle_tokens
        model = LocalModel(self._engine, max_tokens=_MAX_ANSWER_TOKENS, think=False)
        plan = EvalPlan(suite="ruler", tasks=("niah_single_1",), lengths=(length,), samples=1, shared=1)
        task = plan.chosen[0]
        reading = make_reading(plan, task, length, 0, model)
        reply = next(event for event in model.answers(reading, reading.questions, never) if isinstance(event, Reply))
        question = reading.questions[0]
        figures: dict[str, Figure] = {
            "model": self._model,
            "tokens": f"{length_name(length)}: {reply.prompt_tokens:,}",
            "question": question.text,
            "right answer": ", ".join(question.gold),
            "depth": question.depth,
            "seconds of reading": round(reply.read_s, 1),
            "seconds of answering": round(reply.seconds, 1),
        }
        if reply.evidence:
            figures["place of the needle in the evidence"] = reply.evidence.rank
        if task.score(question, reply.text)["score"] >= 1:
            return ok("needle", figures, text=reply.text)
        advice = "a trained model of this family finds it: " + _WEIGHTS
        return failed("needle", "the answer does not have the planted number", advice, figures, reply.text)

    @property
    def _numbers(self) -> str:
        model = self._engine.model
        return f"{str(model.dtype).removeprefix('torch.')}, keys and values {model.kv}, on {model.device.type}"

    @cached_property
    def _is_large_on_cpu(self) -> bool:
        return self._engine.model.device.type == "cpu" and num_parameters(self._engine.config) > _LARGE

    @property
    def _text_tokens(self) -> int:
        return _LARGE_CPU_TOKENS // 4 if self._is_large_on_cpu else _TEXT_TOKENS // (2 if self._quick else 1)

    @property
    def _needle_tokens(self) -> int:
        if self._is_large_on_cpu:
            return _LARGE_CPU_TOKENS
        place = "card" if self._engine.model.device.type == "cuda" else "CPU"
        return _NEEDLE_TOKENS[f"quick {place}" if self._quick else place]

    def _nats(self, ids: list[int], num_start: int) -> float:
        """Mean loss of all tokens but the first of the text, which only a start predicts. num_start: ids before it."""
        engine, state, losses = self._engine, self._engine.new_state(), [torch.zeros(0)]
        for start in range(0, len(ids) - 1, _LOGITS_AT_ONCE):
            targets = torch.tensor(ids[start + 1 : start + 1 + _LOGITS_AT_ONCE])
            logits = engine.forward(state, ids[start : start + len(targets)])
            losses.append(cross_entropy(logits.float(), targets.to(logits.device), reduction="none").cpu())
        return float(torch.cat(losses)[num_start:].mean())

    def _greedy(self) -> list[int]:
        """Greedy tokens after the question, through end tokens too; -1 where logits are not finite."""
        tokenizer, chat = self._engine.tokenizer, self._engine.chat
        message = chat.message("user", tokenizer.encode_content(_QUESTION))
        prompt = np.concatenate([tokenizer.stream_start, message, chat.generation_prompt()])
        return decode(self._engine, prompt.tolist(), _NEW_TOKENS)
