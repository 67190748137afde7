"""The training curve of a stage: a CSV file that grows with the run, and its plot as PNG."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from sala_core.train.files import write_text

COLUMNS = (
    "step", "tokens", "length", "loss", "learning_rate", "gradient_norm", "tokens_per_s",
    "valid_loss", "recall", "recalled",
)  # fmt: skip


class Curve:
    """`log.csv` of a stage. A run that resumes at `step` drops later rows, because it writes them again."""

    def __init__(self, file: Path, step: int) -> None:
        self.file = file
        rows = [row for row in read_curve(file) if int(row["step"]) <= step]
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_text(file, text.getvalue())

    def add(self, row: Mapping[str, float | int]) -> None:
        """Append a row. Missing columns stay empty."""
        values = {name: f"{value:.6g}" if isinstance(value, float) else value for name, value in row.items()}
        with self.file.open("a", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, COLUMNS, restval="", lineterminator="\n").writerow(values)


def read_curve(file: Path) -> list[dict[str, str]]:
    """Return the rows of a `log.csv`, none if the file does not exist."""
    if not file.exists():
        return []
    with file.open(newline="", encoding="utf-8") as stream:
        return [row for row in csv.DictReader(stream) if row["step"]]


def plot(file: Path, title: str) -> bool:
    """Plot `log.csv` as a PNG in the same folder. Return False without matplotlib, which the extra `train` installs."""
    if find_spec("matplotlib") is None:
        return False
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = read_curve(file)
    figure = Figure(figsize=(8, 6), layout="constrained")
    FigureCanvasAgg(figure)
    losses, recall = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    for axes, names in ((losses, ("loss", "valid_loss")), (recall, ("recall", "recalled"))):
        for name in names:
            points = [(int(row["tokens"]), float(row[name])) for row in rows if row[name]]
            if points:
                axes.plot(*zip(*points, strict=True), label=name, marker="." if len(points) < 40 else "")
        if axes.has_data():
            axes.legend()
    losses.set_title(title)
    losses.set_ylabel("nats per token")
    recall.set_ylabel("recall")
    recall.set_ylim(0, 1)
    recall.set_xlabel("tokens")
    figure.savefig(file.with_suffix(".png"), dpi=100)
    return True
