"""`bench kernels` inside a measuring process: times every workload, and its baselines.

On a card the workloads are those of the kernels' `cases.py`, at the shapes of the 9B model. On a CPU they are the
reference operations at the shapes of the embedded model, as the program uses them there.
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
from sala_core.bench.kernels.cpu_workloads import cpu_workloads
from sala_core.bench.records import OUT_OF_MEMORY, KernelRow
from sala_core.bench.timing import Stopwatch, Timing, synchronize


@dataclass(frozen=True, kw_only=True)
class _Item:
    operation: str
    workload: Workload


def measure_kernels(
    device: str,
    ceilings: dict[str, Any],
    only: Sequence[str] = (),
    skip: int = 0,
    max_workloads: int | None = None,
) -> Iterator[dict[str, Any]]:
    """Yield {"begin": number, "operation": ..., "workload": ...} before each workload, then its rows as JSON values.

    Args:
        device: "cpu" or "cuda".
        ceilings: of the device, as `Ceilings.to_dict` gives them.
        only: names of operations; () measures all.
        skip: workloads at the beginning that an earlier process has done.
        max_workloads: stop after this number of workloads.
    """
    torch_device, limits = torch.device(device), Ceilings(**ceilings)
    watch = Stopwatch(torch_device)
    names = [name for name in OPERATIONS if not only or name in only]
    items = _card_items(names) if torch_device.type == "cuda" else _cpu_items(names)
    for number, item in enumerate(items):
        if number < skip or (max_workloads is not None and number >= skip + max_workloads):
            continue
        yield {"begin": number, "operation": item.operation, "workload": item.workload.name}
        for row in _rows(item, torch_device, watch, limits):
            yield asdict(row)
        if torch_device.type == "cuda":
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
def _measured(item: _Item, device: torch.device, watch: Stopwatch, ceilings: Ceilings) -> Iterator[KernelRow]:
    call = item.workload.prepare(device)
    fill_with_noise(call)
    own_name = "Triton" if device.type == "cuda" else "reference, as used on a CPU"
    implementations: list[tuple[str, Callable[[], object]]] = [(own_name, call), *baselines(item.operation, call)]
    for name, implementation in implementations:
        print(f"  {item.operation}: {item.workload.name}: {name}", file=sys.stderr, flush=True)
        try:
            yield _row(item, name, watch.time(implementation), ceilings)
        except torch.OutOfMemoryError:
            yield _unmeasured(item, name, OUT_OF_MEMORY)
        except RuntimeError as error:
            if implementation is call:
                raise
            synchronize(device)  # raises again if the CUDA context is broken
            yield _unmeasured(item, name, f"failed: {str(error).partition(chr(10))[0]}")


def _rows(item: _Item, device: torch.device, watch: Stopwatch, ceilings: Ceilings) -> Iterator[KernelRow]:
    try:
        yield from _measured(item, device, watch, ceilings)
    except torch.OutOfMemoryError:
        yield _unmeasured(item, "inputs", OUT_OF_MEMORY)


def _unmeasured(item: _Item, name: str, status: str) -> KernelRow:
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
    memory_s, compute_s = work.num_bytes / ceilings.bytes_per_s, work.num_flops / ceilings.flops_per_s
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
        bound="bytes" if memory_s >= compute_s else "FLOPs",
        fraction=max(memory_s, compute_s) / seconds,
    )
