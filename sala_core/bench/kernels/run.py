"""`bench kernels`: starts the measuring processes and writes the table of all operations."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sala_kernels.inspection.report import OPERATIONS

from sala_core.bench import child
from sala_core.bench.kernels.ceilings import Ceilings
from sala_core.bench.machine import slug
from sala_core.bench.records import OUT_OF_MEMORY, KernelRow, Table
from sala_core.engine.device import resolve_device
from sala_core.errors import BenchError


def bench_kernels(
    device: str, folder: Path, only: Sequence[str] = (), *, max_workloads: int | None = None, shrink: int = 1
) -> Iterator[tuple[Path, KernelRow]]:
    """Measure all operations; yields (file of the table, row) after each row is written.

    A workload that ends its process gives a row with that status. The next process continues after it.

    Args:
        device: "auto", "cpu" or "cuda".
        folder: of the table.
        only: names of operations; () measures all.
        max_workloads: stop after this number of workloads, for tests.
        shrink: divides the sizes of the ceiling measurement, for tests.

    Raises:
        BenchError: an operation is unknown.
        DeviceError: the device is not available.
    """
    unknown = sorted(set(only) - set(OPERATIONS))
    if unknown:
        raise BenchError(f"there is no operation {unknown[0]!r}; choose from {', '.join(OPERATIONS)}")
    kind = resolve_device(device).type
    dtype = "bfloat16" if kind == "cuda" else "float32"
    facts = child.record("machine", device=kind, dtype=dtype, shrink=shrink)
    ceilings = Ceilings(**facts["ceilings"])
    columns: dict[str, Any] = {**facts["machine"], **ceilings.columns()}
    with Table(folder / f"kernels-{slug(facts['machine']['hardware'])}.csv", KernelRow) as table:
        for row in _rows(device=kind, ceilings=ceilings.to_dict(), only=list(only), max_workloads=max_workloads):
            row = replace(row, **columns)
            table.add(row)
            yield table.file, row


def _rows(**options: Any) -> Iterator[KernelRow]:
    """The rows of all processes. A new one starts after the workload that ended the one before."""
    skip = 0
    while True:
        begin: dict[str, Any] = {}
        try:
            for record in child.records("kernels", skip=skip, **options):
                if "begin" in record:
                    begin = record
                else:
                    yield KernelRow(**record)
            return
        except (child.ChildFailed, child.ChildOutOfMemory) as error:
            status = OUT_OF_MEMORY if isinstance(error, child.ChildOutOfMemory) else f"failed: {error}"
        if not begin:  # the process failed before its first workload, so another one would too
            yield KernelRow(operation="", workload="", implementation="", status=status)
            return
        yield KernelRow(operation=begin["operation"], workload=begin["workload"], implementation="", status=status)
        skip = begin["begin"] + 1
