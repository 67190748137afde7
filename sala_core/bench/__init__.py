"""Measuring: operations and whole models against the ceilings of the device, and against full attention."""

from collections.abc import Sequence
from pathlib import Path

from sala_core.bench.child import BenchError
from sala_core.bench.kernels.run import bench_kernels
from sala_core.bench.models.run import PARTS, ModelPlan, bench_model
from sala_core.bench.records import KernelRow, ModelRow

__all__ = [
    "PARTS",
    "BenchError",
    "KernelRow",
    "ModelPlan",
    "ModelRow",
    "bench_kernels",
    "bench_model",
    "draw_kernels",
    "draw_models",
]


def draw_kernels(rows: Sequence[KernelRow], table: Path) -> list[Path]:
    """Pictures beside the table; returns their files."""
    from sala_core.bench.plots import plot_kernels

    return plot_kernels(rows, table.parent, table.stem)


def draw_models(rows: Sequence[ModelRow], table: Path) -> list[Path]:
    """Pictures beside the table; returns their files."""
    from sala_core.bench.plots import plot_models

    return plot_models(rows, table.parent, table.stem)
