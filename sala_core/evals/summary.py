"""Means of the samples with their intervals, as a table."""

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from random import Random
from typing import Any

_Z = 1.959964  # of a 95% interval
_RESAMPLES = 2000
MEANS = "mean of tasks"
_NEEDLES = "mean of needle tasks"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One figure: of `metric` over the samples of a task at a length; low ... high is its 95% interval.

    Shares of right answers have Wilson's interval, other figures a bootstrapped one; means of tasks have theirs from
    those of the tasks, by recovering variances (MOVER, Zou and Donner 2008).
    """

    suite: str
    task: str
    length: int
    metric: str
    n: int
    mean: float
    low: float
    high: float


def summarise(suite: str, records: Sequence[Mapping[str, Any]]) -> list[Row]:
    """A row for every task, length and metric, tasks in the order of their first sample."""
    groups: dict[tuple[str, int, str], list[float]] = {}
    for record in records:
        for metric, value in metrics_of(record).items():
            groups.setdefault((record["label"] or record["task"], record["length"], metric), []).append(value)
    rows = [
        _row(suite, task, length, metric, *interval(values), values)
        for (task, length, metric), values in groups.items()
    ]
    tasks = {task for task, _, _ in groups}
    if len(tasks) > 1 and suite in ("ruler", "mrcr"):
        rows += _means(suite, groups, MEANS, sorted(tasks))
    needles = sorted(task for task in tasks if task.startswith("niah_"))
    if len(needles) > 1:
        rows += _means(suite, groups, _NEEDLES, needles)
    return sorted(rows, key=lambda row: (row.length, row.metric != "score"))


def metrics_of(record: Mapping[str, Any]) -> dict[str, float]:
    """All that was scored of a sample."""
    seen = record.get("evidence")
    return {**record["scores"], **({"evidence_in_five": seen["share"]} if seen else {})}


def interval(values: Sequence[float]) -> tuple[float, float, float]:
    """(mean, low, high): a 95% interval, by Wilson for shares of 0 and 1, else bootstrapped; seeded."""
    mean = sum(values) / len(values)
    if set(values) <= {0.0, 1.0}:
        return mean, *_wilson(mean, len(values))
    return mean, *_bootstrap(values)


def write_csv(file: Path, rows: Iterable[Row]) -> None:
    """The table in one step, numbers with four decimals."""
    temporary = file.with_suffix(".tmp")
    with temporary.open("w", encoding="utf-8", newline="") as out:
        writer = csv.writer(out, lineterminator="\n")
        names = [field.name for field in fields(Row)]
        writer.writerow(names)
        for row in rows:
            values = asdict(row)
            writer.writerow([f"{v:.4f}" if isinstance(v := values[name], float) else v for name in names])
    temporary.replace(file)


def _means(
    suite: str, groups: Mapping[tuple[str, int, str], Sequence[float]], name: str, tasks: Sequence[str]
) -> list[Row]:
    """The mean of the tasks' mean scores, at each length that has them all."""
    rows = []
    for length in sorted({length for _, length, _ in groups}):
        for metric in ("score", "evidence_in_five"):
            found = [groups.get((task, length, metric)) for task in tasks]
            values = [one for one in found if one]
            if values and (len(values) == len(tasks) or metric != "score"):
                mean, low, high = _mean_of([interval(one) for one in values])
                together = [value for one in values for value in one]
                rows.append(_row(suite, name, length, metric, mean, low, high, together))
    return rows


def _mean_of(figures: Sequence[tuple[float, float, float]]) -> tuple[float, float, float]:
    """(mean, low, high) of independent figures' mean, from each one's."""
    k = len(figures)
    mean = sum(m for m, _, _ in figures) / k
    down = math.sqrt(sum((m - low) ** 2 for m, low, _ in figures)) / k
    up = math.sqrt(sum((high - m) ** 2 for m, _, high in figures)) / k
    return mean, mean - down, mean + up


def _row(
    suite: str, task: str, length: int, metric: str, mean: float, low: float, high: float, values: Sequence[float]
) -> Row:
    return Row(suite=suite, task=task, length=length, metric=metric, n=len(values), mean=mean, low=low, high=high)


def _wilson(share: float, n: int) -> tuple[float, float]:
    centre = share + _Z**2 / (2 * n)
    half = _Z * math.sqrt(share * (1 - share) / n + _Z**2 / (4 * n * n))
    scale = 1 + _Z**2 / n
    return max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale)


def _bootstrap(values: Sequence[float]) -> tuple[float, float]:
    """Of the mean, samples drawn with replacement."""
    rng = Random(0)
    means = sorted(sum(rng.choices(values, k=len(values))) / len(values) for _ in range(_RESAMPLES))
    return means[int(0.025 * _RESAMPLES)], means[int(0.975 * _RESAMPLES) - 1]
