"""`bench model`: starts the measuring processes in order, skips what takes too long, and writes the table."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from sala_core.bench import child
from sala_core.bench.kernels.ceilings import Ceilings
from sala_core.bench.machine import slug
from sala_core.bench.models.answer_job import AnswerJob
from sala_core.bench.models.roofline import Work
from sala_core.bench.records import MEASURED, OUT_OF_MEMORY, ModelRow, Table
from sala_core.bench.sizes import Size
from sala_core.engine.device import resolve_device
from sala_core.errors import BenchError
from sala_core.model.state import KvKind
from sala_core.text.lengths import length_name

Part = Literal["sala", "full", "saving", "speculation"]
PARTS: tuple[Part, ...] = ("sala", "full", "saving", "speculation")

_9B_ON_CPU: dict[str, Any] = {"lengths": [1 << 10, 1 << 13], "new_tokens": 16, "parts": ("sala",), "runs": 1}
"""Each of the longer runs takes minutes, and full attention reads no faster: matrix products take the time."""

_LENGTHS = {"cuda": [1 << n for n in range(16, 21)], "cpu": [1 << n for n in range(12, 19)]}
_NEW_TOKENS = {"cuda": 1024, "cpu": 64}
_SAVING_TOKENS = {"cuda": 1 << 17, "cpu": 1 << 14}
_SPECULATION_TOKENS = {"cuda": 1 << 16, "cpu": 1 << 12}
_GROWTH = {"sala": 1.3, "full": 2.0}  # time grows at most with this power of the length


@dataclass(frozen=True, kw_only=True)
class ModelPlan:
    """What to measure. None and empty values take the default of the device. patience_s: time limit of one run."""

    device: str = "auto"
    size: Size | None = None
    lengths: Sequence[int] = ()
    weights: str | None = None
    kv: str = "auto"
    parts: Sequence[str] = PARTS
    runs: int | None = None
    new_tokens: int | None = None
    patience_s: float = 600.0
    warm: bool = True

    def resolved(self) -> "ModelPlan":
        """The plan with all defaults filled in. Raises DeviceError, and BenchError for what cannot be measured."""
        kind = resolve_device(self.device).type
        size: Size = self.size or ("9b" if kind == "cuda" else "embedded")
        on_cpu = kind == "cpu"
        if size == "9b" and on_cpu and self.weights not in (None, "int4"):
            raise BenchError("the 9B size is measured on a CPU with int4 weights alone; leave --weights out")
        if size == "embedded" and on_cpu and self.weights == "int4":
            raise BenchError("a CPU dequantizes a small model as it loads it, so its speed is bf16's: --weights bf16")
        weights = self.weights or ("int4" if size == "9b" else "fp32" if on_cpu else "bf16")
        defaults = _9B_ON_CPU if size == "9b" and on_cpu else {}
        return replace(
            self,
            device=kind,
            size=size,
            lengths=list(self.lengths) or defaults.get("lengths", _LENGTHS[kind]),
            weights=weights,
            parts=defaults.get("parts", PARTS) if self.parts is PARTS else self.parts,
            runs=self.runs or defaults.get("runs"),
            new_tokens=self.new_tokens or defaults.get("new_tokens", _NEW_TOKENS[kind]),
        )


def bench_model(plan: ModelPlan, folder: Path, shrink: int = 1) -> Iterator[tuple[Path, ModelRow]]:
    """Measure the plan; yields (file of the table, row) after each row is written.

    If a model runs out of memory at a length, that row has this status, and longer lengths are skipped. shrink: divides
    the sizes of the ceiling measurement, for tests. Raises as `ModelPlan.resolved`.
    """
    plan = plan.resolved()
    dtype = "float32" if plan.weights == "fp32" else "bfloat16"
    facts = child.record("machine", device=plan.device, dtype=dtype, shrink=shrink)
    ceilings = Ceilings(**facts["ceilings"])
    large = "9b-" if plan.size == "9b" and plan.device == "cpu" else ""
    with Table(folder / f"model-{large}{slug(facts['machine']['hardware'])}.csv", ModelRow) as table:
        for row in _rows(plan):
            row = _with_limits(replace(row, **facts["machine"]), ceilings)
            table.add(row)
            yield table.file, row


def _rows(plan: ModelPlan) -> Iterator[ModelRow]:
    last: dict[str, ModelRow] = {}
    for length in plan.lengths:
        for model in ("sala", "full"):
            if model in plan.parts:
                job = _job(plan, model, length)
                last[model] = _skipped(job, last.get(model), plan.patience_s) or _measure(job)
                yield last[model]
    longest = max(plan.lengths)
    assert plan.size is not None
    for part, most in (("saving", _SAVING_TOKENS), ("speculation", _SPECULATION_TOKENS)):
        if part in plan.parts:
            yield from _measure_part(part, _job(plan, "sala", min(longest, most[plan.device])))


def _job(plan: ModelPlan, model: str, length: int) -> AnswerJob:
    assert plan.size is not None
    assert plan.weights is not None
    assert plan.new_tokens is not None
    kinds: dict[str, KvKind | Literal["auto"]] = {"auto": "auto", "int8": "int8", "fp8": "fp8", "bf16": "plain"}
    return AnswerJob(
        model="sala" if model == "sala" else "full",
        size=plan.size,
        length=length,
        weights=plan.weights,
        kv=kinds[plan.kv],
        device=plan.device,
        new_tokens=plan.new_tokens,
        runs=plan.runs,
        warm=plan.warm,
    )


def _skipped(job: AnswerJob, before: ModelRow | None, patience_s: float) -> ModelRow | None:
    """The row of a skipped length; None if it is to be measured. before: the model's row at the length before."""
    if before is None:
        return None
    if before.status != MEASURED:
        status = before.status
        if status == OUT_OF_MEMORY:
            status = f"skipped: out of memory at {length_name(before.length)}"
        return replace(job.row, status=status if status.startswith("skipped") else f"skipped after: {status}")
    assert before.end_to_end_s is not None
    expected_s = before.end_to_end_s * (job.length / before.length) ** _GROWTH[job.model]
    if expected_s <= patience_s:
        return None
    return replace(job.row, status=f"skipped: about {expected_s / 60:.0f} min")


def _measure(job: AnswerJob) -> ModelRow:
    try:
        return ModelRow(**child.record("answer", **asdict(job)))
    except child.ChildOutOfMemory:
        return replace(job.row, status=OUT_OF_MEMORY)
    except child.ChildFailed as error:
        return replace(job.row, status=f"failed: {error}")


def _measure_part(part: str, job: AnswerJob) -> Iterator[ModelRow]:
    """The rows of "saving" or "speculation"."""
    try:
        for values in child.records(part, **asdict(job)):
            yield ModelRow(**values)
    except child.ChildOutOfMemory:
        yield replace(job.row, what=part, status=OUT_OF_MEMORY)
    except child.ChildFailed as error:
        yield replace(job.row, what=part, status=f"failed: {error}")


def _with_limits(row: ModelRow, ceilings: Ceilings) -> ModelRow:
    """The row with the ceilings and, where work was counted, the time limits that follow from them."""
    row = replace(row, **ceilings.columns())  # type: ignore[arg-type]  # the names and types of its fields
    reading_s = _limit_s(row.reading_bytes, row.reading_flops, ceilings)
    decoding_s = _limit_s(row.decoding_bytes, row.decoding_flops, ceilings)
    decoding_ms = None if decoding_s is None else 1e3 * decoding_s
    return replace(row, reading_limit_s=reading_s, decoding_limit_ms=decoding_ms)


def _limit_s(num_bytes: int | None, num_flops: int | None, ceilings: Ceilings) -> float | None:
    if num_bytes is None or num_flops is None:
        return None
    return Work(num_bytes=num_bytes, num_flops=num_flops).limit_s(ceilings.bytes_per_s, ceilings.flops_per_s)
