"""How well each token of a text is foreseen, by its position: nats a token in bins that double."""

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
_LOGIT_BYTES = 256 << 20  # of one piece's logits, float32
_BLOCKS = 64  # a bin's tokens are averaged in so many runs, so that an interval can be drawn from them
_LEAST_BLOCK = 16
_RESAMPLES = 2000


def bins(num_tokens: int) -> list[tuple[int, int]]:
    """[0, 256), [256, 512), [512, 1024) ... up to num_tokens."""
    ends, found, start = _FIRST_BIN, [], 0
    while start < num_tokens:
        found.append((start, min(ends, num_tokens)))
        start, ends = ends, 2 * ends
    return found


def measure(
    engine: Engine, texts: TextSource, rng: Random, length: int, should_stop: Callable[[], bool]
) -> Iterator[EvalProgress | dict[str, Any]]:
    """Read one document so that the stream is `length` tokens long; yields its bins at the end, if it was not stopped.

    Only the document's own tokens count. Logits are computed a few hundred tokens at a time. Raises MemoryBudgetError,
    EvalError where the text is too short.
    """
    chat, tokenizer = engine.chat, engine.tokenizer
    head = np.concatenate(
        [
            chat.message("system", tokenizer.encode_content(SYSTEM_PROMPT)),
            chat.message_prefix("user"),
            tokenizer.encode_content(document_header(DOCUMENT)),
        ]
    )
    room = length - len(head)
    require(room > 0, f"{length:,} tokens leave no room for text; give a larger --lengths")
    body = tokenizer.encode_content(texts.text(rng, 8 * length))[:room]
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


def _last_logits(logits: Tensor) -> Tensor:
    return logits[-1:].clone()


def _losses(logits: Tensor, targets: Tensor) -> np.ndarray:
    """logits [T, vocab], targets [T] -> nats [T]."""
    return cross_entropy(logits.float(), targets.to(logits.device), reduction="none").cpu().numpy()


def _bin(losses: np.ndarray, start: int, end: int) -> dict[str, Any]:
    """A bin's mean, and the means of runs of its tokens."""
    own = losses[start:end].astype(np.float64)
    runs = np.array_split(own, max(1, min(_BLOCKS, len(own) // _LEAST_BLOCK)))
    return {
        "start": start,
        "end": end,
        "nats": round(float(own.mean()), 5),
        "runs": [round(float(run.mean()), 4) for run in runs],
    }


def summarise_losses(records: Sequence[Mapping[str, Any]]) -> list[Row]:
    """A row for every bin and length, task "tokens START-END"; n counts tokens; interval: runs of tokens resampled."""
    groups: dict[tuple[int, int, int], list[Mapping[str, Any]]] = {}
    for record in records:
        for one in record["bins"]:
            groups.setdefault((record["length"], one["start"], one["end"]), []).append(one)
    rows = []
    for (length, start, end), found in sorted(groups.items()):
        runs = np.array([run for one in found for run in one["runs"]])
        drawn = np.random.default_rng(0).choice(runs, (_RESAMPLES, len(runs))).mean(1)
        low, high = (float(x) for x in np.quantile(drawn, (0.025, 0.975)))
        mean = math.fsum(one["nats"] for one in found) / len(found)
        rows.append(
            Row(
                suite="ppl",
                task=f"tokens {start}-{end - 1}",
                length=length,
                metric="nats",
                n=(end - start) * len(found),
                mean=mean,
                low=low,
                high=high,
            )
        )
    return rows
