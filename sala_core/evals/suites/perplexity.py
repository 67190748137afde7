"""Loss by position: nats per token of a text, in bins of positions that double."""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from random import Random
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from sala_core.engine.engine import Engine
from sala_core.engine.memory_budget import check_budget
from sala_core.evals.haystack import DOCUMENT
from sala_core.evals.records import EvalProgress, require
from sala_core.evals.summary import Row
from sala_core.evals.texts import TextSource
from sala_core.text.prompt import SYSTEM_PROMPT, document_header

_FIRST_BIN = 256
_LOGIT_BYTES = 256 << 20  # of the float32 logits computed at once
_NUM_RUNS = 64  # each bin is averaged in runs of tokens; the confidence interval is bootstrapped from them
_MIN_RUN_TOKENS = 16
_RESAMPLES = 2000


def bins(num_tokens: int) -> list[tuple[int, int]]:
    """(start, end) of the bins: [0, 256), [256, 512), [512, 1024) ... up to `num_tokens`."""
    end, found, start = _FIRST_BIN, [], 0
    while start < num_tokens:
        found.append((start, min(end, num_tokens)))
        start, end = end, 2 * end
    return found


def measure_losses(
    engine: Engine, texts: TextSource, rng: Random, length: int, should_stop: Callable[[], bool]
) -> Iterator[EvalProgress | dict[str, Any]]:
    """Measure the loss of one document. Yields progress, then the bins of a record if it was not stopped.

    Only tokens of the document count, not those of the template. Logits are computed a few hundred tokens at a time.

    Args:
        engine: the model.
        texts: gives the document.
        rng: chooses where in the texts the document begins.
        length: tokens of the stream, system message and header included.
        should_stop: polled between pieces; once true, the iterator ends.

    Raises:
        EvalError: `length` leaves no room for text.
        MemoryBudgetError.
    """
    head = _head(engine)
    room = length - len(head)
    require(room > 0, f"{length:,} tokens leave no room for text; give a larger --lengths")
    body = engine.tokenizer.encode_content(texts.text(rng, 8 * length))[:room]
    check_budget(engine, length)
    started, losses = time.monotonic(), np.empty(len(body), dtype=np.float32)
    state = engine.new_state()
    state.reserve(length)
    last = _last_logits(engine.forward(state, head))
    step = max(1, min(engine.chunk_tokens, _LOGIT_BYTES // (4 * engine.config.vocab_size)))
    for start in range(0, len(body), step):
        if should_stop():
            return
        piece = torch.as_tensor(body[start : start + step], dtype=torch.int64)
        logits = engine.forward(state, piece)
        losses[start : start + len(piece)] = _losses(torch.cat([last, logits[:-1]]), piece)
        last = _last_logits(logits)
        yield EvalProgress(task="ppl", tokens_done=start + len(piece), tokens_total=len(body))
    yield {"bins": [_bin(losses, a, b) for a, b in bins(len(body))], "seconds": time.monotonic() - started}


def _head(engine: Engine) -> np.ndarray:
    """Token ids before the document's text: system message, beginning of the user message, header."""
    chat, tokenizer = engine.chat, engine.tokenizer
    return np.concatenate(
        [
            chat.message("system", tokenizer.encode_content(SYSTEM_PROMPT)),
            chat.message_prefix("user"),
            tokenizer.encode_content(document_header(DOCUMENT)),
        ]
    )


def _last_logits(logits: Tensor) -> Tensor:
    return logits[-1:].clone()


def _losses(logits: Tensor, targets: Tensor) -> np.ndarray:
    """logits [T, vocab], targets [T] -> nats [T]."""
    return cross_entropy(logits.float(), targets.to(logits.device), reduction="none").cpu().numpy()


def _bin(losses: np.ndarray, start: int, end: int) -> dict[str, Any]:
    """The record of one bin: its mean, and the means of runs of its tokens."""
    own = losses[start:end].astype(np.float64)
    runs = np.array_split(own, max(1, min(_NUM_RUNS, len(own) // _MIN_RUN_TOKENS)))
    return {
        "start": start,
        "end": end,
        "nats": round(float(own.mean()), 5),
        "runs": [round(float(run.mean()), 4) for run in runs],
    }


def summarize_losses(records: Sequence[Mapping[str, Any]]) -> list[Row]:
    """A row for every bin and length, named "tokens START-END".

    n counts tokens. The confidence interval is bootstrapped over the runs of tokens.
    """
    groups: dict[tuple[int, int, int], list[Mapping[str, Any]]] = {}
    for record in records:
        for one in record["bins"]:
            groups.setdefault((record["length"], one["start"], one["end"]), []).append(one)
    rows = []
    for (length, start, end), group in sorted(groups.items()):
        runs = np.array([run for one in group for run in one["runs"]])
        means = np.random.default_rng(0).choice(runs, (_RESAMPLES, len(runs))).mean(1)
        low, high = (float(x) for x in np.quantile(means, (0.025, 0.975)))
        mean = math.fsum(one["nats"] for one in group) / len(group)
        rows.append(
            Row(
                suite="ppl",
                task=f"tokens {start}-{end - 1}",
                length=length,
                metric="nats",
                n=(end - start) * len(group),
                mean=mean,
                low=low,
                high=high,
            )
        )
    return rows
