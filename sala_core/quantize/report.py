"""What a quantization tells while it runs and at its end; the end is also saved beside the model."""

import sys
import time
from dataclasses import asdict, dataclass, field
from typing import Any

import psutil
import torch

REPORT_FILE = "quantize_report.json"


@dataclass(frozen=True, kw_only=True)
class MatrixReport:
    """One matrix. error: |W'x - Wx| / |Wx| over the calibration text; error_rtn: the same, rounded to nearest."""

    name: str
    num_out: int
    num_in: int
    error: float
    error_rtn: float
    damping: float


@dataclass(frozen=True, kw_only=True)
class MatrixDone:
    """A matrix of layer `index` (-1: lm_head) is quantized."""

    index: int
    matrix: MatrixReport


@dataclass(frozen=True, kw_only=True)
class LayerDone:
    """One layer, or lm_head (`index` -1). reused: done by an earlier run."""

    index: int
    mixer: str
    matrices: tuple[MatrixReport, ...]
    seconds: float
    reused: bool = False

    def to_dict(self) -> dict[str, Any]:
        """As JSON types."""
        return asdict(self)

    @classmethod
    def from_dict(cls, saved: dict[str, Any]) -> "LayerDone":
        """Back from `to_dict`."""
        matrices = tuple(MatrixReport(**matrix) for matrix in saved["matrices"])
        return cls(**{**saved, "matrices": matrices, "reused": True})


@dataclass(frozen=True, kw_only=True)
class Planned:
    """Before the first layer. left: reason -> modules left alone. num_layers_done: by an earlier run."""

    num_layers: int
    num_matrices: int
    left: dict[str, list[str]]
    calibration_texts: int
    calibration_tokens: int
    held_out_tokens: int
    device: str
    dtype: str
    num_layers_done: int


@dataclass(frozen=True, kw_only=True)
class Perplexity:
    """exp of the mean next-token loss on the held-out text: with the weights as they were, as written, and rounded
    to nearest. divergence: how far the foreseen words are from those before, mean KL in nats a token."""

    before: float
    after: float
    rtn: float
    divergence_after: float
    divergence_rtn: float
    tokens: int


@dataclass(frozen=True, kw_only=True)
class Report:
    """Everything measured; `quantize_report.json`."""

    source: str
    settings: dict[str, Any]
    left: dict[str, list[str]]
    calibration: dict[str, Any]
    held_out: dict[str, Any]
    layers: tuple[LayerDone, ...]
    perplexity: Perplexity
    device: str
    dtype: str
    seconds: float
    cpu_seconds: float
    peak_memory_bytes: int
    peak_device_bytes: int
    bytes_before: int
    bytes_after: int

    def to_dict(self) -> dict[str, Any]:
        """As JSON types."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class QuantizeFinished:
    """The model is complete."""

    report: Report


@dataclass(kw_only=True)
class Clock:
    """Wall and processor time of this run; memory at its largest."""

    started: float = field(default_factory=time.monotonic)
    cpu_started: float = field(default_factory=time.process_time)

    @property
    def seconds(self) -> float:
        return round(time.monotonic() - self.started, 3)

    @property
    def cpu_seconds(self) -> float:
        return round(time.process_time() - self.cpu_started, 3)


def peak_memory_bytes() -> int:
    """The most memory this process has held, its mapped files included."""
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    import resource

    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return largest if sys.platform == "darwin" else largest * 1024


def peak_device_bytes(device: torch.device) -> int:
    """The most memory torch has held on the card; 0 on the CPU."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0
