"""The tables as pictures: time, time a token and memory against length; every operation's share of its ceiling."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sala_core.bench.records import MEASURED, OUT_OF_MEMORY, KernelRow, ModelRow
from sala_core.text.lengths import length_name

_COLOURS = {"sala": "#1f5fa8", "full": "#c8561b"}
_FRACTION_COLOURS = {"bytes": "#1f5fa8", "FLOPs": "#6a9a2d"}
_GREY = "#666666"
_DPI = 150


@dataclass(frozen=True, kw_only=True)
class _Curve:
    """One picture over lengths. value, limit: of a row; None where it has none."""

    name: str
    title: str
    unit: str
    value: Callable[[ModelRow], float | None]
    limit: Callable[[ModelRow], float | None] | None = None


_CURVES = (
    _Curve(
        name="ttft",
        title="Time to the first token",
        unit="seconds",
        value=lambda row: row.ttft_s,
        limit=lambda row: row.reading_limit_s,
    ),
    _Curve(
        name="processor",
        title="Processor time to the first token, all threads together",
        unit="seconds",
        value=lambda row: row.ttft_processor_s if row.hardware.startswith("CPU") else None,
    ),
    _Curve(
        name="token",
        title="Time of a decoded token",
        unit="milliseconds",
        value=lambda row: row.ms_per_token,
        limit=lambda row: row.decoding_limit_ms,
    ),
    _Curve(
        name="memory",
        title="Peak memory",
        unit="GB",
        value=lambda row: row.peak_memory_bytes / 1e9 if row.peak_memory_bytes else None,
    ),
)


def plot_models(rows: Sequence[ModelRow], folder: Path, prefix: str) -> list[Path]:
    """`prefix`-ttft.png and so on; of the rows "answer". No file for a figure that no row has."""
    answers = [row for row in rows if row.what == "answer"]
    return [file for curve in _CURVES if (file := _plot_curve(curve, answers, folder / f"{prefix}-{curve.name}.png"))]


def plot_kernels(rows: Sequence[KernelRow], folder: Path, prefix: str) -> list[Path]:
    """`prefix`-roofline.png: the first implementation of each piece of work."""
    measured = list(_first_of_each(row for row in rows if row.status == MEASURED and row.fraction is not None))
    if not measured:
        return []
    figure, axes = _figure(9.5, 1.2 + 0.19 * len(measured))
    places = range(len(measured), 0, -1)
    for bound, colour in _FRACTION_COLOURS.items():
        chosen = [(place, row) for place, row in zip(places, measured, strict=True) if row.bound == bound]
        shares = [100 * (row.fraction or 0) for _, row in chosen]
        axes.barh([place for place, _ in chosen], shares, color=colour, height=0.72, label=f"bound by {bound}")
    for place, row in zip(places, measured, strict=True):
        label = f"{100 * (row.fraction or 0):.0f}%  {_duration(row.time_us or 0)}"
        axes.text(100 * (row.fraction or 0) + 0.8, place, label, va="center", fontsize=6.5, color=_GREY)
    axes.set_yticks(list(places), [f"{row.operation}: {row.workload}" for row in measured], fontsize=6.5)
    axes.set_ylim(0.3, len(measured) + 0.7)
    axes.set_xlim(0, max(100.0, 112 * max(row.fraction or 0 for row in measured)))
    axes.set_xlabel("percent of the measured ceiling: copying memory, or multiplying matrices")
    axes.legend(loc="lower right", fontsize=8, frameon=False)
    _title(axes, f"Operations against the ceilings ({measured[0].implementation})", measured[0])
    return [_save(figure, folder / f"{prefix}-roofline.png")]


def _plot_curve(curve: _Curve, rows: Sequence[ModelRow], file: Path) -> Path | None:
    drawn = [row for row in rows if row.status == MEASURED and curve.value(row) is not None]
    if not drawn:
        return None
    figure, axes = _figure(7.2, 4.6)
    for model, colour in _COLOURS.items():
        own = [row for row in drawn if row.model == model]
        if own:
            values = [curve.value(row) for row in own]
            axes.plot([row.length for row in own], values, marker="o", color=colour, label=model_name(own[0]))
            for row, value in zip(own, values, strict=True):
                same = [curve.value(other) or 0 for other in drawn if other.length == row.length]
                below = (value or 0) < max(same)
                axes.annotate(
                    f"{value:.3g}", (row.length, value), xytext=(0, -15 if below else 7), textcoords="offset points",
                    ha="center", fontsize=8, color=colour,
                )  # fmt: skip
        if own and curve.limit and (limits := [curve.limit(row) for row in own])[0] is not None:
            axes.plot([row.length for row in own], limits, ls=":", lw=1.2, color=colour, label="its limit, as counted")
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    axes.set_ylim(low / (high / low) ** 0.06, high * (high / low) ** 0.12)
    for row in rows:
        if row.status == OUT_OF_MEMORY:
            axes.axvline(row.length, color=_COLOURS[row.model], lw=0.8, ls="--")
            axes.annotate(
                "out of memory", (row.length, axes.get_ylim()[0]), xytext=(-3, 4), textcoords="offset points",
                ha="right", va="bottom", rotation=90, fontsize=8, color=_COLOURS[row.model],
            )  # fmt: skip
    lengths = sorted({row.length for row in rows})
    axes.set_xticks(lengths, [length_name(length) for length in lengths])
    axes.yaxis.set_major_formatter("{x:g}")
    axes.minorticks_off()
    axes.set_xlabel("tokens read")
    axes.set_ylabel(curve.unit)
    axes.grid(True, which="major", color="#dddddd", lw=0.6)
    axes.legend(loc="upper left", fontsize=8, frameon=False)
    _title(axes, curve.title, drawn[0])
    return _save(figure, file)


def model_name(row: ModelRow) -> str:
    """How the row's model is called in a picture or a table."""
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
    """A figure of its own, outside pyplot's global state; drawn by Agg, without a screen."""
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
    axes.text(0, 1.015, where, transform=axes.transAxes, fontsize=7.5, color=_GREY)


def _save(figure: Any, file: Path) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=_DPI)
    return file
