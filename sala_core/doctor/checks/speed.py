"""Speed and peak memory of one reading: on a card the 9B shape with random int4 weights, else the embedded model."""

import time
from collections.abc import Iterator
from dataclasses import dataclass

import psutil
import torch

from sala_core.bench.machine import Machine
from sala_core.bench.models.answer_job import AnswerJob, open_engine, random_ids, release
from sala_core.bench.models.peak_memory import PeakMemory
from sala_core.bench.timing import synchronize
from sala_core.doctor.checks.published import SOURCE, nearest
from sala_core.doctor.records import Examination, Figure, Outcome, failed, not_possible, ok
from sala_core.engine.device import resolve_device
from sala_core.engine.engine import Engine
from sala_core.engine.generate import Token
from sala_core.engine.memory_budget import plan_for
from sala_core.engine.memory_plan import MemoryPlan, free_device_bytes
from sala_core.engine.sampling import SamplingParams
from sala_core.events import PromptProgress

_CARD_TOKENS, _QUICK_CARD_TOKENS = 1 << 16, 1 << 14
_CPU_TOKENS, _QUICK_CPU_TOKENS = 8192, 2048
_WARM_TOKENS = 16_384
_MAX_READING_S = 100.0
_SPARE_TOKENS = 64
_UNCOUNTED_BYTES = 256 << 20  # of a CPU process: threads, the allocator, workspaces of the libraries
_CPU_FIGURES = (
    "16,100 tokens/s for the first 2,048 tokens in bfloat16 on two cores of an AMD EPYC with AVX-512, 8,700 in float32 "
    "without AVX-512 (assets/benchmarks/results.md)"
)


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One reading and a short answer: tokens read, their seconds, ms per decoded token; memory and what was planned.

    peak_bytes: on a card the peak of allocated memory; on a CPU by how much the process grew.
    reserved_bytes: on a card the peak of what torch took from the driver; None on a CPU.
    """

    num_tokens: int
    prefill_s: float
    ms_per_token: float
    peak_bytes: int
    reserved_bytes: int | None
    plan: MemoryPlan


def speed_and_memory(examination: Examination) -> Iterator[Outcome]:
    """The checks "speed" and "memory peak", of the same reading."""
    device = resolve_device(examination.device)
    on_card = device.type == "cuda"
    job = _job(device, quick=examination.quick)
    if on_card and (missing := _missing_bytes(job)) > 0:
        reason = f"the 9B shape in int4 needs {missing / 2**30:.1f} GiB more than the card has free"
        yield from (not_possible(name, reason) for name in ("speed", "memory peak"))
        return
    engine, _ = open_engine(job)
    if on_card:
        _read(engine, _WARM_TOKENS, 24)  # compiles the kernels and captures the graphs
        release(device)
    measured = measure(engine, job.length, job.new_tokens)
    again = measured if on_card else measure(engine, job.length, job.new_tokens)  # a CPU's first reading warms up
    yield _speed(again, engine, on_card=on_card)
    yield memory_outcome(measured, on_card=on_card)


def measure(engine: Engine, num_tokens: int, new_tokens: int) -> Measured:
    """Read random tokens into a new state and decode. Reading stops after some 100 s; the figures then are of less."""
    device = engine.model.device
    resident = psutil.Process().memory_info().rss
    memory = PeakMemory(device)
    tokens, prefill_s, decode_s = _read(engine, num_tokens, new_tokens)
    memory.note()
    return Measured(
        num_tokens=tokens,
        prefill_s=prefill_s,
        ms_per_token=1e3 * decode_s / max(1, new_tokens - 1),
        peak_bytes=memory.peak if device.type == "cuda" else max(0, memory.peak - resident),
        reserved_bytes=memory.reserved,
        plan=plan_for(engine, num_tokens + new_tokens + _SPARE_TOKENS),
    )


def _read(engine: Engine, num_tokens: int, new_tokens: int) -> tuple[int, float, float]:
    """Prefill and decode as a user's question does. Returns (tokens read, seconds of prefill, seconds of decoding)."""
    device, state = engine.model.device, engine.new_state()
    synchronize(device)
    state.reserve(num_tokens + new_tokens + _SPARE_TOKENS)
    ids = random_ids(num_tokens, engine.config.vocab_size)
    began, done = time.perf_counter(), 0
    firsts: list[float] = []
    sampling = SamplingParams(temperature=0, stop_repetition=False, max_tokens=new_tokens)

    def takes_too_long() -> bool:
        return not firsts and time.perf_counter() - began > _MAX_READING_S

    for event in engine.generate(state, ids, sampling, should_stop=takes_too_long):
        if isinstance(event, PromptProgress):
            done = event.tokens_done
        elif isinstance(event, Token) and not firsts:
            firsts.append(time.perf_counter() - began)
    synchronize(device)
    ended = time.perf_counter() - began
    return done, firsts[0] if firsts else ended, ended - firsts[0] if firsts else 0.0


def _job(device: torch.device, *, quick: bool) -> AnswerJob:
    if device.type == "cuda":
        length = _QUICK_CARD_TOKENS if quick else _CARD_TOKENS
        return AnswerJob(
            model="sala", size="9b", length=length, weights="int4", kv="auto", device="cuda", new_tokens=128
        )
    length = _QUICK_CPU_TOKENS if quick else _CPU_TOKENS
    weights = "bf16" if torch.ops.mkldnn._is_mkldnn_bf16_supported() else "fp32"
    return AnswerJob(
        model="sala", size="embedded", length=length, weights=weights, kv="auto", device="cpu", new_tokens=16
    )


def _missing_bytes(job: AnswerJob) -> int:
    """How much the plan of a job exceeds the card's free memory. Made from shapes alone."""
    from sala_core.bench.random_weights import sala_weights
    from sala_core.bench.sizes import sala_config
    from sala_core.engine.memory_plan import ModelSize, device_settings, plan_memory

    config, device = sala_config(job.size), torch.device(job.device)
    weights = sala_weights(config, job.dtype, torch.device("meta"), packed=True)
    size = ModelSize.of(config, weights, job.dtype)
    plan = plan_memory(size, job.length + job.new_tokens + _SPARE_TOKENS, device_settings(size, device, job.kv))
    return plan.total_bytes - free_device_bytes(device)


def _speed(measured: Measured, engine: Engine, *, on_card: bool) -> Outcome:
    figures: dict[str, Figure] = {
        "model": "9B shape, random int4 weights" if on_card else "embedded model",
        "hardware": Machine.here(engine.model.device).hardware,
        "numbers": f"{str(engine.model.dtype).removeprefix('torch.')}, keys and values {engine.model.kv}, "
        f"chunks of {engine.chunk_tokens:,} tokens",
        "processes that wait for a core, last minute": round(psutil.getloadavg()[0], 1),
        "tokens read": measured.num_tokens,
        "seconds to the first token": round(measured.prefill_s, 2),
        "prefill, tokens per second": round(measured.num_tokens / measured.prefill_s),
        "decode, ms per token": round(measured.ms_per_token, 2),
        **published_figures(engine.model.device),
    }
    note = "" if on_card else "a short text, as there is no card"
    if measured.ms_per_token == 0:
        note = f"reading took over {_MAX_READING_S:.0f} s and was ended; nothing was decoded"
    return ok("speed", figures, reason=note)


def published_figures(device: torch.device) -> dict[str, Figure]:
    """Published figures of the nearest hardware, with their source."""
    if device.type != "cuda":
        return {"measured elsewhere": _CPU_FIGURES}
    row = nearest(torch.cuda.get_device_properties(device).total_memory)
    return {
        f"published for the {row.card}": f"first token {row.first_token_s} s, "
        f"{row.prefill_tokens_per_s:,.0f} tokens/s, {row.ms_per_token:.1f} ms per token",
        "source": SOURCE,
    }


def memory_outcome(measured: Measured, *, on_card: bool) -> Outcome:
    """The outcome of "memory peak": what was planned must cover what was used.

    A card's plan has the weights and the driver's part; torch does not count the latter as allocated. A CPU process
    has its weights before the reading begins.
    """
    plan = measured.plan
    figures: dict[str, Figure] = {f"planned for {name}": _mib(count) for name, count in plan.parts.items()}
    planned = plan.total_bytes if on_card else plan.total_bytes - plan.weights_bytes + _UNCOUNTED_BYTES
    uncounted = _mib(_UNCOUNTED_BYTES)
    used = measured.peak_bytes if measured.reserved_bytes is None else measured.reserved_bytes
    if on_card:
        figures |= {"planned in all": _mib(planned), "peak of allocated memory": _mib(measured.peak_bytes)}
        figures |= {"peak of reserved memory": _mib(used)}
    else:
        figures |= {f"planned without weights, with {uncounted} for libraries": _mib(planned)}
        figures |= {"growth of the process": _mib(used)}
    if used > planned:
        reason = f"a reading of {measured.num_tokens:,} tokens took {_mib(used)}, and {_mib(planned)} was planned"
        advice = "attach this report to a bug report; until then read shorter texts, or use --kv int8"
        return failed("memory peak", reason, advice, figures)
    return ok("memory peak", figures)


def _mib(num_bytes: int) -> str:
    digits = 0 if num_bytes >= 10 << 20 else 2
    return f"{num_bytes / 2**20:,.{digits}f} MiB"
