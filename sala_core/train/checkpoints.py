"""Checkpoints of a stage: weights, optimizer, random numbers and position, by step. Files of limited size, no pickle.

`step-00000200.json` is written last and names the files: without it there is no checkpoint.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sala_core.train.files import read_json, read_tensors, split, write_json, write_tensors

_KEPT = 2


def save(folder: Path, step: int, tensors: Mapping[str, Tensor], facts: Mapping[str, Any], max_file_bytes: int) -> None:
    """Write a checkpoint and delete all but the newest two. Raises DiskFullError, LibraryError."""
    folder.mkdir(parents=True, exist_ok=True)
    stem, files = f"step-{step:08d}", []
    for number, part in enumerate(split(tensors, max_file_bytes), 1):
        files.append(f"{stem}-{number:04d}.safetensors")
        write_tensors(folder / files[-1], part, {"format": "pt"})
    write_json(folder / f"{stem}.json", {"step": step, "files": files, **facts})
    kept = {f"step-{number:08d}" for number in sorted(steps(folder))[-_KEPT:]}
    for file in folder.glob("step-*"):
        if file.name[: len(stem)] not in kept:
            file.unlink()


def steps(folder: Path) -> list[int]:
    """Steps of the checkpoints there are, ascending."""
    return sorted(int(file.stem.split("-")[1]) for file in folder.glob("step-*.json"))


def load(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """Tensors and facts of the newest checkpoint; None without one. Raises TrainError for a damaged file."""
    found = steps(folder)
    if not found:
        return None
    facts = read_json(folder / f"step-{found[-1]:08d}.json")
    tensors: dict[str, Tensor] = {}
    for name in facts["files"]:
        tensors |= read_tensors(folder / Path(name).name)
    return tensors, facts


def strip_prefix(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors named `prefix/...`, without it."""
    return {name.removeprefix(prefix + "/"): t for name, t in tensors.items() if name.startswith(prefix + "/")}


def random_state(device: torch.device) -> dict[str, Tensor]:
    """Of torch's generators, as tensors."""
    state = {"random/cpu": torch.get_rng_state()}
    if device.type == "cuda":
        state["random/cuda"] = torch.cuda.get_rng_state(device)
    return state


def restore_random_state(tensors: Mapping[str, Tensor], device: torch.device) -> None:
    """Go on with the random numbers of `random_state`."""
    torch.set_rng_state(tensors["random/cpu"])
    if device.type == "cuda" and "random/cuda" in tensors:
        torch.cuda.set_rng_state(tensors["random/cuda"], device)
