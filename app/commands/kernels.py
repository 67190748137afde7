"""`kernels`: the resources of the Triton kernels on each card, their error against the reference, and their work."""

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from app.grammar.parser import Arguments
from app.setup.environment import child_environ
from sala_core.errors import KernelReportError

_H200 = {"flops_per_s": 790e12, "bytes_per_s": 4.3e12}  # measured: bf16 matmul, copy
_PAST = {"compile": "compiled", "compare": "compared", "count": "counted"}
_HEADING = """
Registers and bytes of stack of a thread, and KiB of shared memory of a thread block, compiled for each GPU.
A stack of 0 bytes means no spills. Each number is the highest of the kernel's variants.
"""


def kernels(arguments: Arguments, _folder: Path) -> int:
    """Compile, compare and count. Return 1 if a kernel does not suit a card or exceeds its error limit, otherwise 0."""
    from sala_kernels.inspection.report import OPERATIONS

    chosen = arguments.operations or OPERATIONS
    unknown = sorted(set(chosen) - set(OPERATIONS))
    if unknown:
        raise KernelReportError(f"there is no operation {unknown[0]!r}; choose from {', '.join(OPERATIONS)}")
    options = [option for card in arguments.cards for option in ("--card", card)]
    report: dict[str, list[dict[str, Any]]] = {}
    with (
        _worker("compile", [*chosen, *options]) as compiler,
        _worker("compare", [*chosen, *options]) as comparer,
        _worker("compare", [*chosen, *options, "--dtype", "bfloat16"]) as bf16_comparer,
    ):
        report["compile"] = list(_records(compiler, "compile", quiet=arguments.json))
        report["compare"] = list(_records(comparer, "compare", quiet=arguments.json))
        report["compare"] += _records(bf16_comparer, "compare", quiet=arguments.json)
    with _worker("count", chosen) as counter:
        report["count"] = list(_records(counter, "count", quiet=True))
    if arguments.json:
        print(json.dumps(report, indent=2))
    else:
        print("\n".join(_tables(report)))
    return 0 if all(record["good"] for record in [*report["compile"], *report["compare"]]) else 1


def _worker(what: str, arguments: Sequence[str]) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "sala_kernels.inspection", what, *arguments],
        stdout=subprocess.PIPE,
        encoding="utf-8",
        env=child_environ(),
    )


def _records(worker: "subprocess.Popen[str]", what: str, *, quiet: bool) -> Iterator[dict[str, Any]]:
    """Yield the worker's records as they come, and name each on stderr unless `quiet`. Raises KernelReportError."""
    assert worker.stdout is not None
    for line in worker.stdout:
        record = json.loads(line)
        if not quiet:
            detail = f"{record['kernel']} for {record['card']}" if what == "compile" else record["comparison"]
            print(f"{what}: {record['operation']}: {detail}", file=sys.stderr, flush=True)
        yield record
    if worker.wait():
        raise KernelReportError(f"the kernels could not be {_PAST[what]}; the reason is above")


def _tables(report: dict[str, list[dict[str, Any]]]) -> Iterator[str]:
    yield from _resources(report["compile"])
    yield from _machine_code(report["compile"])
    yield from _errors([record for record in report["compare"] if record["dtype"] == "float32"])
    yield from _bf16_errors([record for record in report["compare"] if record["dtype"] == "bfloat16"])
    bad = sum(not record["good"] for record in report["compare"])
    yield "Every kernel agrees with its reference." if not bad else f"{bad} comparisons are beyond their limit."
    yield from _work(report["count"])


def _resources(records: list[dict[str, Any]]) -> Iterator[str]:
    """One row per kernel, one column per card."""
    cards = list(dict.fromkeys(record["card"] for record in records))
    rows: dict[tuple[str, str], dict[str, str]] = {}
    for r in records:
        cell = f"{r['registers']}/{r['stack_bytes']}/{r['shared_bytes'] / 1024:.0f}" + ("" if r["good"] else " !")
        rows.setdefault((r["operation"], r["kernel"]), {})[r["card"]] = cell
    yield _HEADING.strip("\n")
    yield ""
    body = [
        [f"{operation}: {kernel.strip('_')}", *(cells.get(card, "") for card in cards)]
        for (operation, kernel), cells in rows.items()
    ]
    yield from _table(["kernel", *cards], body)
    bad = sum(not r["good"] for r in records)
    yield "Every kernel fits every card." if not bad else f"{bad} marked ! do not fit, or their code is not as asked."


def _machine_code(records: list[dict[str, Any]]) -> Iterator[str]:
    """The kernels that multiply on tensor cores, one column per card; a line for each that uses local memory."""
    cards = list(dict.fromkeys(record["card"] for record in records))
    rows: dict[str, dict[str, str]] = {}
    for r in records:
        if r["needs_tensor_cores"] or r["tensor_cores"]:
            cell = f"{r['tensor_cores']}/{r['variants']}, {r['async_copies']}/{r['pipelined']}"
            rows.setdefault(f"{r['operation']}: {r['kernel'].strip('_')}", {})[r["card"]] = cell
    if rows:
        yield "\nKernels with matrix products: variants that use tensor cores, of all, and variants that copy to shared"
        yield "memory while they compute, of those that are launched with several stages.\n"
        body = [[kernel, *(cells.get(card, "") for card in cards)] for kernel, cells in rows.items()]
        yield from _table(["kernel", *cards], body)
    local = [r for r in records if r["local_accesses"]]
    yield from (f"{r['kernel']} for {r['card']}: {r['local_accesses']} loads and stores of local memory" for r in local)
    if not local:
        yield "No kernel loads or stores local memory."


def _errors(records: list[dict[str, Any]]) -> Iterator[str]:
    """The comparison with the largest error, for every operation."""
    worst: dict[str, dict[str, Any]] = {}
    counts: dict[str, set[str]] = {}
    for r in records:
        counts.setdefault(r["operation"], set()).add(r["comparison"])
        largest = worst.setdefault(r["operation"], r)
        if not r["error"] <= largest["error"]:  # also true for NaN
            worst[r["operation"]] = r
    yield "\nLargest relative root-mean-square error against the reference, in float32.\n"
    body = [
        [name, str(len(counts[name])), f"{r['error']:.1e}" + ("" if r["good"] else " !"), r["comparison"]]
        for name, r in worst.items()
    ]
    yield from _table(["operation", "comparisons", "error", "where"], body)


def _bf16_errors(records: list[dict[str, Any]]) -> Iterator[str]:
    """The largest error of every operation on each card."""
    if not records:
        return
    emulated = any(r["emulated"] for r in records)
    yield "\nLargest relative root-mean-square error in bfloat16, against the reference in float64 on the same numbers."
    yield "Emulated by Triton's interpreter, launched as on each card: no GPU computed this.\n" if emulated else ""
    cards = list(dict.fromkeys(card for r in records for card in r["cards"]))
    largest: dict[str, dict[str, float]] = {}
    bad = {(r["operation"], card) for r in records if not r["good"] for card in r["cards"]}
    counts: dict[str, set[str]] = {}
    for r in records:
        counts.setdefault(r["operation"], set()).add(r["comparison"])
        row = largest.setdefault(r["operation"], {})
        for card in r["cards"]:
            before = row.get(card, 0.0)
            row[card] = r["error"] if not r["error"] <= before else before  # also for NaN
    body = [
        [name, str(len(counts[name])), *(f"{row[card]:.1e}" + " !" * ((name, card) in bad) for card in cards)]
        for name, row in largest.items()
    ]
    yield from _table(["operation", "comparisons", *cards], body)


def _work(records: list[dict[str, Any]]) -> Iterator[str]:
    """Bytes and FLOPs at the shapes of the 9B model, and the least time that an H200 needs for them."""
    yield "\nCounted work of one call (one layer) at the 9B model's shapes. The floor is the time that an H200 needs"
    yield "for the bytes at its measured 4.3 TB/s or for the FLOPs at its 790 TFLOP/s (bf16), whichever is longer.\n"
    body = []
    for r in records:
        moving = r["num_bytes"] / _H200["bytes_per_s"]
        computing = r["num_flops"] / _H200["flops_per_s"]
        bound = "bytes" if moving >= computing else "FLOPs"
        mb, gflop = f"{r['num_bytes'] / 1e6:,.2f}", f"{r['num_flops'] / 1e9:,.3f}"
        floor = f"{max(moving, computing) * 1e6:,.1f}"
        body.append([r["operation"], r["workload"], mb, gflop, floor, bound])
    yield from _table(["operation", "work", "MB", "GFLOP", "floor µs", "bound by"], body)


def _table(head: list[str], body: list[list[str]]) -> Iterator[str]:
    widths = [max(len(row[i]) for row in [head, *body]) for i in range(len(head))]
    for row in [head, ["-" * width for width in widths], *body]:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
