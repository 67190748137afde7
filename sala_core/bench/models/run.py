"""`bench model`: which figures are measured, in which order, and what is left out."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from sala_core.bench import child
from sala_core.bench.child import BenchError
from sala_core.bench.kernels.ceilings import Ceilings
from sala_core.bench.machine import slug
from sala_core.bench.models.answers import AnswerJob
from sala_core.bench.records import MEASURED, OUT_OF_MEMORY, ModelRow, Table
from sala_core.bench.sizes import Size
from sala_core.engine.engine import resolve_device
from sala_core.model.state import KvKind
from sala_core.text.lengths import length_name

Part = Literal["sala", "full", "saving", "speculation"]
PARTS: tuple[Part, ...] = ("sala", "full", "saving", "speculation")

_LENGTHS = {"cuda": [1 << n for n in range(16, 21)], "cpu": [1 << n for n in range(12, 19)]}
_NEW_TOKENS = {"cuda": 1024, "cpu": 64}
_SAVED_TOKENS = {"cuda": 1 << 17, "cpu": 1 << 14}
_SPECULATED_TOKENS = {"cuda": 1 << 16, "cpu": 1 << 12}
_GROWTH = {"sala": 1.3, "full": 2.0}  # of time, as a power of the length, at most


@dataclass(frozen=True, kw_only=True)
class ModelPlan:
    """What was asked for; None or empty where the device decides."""

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
        """With everything decided. Raises DeviceError, and BenchError for what cannot be measured."""
        kind = resolve_device(self.device).type
        size: Size = self.size or ("9b" if kind == "cuda" else "embedded")
        if size == "9b" and kind == "cpu":
            raise BenchError("the 9B size is measured on a card; on a CPU leave --size out, or choose embedded")
        if self.weights == "int4" and kind == "cpu":
            raise BenchError("a CPU unpacks int4 weights as it loads them, so their speed is bf16's: --weights bf16")
        weights = self.weights or ("int4" if size == "9b" else "fp32" if kind == "cpu" else "bf16")
        return replace(
            self,
            device=kind,
            size=size,
            lengths=list(self.lengths) or _LENGTHS[kind],
            weights=weights,
            new_tokens=self.new_tokens or _NEW_TOKENS[kind],
        )


def bench_model(plan: ModelPlan, folder: Path, shrink: int = 1) -> Iterator[tuple[Path, ModelRow]]:
    """Measure, and yield the table's file with every row just added to it. Raises as `ModelPlan.resolved`.

    A length that a model has no memory for is a row that says so, and so is every longer one.
    """
    plan = plan.resolved()
    dtype = "float32" if plan.weights == "fp32" else "bfloat16"
    facts = child.record("machine", device=plan.device, dtype=dtype, shrink=shrink)
    ceilings = Ceilings(**facts["ceilings"])
    with Table(folder / f"model-{slug(facts['machine']['hardware'])}.csv", ModelRow) as table:
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
                last[model] = _excused(job, last.get(model), plan.patience_s) or _answered(job)
                yield last[model]
    longest = max(plan.lengths)
    assert plan.size is not None
    for part, most in (("saving", _SAVED_TOKENS), ("speculation", _SPECULATED_TOKENS)):
        if part in plan.parts:
            yield from _extra(part, _job(plan, "sala", min(longest, most[plan.device])))


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


def _excused(job: AnswerJob, before: ModelRow | None, patience_s: float) -> ModelRow | None:
    """The row of a length that is not tried, going by the length before; None where it is."""
    if before is None:
        return None
    if before.status != MEASURED:
        said = before.status
        if said == OUT_OF_MEMORY:
            said = f"skipped: out of memory at {length_name(before.length)}"
        return replace(job.row, status=said if said.startswith("skipped") else f"skipped after: {said}")
    assert before.end_to_end_s is not None
    expected_s = before.end_to_end_s * (job.length / before.length) ** _GROWTH[job.model]
    if expected_s <= patience_s:
        return None
    return replace(job.row, status=f"skipped: about {expected_s / 60:.0f} min")


def _answered(job: AnswerJob) -> ModelRow:
    try:
        return ModelRow(**child.record("answer", **asdict(job)))
    except child.ChildOutOfMemory:
        return replace(job.row, status=OUT_OF_MEMORY)
    except child.ChildFailed as error:
        return replace(job.row, status=f"failed: {error}")


def _extra(part: str, job: AnswerJob) -> Iterator[ModelRow]:
    try:
        for values in child.records(part, **asdict(job)):
            yield ModelRow(**values)
    except child.ChildOutOfMemory:
        yield replace(job.row, what=part, status=OUT_OF_MEMORY)
    except child.ChildFailed as error:
        yield replace(job.row, what=part, status=f"failed: {error}")


def _with_limits(row: ModelRow, ceilings: Ceilings) -> ModelRow:
    found: dict[str, Any] = {
        "copy_bytes_per_s": ceilings.bytes_per_s,
        "matmul_flops_per_s": ceilings.flops_per_s,
        "matmul_dtype": ceilings.dtype,
    }
    if row.reading_bytes is not None and row.reading_flops is not None:
        found["reading_limit_s"] = max(
            row.reading_bytes / ceilings.bytes_per_s, row.reading_flops / ceilings.flops_per_s
        )
    if row.decoding_bytes is not None and row.decoding_flops is not None:
        found["decoding_limit_ms"] = 1e3 * max(
            row.decoding_bytes / ceilings.bytes_per_s, row.decoding_flops / ceilings.flops_per_s
        )
    return replace(row, **found)
