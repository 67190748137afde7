"""The cost of saving: prefill of the same text with its state written to a library on disk, and without."""

import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from torch import Tensor

from sala_core.bench.models.answer_job import AnswerJob, open_engine, random_ids, release
from sala_core.bench.records import ModelRow
from sala_core.bench.timing import Timing, synchronize
from sala_core.engine.engine import Engine
from sala_core.stopping import never

_PAIRS = 3
_WARM_TOKENS = 8192


class _NamedEngine(Engine):
    """An engine with random weights whose states can be saved. Nothing loads them again."""

    @cached_property
    def own_fingerprint(self) -> str:
        """A constant: there are no weights on disk to hash."""
        return "0" * 32


def measure_saving(job: AnswerJob) -> Iterator[ModelRow]:
    """Two rows, "reading" and "saving". Their runs alternate, so that drift of the machine affects both."""
    plain, _ = open_engine(job)
    engine = _NamedEngine(plain.model, name=plain.name)
    ids = random_ids(job.length, engine.config.vocab_size)
    device = engine.model.device
    if job.warm:
        _read(engine, ids[:_WARM_TOKENS])
    reading_s: list[float] = []
    saving_s: list[float] = []
    num_bytes = 0
    for _ in range(job.runs or _PAIRS):
        reading_s.append(_read(engine, ids))
        release(device)
        seconds, num_bytes = _read_and_save(engine, ids)
        saving_s.append(seconds)
        release(device)
    row = replace(job.row, what="reading", kv=job.kv_name(engine.model.kv))
    yield _timed(row, reading_s)
    slower = 100 * (Timing.of(saving_s).median_s / Timing.of(reading_s).median_s - 1)
    note = f"{slower:+.1f}% against reading alone; {num_bytes / 1e6:,.0f} MB on disk, in {tempfile.gettempdir()}"
    yield replace(_timed(row, saving_s), what="saving", note=note)


def _timed(row: ModelRow, seconds: list[float]) -> ModelRow:
    timing = Timing.of(seconds)
    return replace(row, runs=timing.runs, end_to_end_s=timing.median_s, end_to_end_spread_s=timing.spread_s)


def _read(engine: Engine, ids: Tensor) -> float:
    synchronize(engine.model.device)
    started = time.perf_counter()
    state = engine.new_state()
    state.reserve(len(ids))
    for _ in engine.read(state, ids):
        pass
    synchronize(engine.model.device)
    return time.perf_counter() - started


def _read_and_save(engine: Engine, ids: Tensor) -> tuple[float, int]:
    """Seconds until the whole state is on disk, and its bytes there."""
    from sala_core.session.state import SessionState
    from sala_core.store import Library, PartDraft

    with tempfile.TemporaryDirectory() as folder, Library.open(Path(folder)) as library:
        session = library.create_session("bench", model=engine.name, fingerprint=engine.fingerprint)
        part = PartDraft(kind="system", token_ids=ids.numpy())
        library.reset_session(session.id, model=engine.name, fingerprint=engine.fingerprint, parts=[part])
        state = SessionState(library, engine, session.id)
        synchronize(engine.model.device)
        started = time.perf_counter()
        for _ in state.catch_up(never):
            pass
        synchronize(engine.model.device)
        seconds = time.perf_counter() - started
        assert library.session(session.id).position == len(ids)
        state.forget()
        return seconds, sum(file.stat().st_size for file in Path(folder, "states").rglob("*") if file.is_file())
