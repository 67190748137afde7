"""What prompt lookup gains at the 9B size, whose random weights quote nothing: drafts are forced.

Every pass is over 16 tokens, the drafts being what the model said without them. The time of such a pass tells the speed
at any number of tokens accepted.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from statistics import median

import numpy as np

from sala_core.bench.models.answers import AnswerJob, open_engine, random_ids, release
from sala_core.bench.records import ModelRow
from sala_core.bench.timing import synchronize
from sala_core.engine.engine import Engine, Finished, Token
from sala_core.engine.sampling import SamplingParams
from sala_core.engine.speculation import MAX_DRAFT_TOKENS, DraftIndex
from sala_core.model.state import SalaState

_ACCEPTED = (2, 4, 8, 16)


class _ForcedIndex(DraftIndex):
    """Drafts of full length, whatever is asked for: the tokens that are known to follow. Notes when it was asked."""

    def __init__(self, ids: Sequence[int] | np.ndarray, following: Sequence[int]) -> None:
        super().__init__(ids)
        self._start, self._following = len(self), list(following)
        self._asked: list[float] = []

    def pass_times(self) -> list[float]:
        """Seconds of each pass, from one draft to the next; the last one is left out."""
        return np.diff(self._asked).tolist()

    def propose(self, limit: int = MAX_DRAFT_TOKENS) -> list[int]:
        """MAX_DRAFT_TOKENS tokens; `limit` is not kept to."""
        self._asked.append(time.perf_counter())
        said = len(self) - self._start
        draft = self._following[said : said + MAX_DRAFT_TOKENS]
        return draft + [0] * (MAX_DRAFT_TOKENS - len(draft))


def measure_speculation(job: AnswerJob) -> Iterator[ModelRow]:
    """A row without drafts, and one with forced drafts, labelled so."""
    engine, _ = open_engine(job)
    ids = random_ids(job.length, engine.config.vocab_size).numpy()
    state = engine.new_state()
    state.reserve(len(ids) + job.new_tokens + 2 * MAX_DRAFT_TOKENS)
    for _ in engine.read(state, ids[:-1]):
        pass
    said, plain_s, _ = _answer(engine, state.clone(), ids, job.new_tokens, None)
    row = replace(job.row, what="speculation", kv=job.kv_name(engine.model.kv), new_tokens=len(said), runs=1)
    yield replace(row, ms_per_token=1e3 * plain_s, note="random weights, without drafts")
    release(engine.model.device)
    index = _ForcedIndex(ids, said)
    again, _, passes = _answer(engine, state.clone(), ids, job.new_tokens, index)
    times = index.pass_times()
    if not times:
        return
    speeds = ", ".join(f"{n}: {n / median(times):,.0f}" for n in _ACCEPTED)
    same = "the same answer" if again[: len(said)] == said else "another answer, as sums are rounded otherwise"
    note = (
        f"random weights, drafts forced: a pass over 16 tokens takes {1e3 * median(times):.2f} ms; tokens/s by tokens "
        f"accepted a pass, computed from it: {speeds}; {len(again) / passes:.1f} were accepted here, {same}"
    )
    ms_per_token = 1e3 * median(times) * passes / len(again)
    yield replace(row, new_tokens=len(again), ms_per_token=ms_per_token, note=note)


def _answer(
    engine: Engine, state: SalaState, ids: np.ndarray, new_tokens: int, lookup: DraftIndex | None
) -> tuple[list[int], float, int]:
    """Tokens said, the median of the seconds between them, and passes. The state holds all ids but the last."""
    said: list[int] = []
    times: list[float] = []
    passes = 0
    sampling = SamplingParams(temperature=0, max_tokens=new_tokens)
    for event in engine.generate(state, ids[-1:], sampling, lookup=lookup):
        if isinstance(event, Token) and event.id is not None:
            said.append(event.id)
            times.append(time.perf_counter())
        elif isinstance(event, Finished):
            passes = event.passes
    synchronize(engine.model.device)
    return said, median(np.diff(times).tolist()), passes
