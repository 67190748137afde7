"""Plots of the tables: latency and memory by length; every operation's share of its ceiling."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sala_core.bench.records import MEASURED, OUT_OF_MEMORY, KernelRow, ModelRow
from sala_core.text.lengths import length_name

_COLORS = {"sala": "#1f5fa8", "full": "#c8561b"}
_BOUND_COLORS = {"bytes": "#1f5fa8", "FLOPs": "#6a9a2d"}
_GRAY = "#666666"
_DPI = 150


@dataclass(frozen=True, kw_only=True)
class _Plot:
    """One plot over lengths. value, limit: the y values of a row; None if the row has none."""

    name: str
    title: str
    unit: str
    value: Callable[[ModelRow], float | None]
    limit: Callable[[ModelRow], float | None] | None = None


_PLOTS = (
    _Plot(
        name="ttft",
        title="Time to the first token",
        unit="seconds",
        value=lambda row: row.ttft_s,
        limit=lambda row: row.reading_limit_s,
    ),
    _Plot(
        name="processor",
        title="CPU time to the first token, summed over threads",
        unit="seconds",
        value=lambda row: row.ttft_processor_s if row.hardware.startswith("CPU") else None,
    ),
    _Plot(
        name="token",
        title="Time per decoded token",
        unit="milliseconds",
        value=lambda row: row.ms_per_token,
        limit=lambda row: row.decoding_limit_ms,
    ),
    _Plot(
        name="memory",
        title="Peak memory",
        unit="GB",
        value=lambda row: row.peak_memory_bytes / 1e9 if row.peak_memory_bytes else None,
    ),
)


def draw_models(rows: Sequence[ModelRow], table: Path) -> list[Path]:
    """Plot the "answer" rows beside their table, as TABLE-ttft.png and so on. Returns the files.

    A value that no row has gets no file.
    """
    answers = [row for row in rows if row.what == "answer"]
    return [file for plot in _PLOTS if (file := _draw(plot, answers, _beside(table, plot.name)))]


def draw_kernels(rows: Sequence[KernelRow], table: Path) -> list[Path]:
    """Plot the first implementation of each workload beside the table, as TABLE-roofline.png. Returns the files."""
    measured = list(_first_of_each(row for row in rows if row.status == MEASURED and row.fraction is not None))
    if not measured:
        return []
    figure, axes = _figure(9.5, 1.2 + 0.19 * len(measured))
    places = range(len(measured), 0, -1)
    for bound, color in _BOUND_COLORS.items():
        chosen = [(place, row) for place, row in zip(places, measured, strict=True) if row.bound == bound]
        shares = [100 * (row.fraction or 0) for _, row in chosen]
        axes.barh([place for place, _ in chosen], shares, color=color, height=0.72, label=f"bound by {bound}")
    for place, row in zip(places, measured, strict=True):
        label = f"{100 * (row.fraction or 0):.0f}%  {_duration(row.time_us or 0)}"
        axes.text(100 * (row.fraction or 0) + 0.8, place, label, va="center", fontsize=6.5, color=_GRAY)
    axes.set_yticks(list(places), [f"{row.operation}: {row.workload}" for row in measured], fontsize=6.5)
    axes.set_ylim(0.3, len(measured) + 0.7)
    axes.set_xlim(0, max(100.0, 112 * max(row.fraction or 0 for row in measured)))
    axes.set_xlabel("percent of the measured ceiling: memory bandwidth, or matrix products")
    axes.legend(loc="lower right", fontsize=8, frameon=False)
    _title(axes, f"Operations compared with the ceilings ({measured[0].implementation})", measured[0])
    return [_save(figure, _beside(table, "roofline"))]


def _beside(table: Path, name: str) -> Path:
    return table.parent / f"{table.stem}-{name}.png"


def _draw(plot: _Plot, rows: Sequence[ModelRow], file: Path) -> Path | None:
    """Draw one plot of both models over the length. None, with nothing written, if no row has the value."""
    measured = [row for row in rows if row.status == MEASURED and plot.value(row) is not None]
    if not measured:
        return None
    figure, axes = _figure(7.2, 4.6)
    for model in _COLORS:
        own = [row for row in measured if row.model == model]
        if own:
            _draw_model(axes, plot, own, measured)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    axes.set_ylim(low / (high / low) ** 0.06, high * (high / low) ** 0.12)
    _mark_out_of_memory(axes, rows)
    lengths = sorted({row.length for row in rows})
    axes.set_xticks(lengths, [length_name(length) for length in lengths])
    axes.yaxis.set_major_formatter("{x:g}")
    axes.minorticks_off()
    axes.set_xlabel("prompt length in tokens")
    axes.set_ylabel(plot.unit)
    axes.grid(True, which="major", color="#dddddd", lw=0.6)
    axes.legend(loc="upper left", fontsize=8, frameon=False)
    _title(axes, plot.title, measured[0])
    return _save(figure, file)


def _draw_model(axes: Any, plot: _Plot, own: Sequence[ModelRow], measured: Sequence[ModelRow]) -> None:
    """The curve of one model with its values as labels, and its limit. The lower of two values has its label below."""
    color = _COLORS[own[0].model]
    values = [plot.value(row) for row in own]
    axes.plot([row.length for row in own], values, marker="o", color=color, label=model_name(own[0]))
    for row, value in zip(own, values, strict=True):
        same_length = [plot.value(other) or 0 for other in measured if other.length == row.length]
        below = (value or 0) < max(same_length)
        axes.annotate(
            f"{value:.3g}", (row.length, value), xytext=(0, -15 if below else 7), textcoords="offset points",
            ha="center", fontsize=8, color=color,
        )  # fmt: skip
    if plot.limit and (limits := [plot.limit(row) for row in own])[0] is not None:
        axes.plot([row.length for row in own], limits, ls=":", lw=1.2, color=color, label="its limit, by counted work")


def _mark_out_of_memory(axes: Any, rows: Sequence[ModelRow]) -> None:
    for row in rows:
        if row.status == OUT_OF_MEMORY:
            color = _COLORS[row.model]
            axes.axvline(row.length, color=color, lw=0.8, ls="--")
            axes.annotate(
                "out of memory", (row.length, axes.get_ylim()[0]), xytext=(-3, 4), textcoords="offset points",
                ha="right", va="bottom", rotation=90, fontsize=8, color=color,
            )  # fmt: skip


def model_name(row: ModelRow) -> str:
    """The name of the row's model in a plot or a table."""
    sizes = {"sala": ("MiniCPM-SALA 9B", "embedded model"), "full": ("Qwen3-8B's shape", "full attention, same size")}
    name = sizes[row.model][0 if row.size == "9b" else 1]
    return f"{name}, {row.weights}" + (f", KV {row.kv}" if row.kv not in (row.weights, "bf16") else "")


def _first_of_each(rows: Iterator[KernelRow]) -> Iterator[KernelRow]:
    seen = set()
    for row in rows:
        if (row.operation, row.workload) not in seen:
            seen.add((row.operation, row.workload))
            yield row


def _duration(microseconds: float) -> str:
    return f"{microseconds:.3g} µs" if microseconds < 1000 else f"{microseconds / 1000:.3g} ms"


def _figure(width: float, height: float) -> tuple[Any, Any]:
    """(figure, axes), independent of pyplot's global state. Drawn by Agg, without a display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return figure, axes


def _title(axes: Any, title: str, row: ModelRow | KernelRow) -> None:
    where = ", ".join(part for part in (row.hardware, f"torch {row.torch}", row.commit, row.date) if part)
    axes.set_title(f"{title}\n", fontsize=11, loc="left")
    axes.text(0, 1.015, where, transform=axes.transAxes, fontsize=7.5, color=_GRAY)


def _save(figure: Any, file: Path) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=_DPI)
    return file
