"""`bench`: measures kernels, models, or llama.cpp beside ours. The table is written row by row, plots at the end."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from app.commands.load_lines import print_device_note
from app.grammar.development.bench import BenchArguments
from app.grammar.parser import Arguments
from app.wording import size
from sala_core.assets import ASSETS, IN_CHECKOUT

if TYPE_CHECKING:
    from sala_core.bench import KernelRow, ModelRow, PeerRow

_OUT = ASSETS / "benchmarks" if IN_CHECKOUT else Path("bench-results")
RowT = TypeVar("RowT", bound="KernelRow | ModelRow | PeerRow")


def bench(arguments: Arguments, _folder: Path) -> int:
    """Measure and plot. Returns 0, or 1 if a measurement failed. Ctrl-C keeps the measured rows. Raises SalaError."""
    options = arguments.bench
    assert options is not None
    from sala_core.errors import BenchError

    if importlib.util.find_spec("matplotlib") is None:
        raise BenchError("matplotlib is not installed; run through launch.py, which installs it")
    if options.what == "peers":
        return _peers(options)
    print_device_note(arguments.device)
    return _kernels(options, arguments.device) if options.what == "kernels" else _model(options, arguments.device)


def _kernels(options: BenchArguments, device: str) -> int:
    from sala_core.bench import bench_kernels, draw_kernels

    measured = bench_kernels(device, options.out or _OUT, options.only)
    return _run(measured, kernel_text, draw_kernels)


def _model(options: BenchArguments, device: str) -> int:
    from sala_core.bench import PARTS, ModelPlan, bench_model, draw_models

    plan = ModelPlan(
        device=device,
        size=options.size,  # type: ignore[arg-type]  # one of its values, by the grammar
        lengths=options.lengths,
        weights=options.weights,
        kv=options.kv,
        parts=options.only or PARTS,
        runs=options.runs,
        new_tokens=options.new_tokens,
        patience_s=60 * options.patience,
    )
    return _run(bench_model(plan, options.out or _OUT), model_text, draw_models)


def _peers(options: BenchArguments) -> int:
    from sala_core.bench import PeerPlan, bench_peers, draw_peers
    from sala_core.bench.peers.run import peer_text

    plan = PeerPlan(
        lengths=options.lengths,
        weights=options.weights,
        new_tokens=options.new_tokens,
        patience_s=60 * options.patience,
    )
    return _run(bench_peers(plan, options.out or _OUT), peer_text, draw_peers)


def _run(
    measured: Iterator[tuple[Path, RowT]],
    text: Callable[[RowT], str],
    draw: Callable[[Sequence[RowT], Path], list[Path]],
) -> int:
    """Print every row; plot all of them at the end, also after Ctrl-C. Returns 1 if a row failed."""
    rows: list[RowT] = []
    table: Path | None = None
    try:
        for file, row in measured:
            table = file
            rows.append(row)
            print(text(row), flush=True)
    finally:
        if table is not None:
            print("Written: " + ", ".join(map(str, [table, *draw(rows, table)])), flush=True)
    return int(any(row.status.startswith("failed") for row in rows))


def kernel_text(row: KernelRow) -> str:
    """One line about a row."""
    head = f"{row.operation}: {row.workload}: {row.implementation}"
    if row.time_us is None:
        return f"{head}: {row.status}"
    share = f"{100 * (row.fraction or 0):.1f}% of the ceiling ({row.bound})"
    return f"{head}: {row.time_us:,.1f} µs (spread {row.spread_us or 0:,.1f}, {row.runs} runs), {share}"


def model_text(row: ModelRow) -> str:
    """One line about a row."""
    from sala_core.text.lengths import length_name

    parts = [f"{row.what} {row.model} {row.size} {length_name(row.length)} {row.weights} KV {row.kv}: {row.status}"]
    if row.ttft_s is not None:
        limit = f" (limit {row.reading_limit_s:.4g})" if row.reading_limit_s else ""
        parts.append(f"first token {row.ttft_s:.4g} s{limit}")
    if row.end_to_end_s is not None:
        parts.append(f"in all {row.end_to_end_s:.4g} s")
    if row.ms_per_token is not None:
        limit = f" (limit {row.decoding_limit_ms:.3g})" if row.decoding_limit_ms else ""
        parts.append(f"{row.ms_per_token:.3g} ms per token{limit}")
    if row.peak_memory_bytes:
        parts.append(f"memory {size(row.peak_memory_bytes)}")
    if row.weight_bytes and row.state_bytes:
        parts.append(f"weights {size(row.weight_bytes)}, state {size(row.state_bytes)}")
    if row.runs:
        parts.append(f"runs {row.runs}")
    return "; ".join([*parts, *([row.note] if row.note else [])])
