"""Means of the samples with 95% confidence intervals, as a table."""

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from random import Random
from typing import Any

_Z = 1.959964  # standard normal quantile of a 95% interval
_RESAMPLES = 2000
MEANS = "mean of tasks"
_NEEDLES = "mean of needle tasks"


@dataclass(frozen=True, kw_only=True)
class Row:
    """The mean of `metric` over the `n` samples of a task at a length; low ... high is its 95% confidence interval.

    Means of values 0 and 1 have Wilson's interval, others a bootstrapped one. The interval of a mean of tasks is
    computed from the intervals of the tasks (MOVER, method of variance estimates recovery, Zou and Donner 2008).
    """

    suite: str
    task: str
    length: int
    metric: str
    n: int
    mean: float
    low: float
    high: float


def summarize(suite: str, records: Sequence[Mapping[str, Any]]) -> list[Row]:
    """A row for every task, length and metric, ordered by length. Tasks are in the order of their first sample."""
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
    """The metrics of a sample: its scores, and the share of needles in five places where it was measured."""
    evidence = record.get("evidence")
    return {**record["scores"], **({"evidence_in_five": evidence["share"]} if evidence else {})}


def interval(values: Sequence[float]) -> tuple[float, float, float]:
    """(mean, low, high) with a 95% interval: Wilson's for values 0 and 1, else bootstrapped with a fixed seed."""
    mean = sum(values) / len(values)
    if set(values) <= {0.0, 1.0}:
        return mean, *_wilson(mean, len(values))
    return mean, *_bootstrap(values)


def write_csv(file: Path, rows: Iterable[Row]) -> None:
    """Write the table with four decimals. The file is replaced in one step."""
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
    """Rows of the mean over tasks. The mean score needs all tasks at a length; that of evidence those that have it."""
    rows = []
    for length in sorted({length for _, length, _ in groups}):
        for metric in ("score", "evidence_in_five"):
            by_task = [values for task in tasks if (values := groups.get((task, length, metric)))]
            if by_task and (len(by_task) == len(tasks) or metric != "score"):
                mean, low, high = _mean_of_tasks([interval(values) for values in by_task])
                pooled = [value for values in by_task for value in values]
                rows.append(_row(suite, name, length, metric, mean, low, high, pooled))
    return rows


def _mean_of_tasks(intervals: Sequence[tuple[float, float, float]]) -> tuple[float, float, float]:
    """(mean, low, high) of the mean of independent means, from the (mean, low, high) of each."""
    k = len(intervals)
    mean = sum(m for m, _, _ in intervals) / k
    down = math.sqrt(sum((m - low) ** 2 for m, low, _ in intervals)) / k
    up = math.sqrt(sum((high - m) ** 2 for m, _, high in intervals)) / k
    return mean, mean - down, mean + up


def _row(
    suite: str, task: str, length: int, metric: str, mean: float, low: float, high: float, values: Sequence[float]
) -> Row:
    return Row(suite=suite, task=task, length=length, metric=metric, n=len(values), mean=mean, low=low, high=high)


def _wilson(share: float, n: int) -> tuple[float, float]:
    center = share + _Z**2 / (2 * n)
    half = _Z * math.sqrt(share * (1 - share) / n + _Z**2 / (4 * n * n))
    scale = 1 + _Z**2 / n
    return max(0.0, (center - half) / scale), min(1.0, (center + half) / scale)


def _bootstrap(values: Sequence[float]) -> tuple[float, float]:
    """(low, high) of the mean, from samples drawn with replacement."""
    rng = Random(0)
    means = sorted(sum(rng.choices(values, k=len(values))) / len(values) for _ in range(_RESAMPLES))
    return means[int(0.025 * _RESAMPLES)], means[int(0.975 * _RESAMPLES) - 1]
