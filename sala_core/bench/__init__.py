"""Benchmarks: operations and whole models against the ceilings of the device, and against full attention."""

from sala_core.bench.kernels.run import bench_kernels
from sala_core.bench.models.run import PARTS, ModelPlan, bench_model
from sala_core.bench.peers import PeerPlan, PeerRow, bench_peers, draw_peers
from sala_core.bench.plots import draw_kernels, draw_models
from sala_core.bench.records import KernelRow, ModelRow
from sala_core.errors import BenchError

__all__ = [
    "PARTS",
    "BenchError",
    "KernelRow",
    "ModelPlan",
    "ModelRow",
    "PeerPlan",
    "PeerRow",
    "bench_kernels",
    "bench_model",
    "bench_peers",
    "draw_kernels",
    "draw_models",
    "draw_peers",
]
