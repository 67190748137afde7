"""`bench`: measures the kernels or the model; a table on disk row by row, pictures at the end."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

from app.grammar.bench import BenchArguments
from app.grammar.parser import Arguments
from app.wording import size
from sala_core.assets import ASSETS

if TYPE_CHECKING:
    from sala_core.bench import KernelRow, ModelRow

_OUT = ASSETS / "benchmarks"


def bench(arguments: Arguments, _folder: Path) -> int:
    """Measure and draw; 0, or 1 if a figure failed. Ctrl-C keeps what was measured. Raises SalaError."""
    asked = arguments.bench
    assert asked is not None
    from sala_core.bench import BenchError

    if importlib.util.find_spec("matplotlib") is None:
        raise BenchError("matplotlib is not installed; run through launch.py, which installs it")
    run = _kernels if asked.what == "kernels" else _model
    return run(asked, arguments.device)


def _kernels(asked: BenchArguments, device: str) -> int:
    from sala_core.bench import bench_kernels, draw_kernels

    rows: list[KernelRow] = []
    table: Path | None = None
    try:
        for file, row in bench_kernels(device, asked.out or _OUT, asked.only):
            table = file
            rows.append(row)
            print(kernel_text(row), flush=True)
    finally:
        if table is not None:
            _say_files([table, *draw_kernels(rows, table)])
    return int(any(row.status.startswith("failed") for row in rows))


def _model(asked: BenchArguments, device: str) -> int:
    from sala_core.bench import PARTS, ModelPlan, bench_model, draw_models

    plan = ModelPlan(
        device=device,
        size=asked.size,  # type: ignore[arg-type]  # one of its values, by the grammar
        lengths=asked.lengths,
        weights=asked.weights,
        kv=asked.kv,
        parts=asked.only or PARTS,
        runs=asked.runs,
        new_tokens=asked.new_tokens,
        patience_s=60 * asked.patience,
    )
    rows: list[ModelRow] = []
    table: Path | None = None
    try:
        for file, row in bench_model(plan, asked.out or _OUT):
            table = file
            rows.append(row)
            print(model_text(row), flush=True)
    finally:
        if table is not None:
            _say_files([table, *draw_models(rows, table)])
    return int(any(row.status.startswith("failed") for row in rows))


def kernel_text(row: KernelRow) -> str:
    """One row in one line."""
    head = f"{row.operation}: {row.workload}: {row.implementation}"
    if row.time_us is None:
        return f"{head}: {row.status}"
    share = f"{100 * (row.fraction or 0):.1f}% of the ceiling ({row.bound})"
    return f"{head}: {row.time_us:,.1f} µs (spread {row.spread_us or 0:,.1f}, {row.runs} runs), {share}"


def model_text(row: ModelRow) -> str:
    """One row in one line."""
    from sala_core.text.lengths import length_name

    parts = [f"{row.what} {row.model} {row.size} {length_name(row.length)} {row.weights} KV {row.kv}: {row.status}"]
    if row.ttft_s is not None:
        limit = f" (limit {row.reading_limit_s:.4g})" if row.reading_limit_s else ""
        parts.append(f"first token {row.ttft_s:.4g} s{limit}")
    if row.end_to_end_s is not None:
        parts.append(f"in all {row.end_to_end_s:.4g} s")
    if row.ms_per_token is not None:
        limit = f" (limit {row.decoding_limit_ms:.3g})" if row.decoding_limit_ms else ""
        parts.append(f"{row.ms_per_token:.3g} ms a token{limit}")
    if row.peak_memory_bytes:
        parts.append(f"memory {size(row.peak_memory_bytes)}")
    if row.weight_bytes and row.state_bytes:
        parts.append(f"weights {size(row.weight_bytes)}, state {size(row.state_bytes)}")
    if row.runs:
        parts.append(f"runs {row.runs}")
    return "; ".join([*parts, *([row.note] if row.note else [])])


def _say_files(files: list[Path]) -> None:
    print("Written: " + ", ".join(str(file) for file in files), flush=True)
