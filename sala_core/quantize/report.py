"""Events and measurements of a quantization. The final `Report` is also saved beside the model."""

import sys
import time
from dataclasses import asdict, dataclass, field
from typing import Any

import psutil
import torch

REPORT_FILE = "quantize_report.json"


@dataclass(frozen=True, kw_only=True)
class MatrixReport:
    """One matrix. error: |W'x - Wx| / |Wx| over the calibration text; error_rtn: the same for round to nearest.

    damping: the share of the mean diagonal of the Hessian that was added to the diagonal.
    """

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
    """A layer, or lm_head (`index` -1), is done. reused: an earlier run did it."""

    index: int
    mixer: str
    matrices: tuple[MatrixReport, ...]
    seconds: float
    reused: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON types."""
        return asdict(self)

    @classmethod
    def from_dict(cls, saved: dict[str, Any]) -> "LayerDone":
        """Read what `to_dict` returned, as the result of an earlier run."""
        matrices = tuple(MatrixReport(**matrix) for matrix in saved["matrices"])
        return cls(**{**saved, "matrices": matrices, "reused": True})


@dataclass(frozen=True, kw_only=True)
class Planned:
    """The first event, before any layer. left: reason -> modules left alone. num_layers_done: by an earlier run."""

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
    """Quality on the held-out text with the original weights (before), the quantized ones (after), and RTN.

    before, after, rtn: perplexity, exp of the mean next-token loss. divergence_after, divergence_rtn: mean KL
    divergence from the next-token probabilities of the original weights, nats per token. tokens: tokens scored.
    """

    before: float
    after: float
    rtn: float
    divergence_after: float
    divergence_rtn: float
    tokens: int


@dataclass(frozen=True, kw_only=True)
class Report:
    """All measurements of a run: the content of `quantize_report.json`."""

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
        """Return the fields as JSON types."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class QuantizeFinished:
    """The last event: the model is complete."""

    report: Report


@dataclass(kw_only=True)
class Clock:
    """Wall time and processor time since its creation, in seconds."""

    started: float = field(default_factory=time.monotonic)
    cpu_started: float = field(default_factory=time.process_time)

    @property
    def seconds(self) -> float:
        return round(time.monotonic() - self.started, 3)

    @property
    def cpu_seconds(self) -> float:
        return round(time.process_time() - self.cpu_started, 3)


def peak_memory_bytes() -> int:
    """Return the peak resident memory of this process, memory-mapped files included."""
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    import resource

    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return largest if sys.platform == "darwin" else largest * 1024


def peak_device_bytes(device: torch.device) -> int:
    """Return the peak memory that torch has allocated on the card; 0 for the CPU."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0
