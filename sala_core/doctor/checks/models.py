"""Which model is examined, and whether it can run here."""

import math
from pathlib import Path

import psutil
import torch

from sala_core.doctor.records import Examination
from sala_core.engine.device import resolve_device
from sala_core.engine.memory_plan import packed_dtype
from sala_core.errors import ModelError
from sala_core.model.checkpoint import EMBEDDED, expected_shapes, resolve_model, weight_bytes
from sala_core.model.config import SalaConfig
from sala_core.model.known_models import KNOWN_MODELS

_CPU_SHARE = 0.8  # of free memory that the weights of a model on a CPU may take
_GIB = 2**30


def examined_model(examination: Examination) -> str:
    """The model that is asked for. Where none is, a published model that is downloaded, else the embedded one."""
    if examination.model != EMBEDDED:
        return examination.model
    for known in KNOWN_MODELS:
        try:
            resolve_model(known.name)
        except ModelError:  # not downloaded, or in part
            continue
        return known.name
    return EMBEDDED


def num_parameters(config: SalaConfig) -> int:
    """Parameters of a model, counted from its config."""
    return sum(math.prod(shape) for shape in expected_shapes(config).values())


def reason_not_to_run(config: SalaConfig, examination: Examination, folder: Path | None = None) -> str:
    """Why a model cannot run here: "" if it can. A card's memory is checked when the model is loaded.

    folder: of its files. On a CPU their int4 weights stay packed, if the model is large. None: counted as not packed.
    """
    if resolve_device(examination.device).type == "cuda":
        return ""
    dtype = torch.bfloat16 if torch.ops.mkldnn._is_mkldnn_bf16_supported() else torch.float32
    needed, free = num_parameters(config) * dtype.itemsize, psutil.virtual_memory().available
    if folder is not None and packed_dtype(folder, config, torch.device("cpu")):
        needed = weight_bytes(folder, config, dtype=torch.bfloat16, packed="cpu")
    if needed <= _CPU_SHARE * free:
        return ""
    return f"needs a card: its weights take {needed / _GIB:.1f} GiB on a CPU, and {free / _GIB:.1f} GiB is free"
