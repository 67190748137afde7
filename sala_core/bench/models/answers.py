"""The paper's experiment: read a text of random tokens, then decode, with ours and with the full-attention model."""

import gc
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import psutil
import torch
from torch import Tensor

from sala_core.bench.models.flash import Attention
from sala_core.bench.models.full_attention import FullAttentionDecoder, FullAttentionModel, FullCache
from sala_core.bench.models.work import Work, full_decoding, full_reading, matrix_work, sala_decoding, sala_reading
from sala_core.bench.random_weights import Weights, full_weights, sala_weights, weight_bytes
from sala_core.bench.records import ModelRow
from sala_core.bench.sizes import FullConfig, Size, full_config, sala_config
from sala_core.bench.timing import MAX_SHORT_S, Timing, synchronize
from sala_core.engine.engine import Engine
from sala_core.engine.memory_plan import ModelSize, device_settings
from sala_core.engine.sampling import SamplingParams
from sala_core.model.checkpoint import EMBEDDED, load_weights, resolve_model
from sala_core.model.forward import SalaModel
from sala_core.model.state import KvKind
from sala_core.text.lengths import length_name

Model = Literal["sala", "full"]

RUNS = 3
_WARM_TOKENS = 16_384
_WARM_NEW_TOKENS = 24
_SPARE_TOKENS = 64  # an answer that comes near the room's end has it grown, which copies it
_TOLD_EVERY_S = 10.0


@dataclass(frozen=True, kw_only=True)
class AnswerJob:
    """What one process measures. weights: "int4", "bf16" or "fp32". kv: how ours holds keys and values.

    runs: None for RUNS, or one where the first took over MAX_SHORT_S.
    """

    model: Model
    size: Size
    length: int
    weights: str
    kv: KvKind | Literal["auto"]
    device: str
    new_tokens: int
    runs: int | None = None
    warm: bool = True

    @property
    def dtype(self) -> torch.dtype:
        """Of activations."""
        return torch.float32 if self.weights == "fp32" else torch.bfloat16

    @property
    def row(self) -> ModelRow:
        """The row before anything was measured."""
        return ModelRow(
            what="answer",
            model=self.model,
            size=self.size,
            length=self.length,
            weights=self.weights,
            kv=self.kv_name("plain" if self.model == "full" else self.kv),
        )

    def kv_name(self, kind: str) -> str:
        """As rows have it: a dtype for "plain"."""
        return kind if kind != "plain" else "fp32" if self.weights == "fp32" else "bf16"


@dataclass(frozen=True, kw_only=True)
class _AnswerRun:
    """Seconds from the question to the first token and to the last, and the processor's until the first."""

    first_s: float
    last_s: float
    processor_s: float
    """Until the first, of this process's threads together: what other programs beside it do not lengthen."""


def measure_answer(job: AnswerJob) -> ModelRow:
    """Measure in this process. Raises torch.OutOfMemoryError or MemoryBudgetError where the memory is too small."""
    return measure_sala(job) if job.model == "sala" else measure_full(job)


def random_ids(num_tokens: int, vocab_size: int, seed: int = 1) -> Tensor:
    """Token ids [n] int64 on the CPU."""
    return torch.randint(vocab_size, (num_tokens,), generator=torch.Generator().manual_seed(seed))


def open_engine(job: AnswerJob) -> tuple[Engine, Weights]:
    """Ours: random weights made on the device, or the embedded model's own as they are stored."""
    device = torch.device(job.device)
    config = sala_config(job.size)
    weights: Weights
    if job.size == "embedded" and job.weights != "int4":
        weights = load_weights(resolve_model(EMBEDDED), config, dtype=job.dtype, device=device)
    else:
        weights = sala_weights(config, job.dtype, device, packed=job.weights == "int4")
    kv = device_settings(ModelSize.of(config, weights, job.dtype), device, job.kv).kv
    return Engine(SalaModel(config, weights, kv=kv), name=f"bench {job.size}"), weights


def measure_sala(job: AnswerJob) -> ModelRow:
    """Ours, through the engine's own door: what a user's question takes."""
    engine, weights = open_engine(job)
    ids = random_ids(job.length, engine.config.vocab_size)
    tell = _Teller(job)
    if job.warm:
        _answer(engine, ids[:_WARM_TOKENS], _WARM_NEW_TOKENS, tell)
    memory = Memory(engine.model.device)
    state_bytes: list[int] = []

    def run() -> _AnswerRun:
        run, held = _answer(engine, ids, job.new_tokens, tell)
        memory.note()
        state_bytes.append(held)
        return run

    row = _row(job, list(_runs(run, job, engine.model.device)))
    config, tied = engine.config, engine.config.tie_word_embeddings
    matrices = matrix_work(weights, tied=tied)
    kv_row_bytes = config.head_dim * job.dtype.itemsize if engine.model.kv == "plain" else config.head_dim + 4.0
    return _with_work(
        replace(
            row,
            peak_memory_bytes=memory.peak,
            reserved_memory_bytes=memory.reserved,
            state_bytes=state_bytes[-1],
            weight_bytes=weight_bytes(weights),
            kv=job.kv_name(engine.model.kv),
            note=f"chunks of {engine.chunk_tokens:,} tokens",
        ),
        sala_reading(config, matrices, job.length, state_bytes[-1]),
        sala_decoding(config, matrices, job.length + job.new_tokens // 2, kv_row_bytes, job.dtype.itemsize),
    )


def measure_full(job: AnswerJob) -> ModelRow:
    """Full attention. The decoding graph is captured, and all buffers are reserved, before the clock starts."""
    device, config = torch.device(job.device), full_config(job.size)
    weights = full_weights(config, job.dtype, device, packed=job.weights == "int4")
    attention = Attention(
        device, job.dtype, heads=config.num_attention_heads, kv_heads=config.num_key_value_heads, d=config.head_dim
    )
    model = FullAttentionModel(config, weights, attention)
    ids = random_ids(job.length, config.vocab_size).to(device)
    tell = _Teller(job)
    if job.warm:
        tell("warming up")
        warm = ids[: min(_WARM_TOKENS, job.length // 2)]
        _answer_full(model, warm, *_room(config, len(warm), _WARM_NEW_TOKENS, job, model))
    cache, decoder = _room(config, job.length, job.new_tokens, job, model)
    if job.warm and device.type == "cuda":  # cuDNN plans anew for every length
        q = cache.keys.new_zeros(job.length, config.num_attention_heads, config.head_dim)
        attention.read(q, cache.keys[0, : job.length].zero_(), cache.values[0, : job.length].zero_())
        del q
        release(device)
    memory = Memory(device)

    def run() -> _AnswerRun:
        tell("reading")
        run = _answer_full(model, ids, cache, decoder)
        memory.note()
        return run

    row = _row(job, list(_runs(run, job, device)))
    matrices = matrix_work(weights, tied=config.tie_word_embeddings)
    return _with_work(
        replace(
            row,
            peak_memory_bytes=memory.peak,
            reserved_memory_bytes=memory.reserved,
            state_bytes=cache.num_bytes,
            weight_bytes=weight_bytes(weights),
            note=attention.name,
        ),
        full_reading(config, matrices, job.length, cache.num_bytes),
        full_decoding(config, matrices, job.length + job.new_tokens // 2, job.dtype.itemsize),
    )


class Memory:
    """Peak memory of this process: on a card the tensors' and the allocator's, on a CPU resident pages."""

    def __init__(self, device: torch.device) -> None:
        """Peaks count from here; what is held already counts too."""
        self._device = device
        self.peak = 0
        self.reserved: int | None = None
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)

    def note(self) -> None:
        """After the first run: runs after it may hold what is left of the one before."""
        if self.peak:
            return
        if self._device.type == "cuda":
            self.peak = torch.cuda.max_memory_allocated(self._device)
            self.reserved = torch.cuda.max_memory_reserved(self._device)
        else:
            self.peak = _peak_resident_bytes()


def _peak_resident_bytes() -> int:
    """Of this process alone: what getrusage tells may be the parent's, from before this program was loaded."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        return int(psutil.Process(os.getpid()).memory_info().rss)


def _answer(engine: Engine, ids: Tensor, new_tokens: int, tell: "_Teller") -> tuple[_AnswerRun, int]:
    """The run and the bytes of the state at its end."""
    from sala_core.engine.engine import PromptProgress, Token

    device = engine.model.device
    state = engine.new_state()
    synchronize(device)
    started, processor = time.perf_counter(), time.process_time()
    state.reserve(len(ids) + new_tokens + _SPARE_TOKENS)
    first = 0.0
    for event in engine.generate(state, ids, SamplingParams(temperature=0, max_tokens=new_tokens)):
        if isinstance(event, Token) and not first:
            first, processor = time.perf_counter() - started, time.process_time() - processor
        elif isinstance(event, PromptProgress):
            tell(f"{event.tokens_done:,} tokens read", seldom=True)
    synchronize(device)
    assert state.position == len(ids) + new_tokens
    run = _AnswerRun(first_s=first, last_s=time.perf_counter() - started, processor_s=processor)
    return run, state.num_bytes


def _room(
    config: FullConfig, num_tokens: int, new_tokens: int, job: AnswerJob, model: FullAttentionModel
) -> tuple[FullCache, FullAttentionDecoder]:
    cache = FullCache(config, num_tokens + new_tokens, job.dtype, torch.device(job.device))
    return cache, FullAttentionDecoder(model, cache, new_tokens)


def _answer_full(model: FullAttentionModel, ids: Tensor, cache: FullCache, decoder: FullAttentionDecoder) -> _AnswerRun:
    cache.length = 0
    synchronize(ids.device)
    started, processor = time.perf_counter(), time.process_time()
    token = model.read(ids, cache)
    int(token)
    first, processor = time.perf_counter() - started, time.process_time() - processor
    decoder.run(token, decoder.max_new_tokens - 1)
    return _AnswerRun(first_s=first, last_s=time.perf_counter() - started, processor_s=processor)


def _runs(run: Callable[[], _AnswerRun], job: AnswerJob, device: torch.device) -> Iterator[_AnswerRun]:
    """As many as were asked for, or RUNS; by default none after the time for short figures is over."""
    started = time.perf_counter()
    for _ in range(job.runs or RUNS):
        yield run()
        if job.runs is None and time.perf_counter() - started > MAX_SHORT_S:
            return
        release(device)


def _row(job: AnswerJob, runs: list[_AnswerRun]) -> ModelRow:
    first = Timing.of([run.first_s for run in runs])
    last = Timing.of([run.last_s for run in runs])
    row = replace(
        job.row,
        runs=first.runs,
        ttft_s=first.median_s,
        ttft_spread_s=first.spread_s,
        end_to_end_s=last.median_s,
        end_to_end_spread_s=last.spread_s,
        ttft_processor_s=Timing.of([run.processor_s for run in runs]).median_s,
        new_tokens=job.new_tokens,
    )
    if job.new_tokens < 2:
        return row
    token = Timing.of([(run.last_s - run.first_s) / (job.new_tokens - 1) for run in runs])
    return replace(row, ms_per_token=1e3 * token.median_s, ms_per_token_spread=1e3 * token.spread_s)


def _with_work(row: ModelRow, reading: Work, decoding: Work) -> ModelRow:
    return replace(
        row,
        reading_bytes=reading.num_bytes,
        reading_flops=reading.num_flops,
        decoding_bytes=decoding.num_bytes,
        decoding_flops=decoding.num_flops,
    )


def release(device: torch.device) -> None:
    """Give back what nothing holds any more."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


class _Teller:
    """Progress on stderr."""

    def __init__(self, job: AnswerJob) -> None:
        self._name = f"{job.model} {length_name(job.length)}"
        self._started = self._last = time.monotonic()

    def __call__(self, text: str, *, seldom: bool = False) -> None:
        """seldom: only if nothing was told for a while."""
        now = time.monotonic()
        if seldom and now - self._last < _TOLD_EVERY_S:
            return
        self._last = now
        print(f"  {self._name}: {text}, {now - self._started:.0f} s", file=sys.stderr, flush=True)
