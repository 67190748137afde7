"""What one process measures: a model, a prompt length and an answer, with the engine and the prompt for it."""

import gc
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from sala_core.bench.random_weights import Weights, sala_weights, weight_bytes
from sala_core.bench.records import ModelRow
from sala_core.bench.sizes import Size, sala_config
from sala_core.engine.engine import Engine
from sala_core.engine.memory_plan import ModelSize, device_settings, free_device_bytes
from sala_core.errors import MemoryBudgetError
from sala_core.model.checkpoint import EMBEDDED, load_weights, resolve_model
from sala_core.model.forward import SalaModel
from sala_core.model.state import KvKind

Model = Literal["sala", "full"]


@dataclass(frozen=True, kw_only=True)
class AnswerJob:
    """One measurement: prefill of `length` random tokens, then decoding of `new_tokens`.

    model: "sala" or the full-attention baseline.
    weights: "int4", "bf16" or "fp32".
    kv: storage of keys and values in SALA; the baseline's are always in the dtype of activations.
    runs: None for the default, which stops early if the runs are long.
    warm: compile and allocate with a short prompt first.
    """

    model: Model
    size: Size
    length: int
    weights: str
    kv: KvKind | Literal["auto"]
    device: str
    new_tokens: int
    runs: int | None = None
    warm: bool = True

    @property
    def dtype(self) -> torch.dtype:
        """Of activations."""
        return torch.float32 if self.weights == "fp32" else torch.bfloat16

    @property
    def row(self) -> ModelRow:
        """The row with the columns that are known before the measurement."""
        return ModelRow(
            what="answer",
            model=self.model,
            size=self.size,
            length=self.length,
            weights=self.weights,
            kv=self.kv_name("plain" if self.model == "full" else self.kv),
        )

    @property
    def warm_tokens(self) -> int:
        """Tokens of the prompt that warms up. On a CPU the 9B size reads for minutes what a card reads in seconds."""
        return 256 if self.size == "9b" and self.device == "cpu" else 16_384

    def kv_name(self, kind: str) -> str:
        """The value of the column `kv`: the dtype instead of "plain"."""
        return kind if kind != "plain" else "fp32" if self.weights == "fp32" else "bf16"


def random_ids(num_tokens: int, vocab_size: int, seed: int = 1) -> Tensor:
    """Token ids [n] int64 on the CPU."""
    return torch.randint(vocab_size, (num_tokens,), generator=torch.Generator().manual_seed(seed))


def open_engine(job: AnswerJob) -> tuple[Engine, Weights]:
    """A SALA engine and its weights: random ones, or those of the embedded model as they are stored."""
    device = torch.device(job.device)
    config = sala_config(job.size)
    weights: Weights
    if job.size == "embedded" and job.weights != "int4":
        weights = load_weights(resolve_model(EMBEDDED), config, dtype=job.dtype, device=device)
    else:
        _check_fits(job, device)
        weights = sala_weights(config, job.dtype, device, packed=job.weights == "int4")
    kv = device_settings(ModelSize.of(config, weights, job.dtype), device, job.kv).kv
    return Engine(SalaModel(config, weights, kv=kv), name=f"bench {job.size}"), weights


def _check_fits(job: AnswerJob, device: torch.device) -> None:
    """Raise MemoryBudgetError if the random weights do not fit into free memory. Made from shapes alone."""
    shapes = sala_weights(sala_config(job.size), job.dtype, torch.device("meta"), packed=job.weights == "int4")
    needed, free = weight_bytes(shapes), free_device_bytes(device)
    if needed > free:
        raise MemoryBudgetError(
            f"the weights take {needed / 2**30:.1f} GiB and {free / 2**30:.1f} GiB is free; close other programs"
        )


def release(device: torch.device) -> None:
    """Return unused memory to the device."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
