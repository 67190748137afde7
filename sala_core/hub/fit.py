"""What fits this machine: the longest text, by the memory plan, for a model that is here or could be."""

from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Literal

import psutil
import torch

from sala_core.engine.device import card_problem
from sala_core.engine.engine import resolve_dtype
from sala_core.engine.memory_budget import MAX_TOKENS
from sala_core.engine.memory_plan import (
    DeviceSettings,
    ModelSize,
    device_settings,
    packed_dtype,
    plan_memory,
    settings_for_card,
)
from sala_core.errors import DeviceError
from sala_core.model.checkpoint import expected_shapes, weight_bytes
from sala_core.model.config import SalaConfig
from sala_core.model.packing import Packing, packing_for
from sala_core.model.state import KvKind

INT4_GROUP_SIZE = 128
"""Inputs that share a scale in the weights that `launch.py quantize` makes by default."""

CPU_SPEED = (
    "On a CPU the 9B model in int4 reads about 18 tokens per second on two cores with AVX-512 and writes about 2: a "
    "paper takes minutes, a book a night. What was read is kept, and never read twice."
)
"""Measured (assets/benchmarks/int4-on-cpu.md), in words for the lists of models."""
_LARGE_PARAMETERS = 999_500_000

_LEFT_ALONE = ("o_gate", "z_proj")  # by `launch.py quantize` by default, like everything outside the layers
_OTHER_PROGRAMS_SHARE = 16  # a card keeps 1/16 for the desktop, as `settings_for_card` counts
_RESERVE_BYTES = 256 << 20  # of a CPU's free memory, as `check_budget` keeps it
_MIN_TOKENS = 1024


@dataclass(frozen=True, kw_only=True)
class Machine:
    """The device that would compute, and its memory."""

    device: Literal["cuda", "cpu"]
    name: str
    total_bytes: int
    free_bytes: int
    note: str
    """Why a card that is here cannot compute; "" if nothing is wrong."""

    @property
    def usable_bytes(self) -> int:
        """Bytes that the program may take: all but a share of a card, or what is free now in the system's memory."""
        if self.device == "cuda":
            return self.total_bytes - self.total_bytes // _OTHER_PROGRAMS_SHARE
        return max(0, self.free_bytes - _RESERVE_BYTES)


@dataclass(frozen=True, kw_only=True)
class Fit:
    """How much text a model can read on a machine."""

    weights_bytes: int
    """Of the weights in memory. On a CPU, the int4 weights of a small model are dequantized."""
    kv: Literal["bf16", "int8", "fp8"]
    """Number format of keys and values that the program would choose; bf16 stands for the model's own."""
    chunk_tokens: int
    max_tokens: int
    """Longest text in tokens; 0 if the model does not fit."""
    needed_bytes: int
    """Memory for a text of `max_tokens`; for the shortest text, if the model does not fit."""


def this_machine(device: str = "auto") -> Machine:
    """The machine's card if it can compute, else its CPU. Compiles nothing.

    device: "auto", "cpu" or "cuda". Raises DeviceError for another word, and for "cuda" without a card that computes.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise DeviceError(f"unknown device {device!r}; choose auto, cpu or cuda")
    problem = card_problem() if device != "cpu" else None
    if device == "cpu" or problem is not None:
        if problem is not None and device == "cuda":
            raise DeviceError(f"{problem.reason}; {problem.advice}, or choose --device cpu")
        memory = psutil.virtual_memory()
        note = f"{problem.reason}; {problem.advice}" if problem is not None and problem.is_card_here else ""
        return Machine(device="cpu", name="CPU", total_bytes=memory.total, free_bytes=memory.available, note=note)
    free, total = torch.cuda.mem_get_info(0)
    return Machine(device="cuda", name=torch.cuda.get_device_name(0), total_bytes=total, free_bytes=free, note="")


def size_of_folder(folder: Path, config: SalaConfig, stored_dtype: str | None, machine: Machine) -> ModelSize:
    """The size in memory of a model that is here, from the headers of its files.

    Args:
        folder: the model's folder.
        config: its configuration.
        stored_dtype: "dtype" of its config.json.
        machine: where it would run.

    Raises CheckpointError for files that are missing or damaged.
    """
    place = torch.device(machine.device)
    dtype = resolve_dtype(packed_dtype(folder, config, place), stored_dtype, place)
    packing = packing_for(expected_shapes(config), place, dtype)
    num_bytes = weight_bytes(folder, config, dtype=dtype, packed=packing)
    is_packed = packing is not None and num_bytes < weight_bytes(folder, config, dtype=dtype, packed=False)
    return ModelSize(config=config, itemsize=dtype.itemsize, weights_bytes=num_bytes, packed=is_packed)


def size_of_config(config: SalaConfig, machine: Machine, *, int4: bool) -> ModelSize:
    """The size in memory of a model that is not here, in bf16 or in int4 as `launch.py quantize` makes it."""
    place = torch.device(machine.device)
    packing = packing_for(expected_shapes(config), place, torch.bfloat16) if int4 else None
    dtype = torch.bfloat16 if packing else resolve_dtype(None, "bfloat16", place)
    num_bytes = sum(
        _int4_bytes(shape, packing) if packing and is_quantized(name, shape) else prod(shape) * dtype.itemsize
        for name, shape in expected_shapes(config).items()
    )
    return ModelSize(config=config, itemsize=dtype.itemsize, weights_bytes=num_bytes, packed=packing is not None)


def is_quantized(name: str, shape: tuple[int, ...]) -> bool:
    """Whether `launch.py quantize` gives a tensor int4 weights by default."""
    return len(shape) == 2 and ".layers." in name and not any(kind in name for kind in _LEFT_ALONE)


def _int4_bytes(shape: tuple[int, ...], packing: Packing) -> int:
    """Bytes of a packed matrix: scales of two bytes, and on a CPU four more for their rounded form."""
    num_out, num_in = shape
    return num_out * num_in // 2 + -(num_in // -INT4_GROUP_SIZE) * num_out * (2 if packing == "card" else 6)


def speed_note(machine: Machine, num_parameters: int) -> str:
    """What to expect of the speed of a model with so many parameters; "" where there is nothing to warn of."""
    return CPU_SPEED if machine.device == "cpu" and num_parameters >= _LARGE_PARAMETERS else ""


def fit(size: ModelSize, machine: Machine, kv: KvKind | Literal["auto"] = "auto") -> Fit:
    """The longest text that a model of this size can read on a machine, by the memory plan."""
    if machine.device == "cuda":
        settings = settings_for_card(size, machine.total_bytes, kv)
    else:
        settings = device_settings(size, torch.device("cpu"), kv)
    longest = _longest_text(size, machine, settings)
    needed = _needed_bytes(size, machine, settings, max(longest, _MIN_TOKENS))
    return Fit(
        weights_bytes=size.weights_bytes,
        kv="bf16" if settings.kv == "plain" else settings.kv,
        chunk_tokens=settings.chunk_tokens,
        max_tokens=longest,
        needed_bytes=needed,
    )


def _longest_text(size: ModelSize, machine: Machine, settings: DeviceSettings) -> int:
    """The longest text in tokens; 0 if not even _MIN_TOKENS fit."""
    low, high = _MIN_TOKENS - 1, MAX_TOKENS
    while low < high:
        middle = (low + high + 1) // 2
        if _needed_bytes(size, machine, settings, middle) <= machine.usable_bytes:
            low = middle
        else:
            high = middle - 1
    return low if low >= _MIN_TOKENS else 0


def _needed_bytes(size: ModelSize, machine: Machine, settings: DeviceSettings, num_tokens: int) -> int:
    return plan_memory(size, num_tokens, settings, on_card=machine.device == "cuda").total_bytes
