"""The paper's experiment: prefill of a random prompt, then decoding, with SALA and the full-attention baseline."""

import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sala_core.bench.models.answer_job import AnswerJob, open_engine, random_ids, release
from sala_core.bench.models.full_attention import FullAttentionDecoder, FullAttentionModel, FullCache
from sala_core.bench.models.peak_memory import PeakMemory
from sala_core.bench.models.roofline import (
    Work,
    full_decoding,
    full_prefill,
    matrix_work,
    sala_decoding,
    sala_prefill,
)
from sala_core.bench.models.torch_attention import TorchAttention
from sala_core.bench.random_weights import full_weights, weight_bytes
from sala_core.bench.records import ModelRow
from sala_core.bench.sizes import full_config
from sala_core.bench.timing import MAX_SHORT_S, Timing, synchronize
from sala_core.engine.engine import Engine
from sala_core.engine.generate import Token
from sala_core.engine.sampling import SamplingParams
from sala_core.events import PromptProgress
from sala_core.text.lengths import length_name

_RUNS = 3
_WARM_NEW_TOKENS = 24
_SPARE_TOKENS = 64  # reserved beyond the answer: near its end the state grows its buffers, which copies them
_PROGRESS_S = 10.0


@dataclass(frozen=True, kw_only=True)
class _AnswerRun:
    """Seconds from the question to the first token and to the last one.

    processor_s: CPU seconds until the first token, summed over the threads of this process. Other programs on the
    machine do not lengthen it.
    """

    first_s: float
    last_s: float
    processor_s: float


def measure_answer(job: AnswerJob) -> ModelRow:
    """Measure in this process. Raises torch.OutOfMemoryError or MemoryBudgetError if the memory is too small."""
    return measure_sala(job) if job.model == "sala" else measure_full(job)


def measure_sala(job: AnswerJob) -> ModelRow:
    """Measure SALA through `Engine.generate`, as a user's question runs."""
    engine, weights = open_engine(job)
    ids = random_ids(job.length, engine.config.vocab_size)
    progress = _Progress(job)
    if job.warm:
        _answer(engine, ids[: job.warm_tokens], _WARM_NEW_TOKENS, progress)
    memory = PeakMemory(engine.model.device)
    state_bytes: list[int] = []

    def run() -> _AnswerRun:
        run, num_bytes = _answer(engine, ids, job.new_tokens, progress)
        memory.note()
        state_bytes.append(num_bytes)
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
        sala_prefill(config, matrices, job.length, state_bytes[-1]),
        sala_decoding(config, matrices, job.length + job.new_tokens // 2, kv_row_bytes, job.dtype.itemsize),
    )


def measure_full(job: AnswerJob) -> ModelRow:
    """Measure full attention. The CUDA graph is captured and all buffers are reserved before the time starts."""
    device, config = torch.device(job.device), full_config(job.size)
    weights = full_weights(config, job.dtype, device, packed=job.weights == "int4")
    attention = TorchAttention(
        device, job.dtype, num_heads=config.num_attention_heads, kv_heads=config.num_key_value_heads, d=config.head_dim
    )
    model = FullAttentionModel(config, weights, attention)
    ids = random_ids(job.length, config.vocab_size).to(device)
    progress = _Progress(job)
    if job.warm:
        progress("warming up")
        short = ids[: min(job.warm_tokens, job.length // 2)]
        _answer_full(model, short, *_reserve(model, job, len(short), _WARM_NEW_TOKENS))
    cache, decoder = _reserve(model, job, job.length, job.new_tokens)
    if job.warm and device.type == "cuda":
        _plan_attention(attention, cache, config.num_attention_heads, job.length)
        release(device)
    memory = PeakMemory(device)

    def run() -> _AnswerRun:
        progress("reading")
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
        full_prefill(config, matrices, job.length, cache.num_bytes),
        full_decoding(config, matrices, job.length + job.new_tokens // 2, job.dtype.itemsize),
    )


def _answer(engine: Engine, ids: Tensor, new_tokens: int, progress: "_Progress") -> tuple[_AnswerRun, int]:
    """The run, and the bytes of the state at its end."""
    device = engine.model.device
    state = engine.new_state()
    synchronize(device)
    started, processor = time.perf_counter(), time.process_time()
    state.reserve(len(ids) + new_tokens + _SPARE_TOKENS)
    first = 0.0
    sampling = SamplingParams(temperature=0, stop_repetition=False, max_tokens=new_tokens)
    for event in engine.generate(state, ids, sampling):
        if isinstance(event, Token) and not first:
            first, processor = time.perf_counter() - started, time.process_time() - processor
        elif isinstance(event, PromptProgress):
            progress(f"{event.tokens_done:,} tokens read", throttled=True)
    synchronize(device)
    assert state.position == len(ids) + new_tokens
    run = _AnswerRun(first_s=first, last_s=time.perf_counter() - started, processor_s=processor)
    return run, state.num_bytes


def _reserve(
    model: FullAttentionModel, job: AnswerJob, num_tokens: int, new_tokens: int
) -> tuple[FullCache, FullAttentionDecoder]:
    """A cache for prompt and answer, and the decoder over it."""
    cache = FullCache(model.config, num_tokens + new_tokens, job.dtype, torch.device(job.device))
    return cache, FullAttentionDecoder(model, cache, new_tokens)


def _plan_attention(attention: TorchAttention, cache: FullCache, num_heads: int, length: int) -> None:
    """Run attention once at the full length, since cuDNN makes a new plan for every length."""
    q = cache.keys.new_zeros(length, num_heads, cache.keys.shape[-1])
    attention.prefill(q, cache.keys[0, :length].zero_(), cache.values[0, :length].zero_())


def _answer_full(model: FullAttentionModel, ids: Tensor, cache: FullCache, decoder: FullAttentionDecoder) -> _AnswerRun:
    cache.length = 0
    synchronize(ids.device)
    started, processor = time.perf_counter(), time.process_time()
    token = model.prefill(ids, cache)
    int(token)
    first, processor = time.perf_counter() - started, time.process_time() - processor
    decoder.run(token, decoder.max_new_tokens - 1)
    return _AnswerRun(first_s=first, last_s=time.perf_counter() - started, processor_s=processor)


def _runs(run: Callable[[], _AnswerRun], job: AnswerJob, device: torch.device) -> Iterator[_AnswerRun]:
    """`job.runs` runs. By default `_RUNS`, fewer if they take longer than `MAX_SHORT_S`."""
    started = time.perf_counter()
    for _ in range(job.runs or _RUNS):
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


def _with_work(row: ModelRow, prefill: Work, decoding: Work) -> ModelRow:
    return replace(
        row,
        reading_bytes=prefill.num_bytes,
        reading_flops=prefill.num_flops,
        decoding_bytes=decoding.num_bytes,
        decoding_flops=decoding.num_flops,
    )


class _Progress:
    """Prints progress on stderr."""

    def __init__(self, job: AnswerJob) -> None:
        self._name = f"{job.model} {length_name(job.length)}"
        self._started = self._last = time.monotonic()

    def __call__(self, text: str, *, throttled: bool = False) -> None:
        """throttled: print only if the last line is some seconds old."""
        now = time.monotonic()
        if throttled and now - self._last < _PROGRESS_S:
            return
        self._last = now
        print(f"  {self._name}: {text}, {now - self._started:.0f} s", file=sys.stderr, flush=True)
