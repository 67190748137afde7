"""The plots of a suite: scores by depth and length, and loss by position."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sala_core.errors import EvalError
from sala_core.evals.summary import Row
from sala_core.text.lengths import length_name

_DEPTHS = 10


def draw_heat_map(file: Path, title: str, records: Sequence[Mapping[str, Any]]) -> Path | None:
    """Plot the mean score by depth and length, over the samples that have a depth.

    Returns the file; None, with nothing written, if no sample has a depth. Raises EvalError without matplotlib.
    """
    with_depth = [record for record in records if record["depth"] is not None]
    if not with_depth:
        return None
    lengths = sorted({record["length"] for record in with_depth})
    cells: dict[tuple[int, int], list[float]] = {}
    for record in with_depth:
        depth = min(_DEPTHS - 1, int(record["depth"] * _DEPTHS))
        cells.setdefault((depth, record["length"]), []).append(plotted_score(record["scores"]))
    grid = [[_mean(cells.get((depth, length), [])) for length in lengths] for depth in range(_DEPTHS)]
    pyplot = _pyplot()
    figure, axes = pyplot.subplots(figsize=(2.6 + 0.8 * len(lengths), 4.2), layout="constrained")
    image = axes.imshow(grid, vmin=0, vmax=1, cmap="RdYlGn", aspect="auto")
    for depth in range(_DEPTHS):
        for column, length in enumerate(lengths):
            values = cells.get((depth, length), [])
            if values:
                text = f"{_mean(values):.2f}\nn={len(values)}"
                axes.text(column, depth, text, ha="center", va="center", fontsize=7)
    axes.set_xticks(range(len(lengths)), [length_name(length) for length in lengths])
    axes.set_yticks(range(_DEPTHS), [f"{100 * i // _DEPTHS}–{100 * (i + 1) // _DEPTHS}%" for i in range(_DEPTHS)])
    axes.set_xlabel("prompt length in tokens")
    axes.set_ylabel("depth")
    axes.set_title(title, fontsize=9)
    figure.colorbar(image, ax=axes, label="mean score")
    figure.savefig(file, dpi=110)
    pyplot.close(figure)
    return file


def plotted_score(scores: Mapping[str, float]) -> float:
    """The metric of a sample that is plotted: "right" where there is one, as for present facts, else "score"."""
    return scores.get("right", scores["score"])


def draw_losses(file: Path, title: str, rows: Sequence[Row]) -> Path | None:
    """Plot nats per token by position, a line for each length. Returns as `draw_heat_map`."""
    if not rows:
        return None
    pyplot = _pyplot()
    figure, axes = pyplot.subplots(figsize=(6, 4), layout="constrained")
    for length in sorted({row.length for row in rows}):
        own = sorted((_end(row.task), row) for row in rows if row.length == length)
        ends, means = [end for end, _ in own], [row.mean for _, row in own]
        axes.plot(ends, means, marker="o", label=length_name(length))
        axes.fill_between(ends, [row.low for _, row in own], [row.high for _, row in own], alpha=0.2)
    axes.set_xscale("log", base=2)
    axes.set_xlabel("position in the text (end of the bin)")
    axes.set_ylabel("nats per token")
    axes.set_title(title, fontsize=9)
    axes.legend()
    figure.savefig(file, dpi=110)
    pyplot.close(figure)
    return file


def _end(task: str) -> int:
    return int(task.rpartition("-")[2]) + 1


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else float("nan")


def _pyplot() -> Any:
    try:
        import matplotlib
    except ImportError as error:
        raise EvalError("matplotlib is not installed; run through launch.py, which installs it") from error
    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot
