"""The gain of prompt lookup at the 9B size. Its weights are random and quote nothing, so the drafts are forced.

Every forward pass verifies 16 tokens: the drafts are the answer of a first run without drafts. The time of such a pass
gives the speed for any number of accepted tokens.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from statistics import median

import numpy as np

from sala_core.bench.models.answer_job import AnswerJob, open_engine, random_ids, release
from sala_core.bench.records import ModelRow
from sala_core.bench.timing import synchronize
from sala_core.engine.engine import Engine, Finished, Token
from sala_core.engine.sampling import SamplingParams
from sala_core.engine.speculation import MAX_DRAFT_TOKENS, DraftIndex
from sala_core.model.state import SalaState

_ACCEPTED = (2, 4, 8, 16)


class _ForcedIndex(DraftIndex):
    """Always proposes drafts of full length, taken from a known answer. Records the time of each proposal."""

    def __init__(self, ids: Sequence[int] | np.ndarray, answer: Sequence[int]) -> None:
        super().__init__(ids)
        self._start, self._answer = len(self), list(answer)
        self._proposed_at: list[float] = []

    def pass_times(self) -> list[float]:
        """Seconds of each pass but the last, from one proposal to the next."""
        return np.diff(self._proposed_at).tolist()

    def propose(self, limit: int = MAX_DRAFT_TOKENS) -> list[int]:
        """`MAX_DRAFT_TOKENS` tokens. `limit` is ignored."""
        self._proposed_at.append(time.perf_counter())
        done = len(self) - self._start
        draft = self._answer[done : done + MAX_DRAFT_TOKENS]
        return draft + [0] * (MAX_DRAFT_TOKENS - len(draft))


def measure_forced_drafts(job: AnswerJob) -> Iterator[ModelRow]:
    """Two rows: without drafts, and with forced drafts."""
    engine, _ = open_engine(job)
    ids = random_ids(job.length, engine.config.vocab_size).numpy()
    state = engine.new_state()
    state.reserve(len(ids) + job.new_tokens + 2 * MAX_DRAFT_TOKENS)
    for _ in engine.read(state, ids[:-1]):
        pass
    plain_answer, plain_s, _ = _answer(engine, state.clone(), ids, job.new_tokens, None)
    row = replace(job.row, what="speculation", kv=job.kv_name(engine.model.kv), new_tokens=len(plain_answer), runs=1)
    yield replace(row, ms_per_token=1e3 * plain_s, note="random weights, without drafts")
    release(engine.model.device)
    index = _ForcedIndex(ids, plain_answer)
    answer, _, passes = _answer(engine, state.clone(), ids, job.new_tokens, index)
    times = index.pass_times()
    if not times:
        return
    speeds = ", ".join(f"{n}: {n / median(times):,.0f}" for n in _ACCEPTED)
    is_same = answer[: len(plain_answer)] == plain_answer
    same = "the same answer" if is_same else "another answer, as sums are rounded otherwise"
    note = (
        f"random weights, drafts forced: a pass over 16 tokens takes {1e3 * median(times):.2f} ms; tokens/s by tokens "
        f"accepted a pass, computed from it: {speeds}; {len(answer) / passes:.1f} were accepted here, {same}"
    )
    ms_per_token = 1e3 * median(times) * passes / len(answer)
    yield replace(row, new_tokens=len(answer), ms_per_token=ms_per_token, note=note)


def _answer(
    engine: Engine, state: SalaState, ids: np.ndarray, new_tokens: int, drafts: DraftIndex | None
) -> tuple[list[int], float, int]:
    """(answer tokens, median seconds between them, forward passes). The state holds all ids but the last."""
    answer: list[int] = []
    times: list[float] = []
    passes = 0
    sampling = SamplingParams(temperature=0, stop_repetition=False, max_tokens=new_tokens)
    for event in engine.generate(state, ids[-1:], sampling, drafts=drafts):
        if isinstance(event, Token) and event.id is not None:
            answer.append(event.id)
            times.append(time.perf_counter())
        elif isinstance(event, Finished):
            passes = event.passes
    synchronize(engine.model.device)
    return answer, median(np.diff(times).tolist()), passes
