"""`bench kernels`: the table of all operations, from processes that measure them."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sala_kernels.inspection.report import OPERATIONS

from sala_core.bench import child
from sala_core.bench.child import BenchError
from sala_core.bench.machine import slug
from sala_core.bench.records import OUT_OF_MEMORY, KernelRow, Table
from sala_core.engine.engine import resolve_device


def bench_kernels(
    device: str, folder: Path, only: Sequence[str] = (), *, most: int | None = None, shrink: int = 1
) -> Iterator[tuple[Path, KernelRow]]:
    """Measure, and yield the table's file with every row just added to it.

    Work that ends its process is a row that says so; the next process goes on after it. most, shrink: for tests, so
    many pieces of work, smaller ceilings. Raises DeviceError, and BenchError for an unknown operation.
    """
    unknown = sorted(set(only) - set(OPERATIONS))
    if unknown:
        raise BenchError(f"there is no operation {unknown[0]!r}; choose from {', '.join(OPERATIONS)}")
    kind = resolve_device(device).type
    dtype = "bfloat16" if kind == "cuda" else "float32"
    facts = child.record("machine", device=kind, dtype=dtype, shrink=shrink)
    ceilings = facts["ceilings"]
    measured = {
        "copy_bytes_per_s": ceilings["bytes_per_s"],
        "matmul_flops_per_s": ceilings["flops_per_s"],
        "matmul_dtype": ceilings["dtype"],
    }
    with Table(folder / f"kernels-{slug(facts['machine']['hardware'])}.csv", KernelRow) as table:
        for row in _rows(device=kind, ceilings=ceilings, only=list(only), most=most):
            row = replace(row, **facts["machine"], **measured)
            table.add(row)
            yield table.file, row


def _rows(**options: Any) -> Iterator[KernelRow]:
    skip = 0
    while True:
        begun: dict[str, Any] = {}
        try:
            for record in child.records("kernels", skip=skip, **options):
                if "begin" in record:
                    begun = record
                else:
                    yield KernelRow(**record)
            return
        except (child.ChildFailed, child.ChildOutOfMemory) as error:
            status = OUT_OF_MEMORY if isinstance(error, child.ChildOutOfMemory) else f"failed: {error}"
        if not begun:  # it did not even begin: the next would not either
            yield KernelRow(operation="", workload="", implementation="", status=status)
            return
        yield KernelRow(operation=begun["operation"], workload=begun["workload"], implementation="", status=status)
        skip = begun["begin"] + 1
