"""`bench kernels`, inside its process: every operation's work timed, and torch's form of it beside.

On a card the work is that of the kernels' own `cases.py`, the 9B model's shapes; on a CPU the reference operations at
the embedded model's shapes, which is how the program uses them there.
"""

import importlib
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from sala_kernels.inspection.cases import Workload
from sala_kernels.inspection.report import OPERATIONS

from sala_core.bench.kernels.baselines import baselines, fill_with_noise
from sala_core.bench.kernels.ceilings import Ceilings
from sala_core.bench.kernels.cpu_work import cpu_workloads
from sala_core.bench.records import OUT_OF_MEMORY, KernelRow
from sala_core.bench.timing import Stopwatch, Timing, synchronize


@dataclass(frozen=True, kw_only=True)
class _Item:
    operation: str
    workload: Workload


def kernel_records(
    device: str, ceilings: dict[str, Any], only: Sequence[str] = (), skip: int = 0, most: int | None = None
) -> Iterator[dict[str, Any]]:
    """Rows as plain values; for every piece of work first {"begin": its number, its names}.

    skip: pieces of work left out at the beginning: done by a process before this one. most: so many, for tests.
    """
    place, found = torch.device(device), Ceilings(**ceilings)
    watch = Stopwatch(place)
    names = [name for name in OPERATIONS if not only or name in only]
    items = _card_items(names) if place.type == "cuda" else _cpu_items(names)
    for number, item in enumerate(items):
        if number < skip or (most is not None and number >= skip + most):
            continue
        yield {"begin": number, "operation": item.operation, "workload": item.workload.name}
        for row in _rows(item, place, watch, found):
            yield asdict(row)
        if place.type == "cuda":
            torch.cuda.empty_cache()


def _card_items(names: Sequence[str]) -> Iterator[_Item]:
    for name in names:
        for workload in importlib.import_module(f"sala_kernels.{name}.cases").workloads():
            yield _Item(operation=name, workload=workload)


def _cpu_items(names: Sequence[str]) -> Iterator[_Item]:
    for operation, workload in cpu_workloads():
        if operation in names:
            yield _Item(operation=operation, workload=workload)


@torch.inference_mode()
def _measured(item: _Item, place: torch.device, watch: Stopwatch, ceilings: Ceilings) -> Iterator[KernelRow]:
    call = item.workload.prepare(place)
    fill_with_noise(call)
    own = "Triton" if place.type == "cuda" else "reference, as used on a CPU"
    forms: list[tuple[str, Callable[[], object]]] = [(own, call), *baselines(item.operation, call)]
    for name, form in forms:
        print(f"  {item.operation}: {item.workload.name}: {name}", file=sys.stderr, flush=True)
        try:
            yield _row(item, name, watch.time(form), ceilings)
        except torch.OutOfMemoryError:
            yield _blank(item, name, OUT_OF_MEMORY)
        except RuntimeError as error:
            if form is call:
                raise
            synchronize(place)  # raises again where the device itself is in error
            yield _blank(item, name, f"failed: {str(error).partition(chr(10))[0]}")


def _rows(item: _Item, place: torch.device, watch: Stopwatch, ceilings: Ceilings) -> Iterator[KernelRow]:
    try:
        yield from _measured(item, place, watch, ceilings)
    except torch.OutOfMemoryError:
        yield _blank(item, "inputs", OUT_OF_MEMORY)


def _blank(item: _Item, name: str, status: str) -> KernelRow:
    return KernelRow(
        operation=item.operation,
        workload=item.workload.name,
        implementation=name,
        status=status,
        num_bytes=item.workload.num_bytes,
        num_flops=item.workload.num_flops,
    )


def _row(item: _Item, name: str, timing: Timing, ceilings: Ceilings) -> KernelRow:
    work, seconds = item.workload, max(timing.median_s, 1e-9)
    moving, computing = work.num_bytes / ceilings.bytes_per_s, work.num_flops / ceilings.flops_per_s
    return KernelRow(
        operation=item.operation,
        workload=work.name,
        implementation=name,
        runs=timing.runs,
        time_us=1e6 * timing.median_s,
        spread_us=1e6 * timing.spread_s,
        num_bytes=work.num_bytes,
        num_flops=work.num_flops,
        bytes_per_s=work.num_bytes / seconds,
        flops_per_s=work.num_flops / seconds,
        bound="bytes" if moving >= computing else "FLOPs",
        fraction=max(moving, computing) / seconds,
    )
