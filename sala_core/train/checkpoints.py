"""Checkpoints of a stage: weights, optimizer states, random states and position, by step. In safetensors, no pickle.

`step-00000200.json` lists the files of a checkpoint and is written last: without it the checkpoint does not exist.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sala_core.train.files import read_json, read_tensors, split_shards, write_json, write_tensors

_NUM_KEPT = 2


def save(folder: Path, step: int, tensors: Mapping[str, Tensor], facts: Mapping[str, Any], max_file_bytes: int) -> None:
    """Write a checkpoint and delete all but the newest two. Raises DiskFullError, LibraryError.

    Args:
        folder: of the stage's checkpoints.
        step: steps done.
        tensors: by name.
        facts: added to the JSON file.
        max_file_bytes: tensors are split into files of at most this size.
    """
    folder.mkdir(parents=True, exist_ok=True)
    stem, files = f"step-{step:08d}", []
    for number, shard in enumerate(split_shards(tensors, max_file_bytes), 1):
        files.append(f"{stem}-{number:04d}.safetensors")
        write_tensors(folder / files[-1], shard, {"format": "pt"})
    write_json(folder / f"{stem}.json", {"step": step, "files": files, **facts})
    kept = {f"step-{number:08d}" for number in sorted(steps(folder))[-_NUM_KEPT:]}
    for file in folder.glob("step-*"):
        if file.name[: len(stem)] not in kept:
            file.unlink()


def steps(folder: Path) -> list[int]:
    """Return the steps that have a checkpoint, ascending."""
    return sorted(int(file.stem.split("-")[1]) for file in folder.glob("step-*.json"))


def load(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """Return tensors and facts of the newest checkpoint, None if there is none. Raises TrainError if it is damaged."""
    existing = steps(folder)
    if not existing:
        return None
    facts = read_json(folder / f"step-{existing[-1]:08d}.json")
    tensors: dict[str, Tensor] = {}
    for name in facts["files"]:
        tensors |= read_tensors(folder / Path(name).name)
    return tensors, facts


def strip_prefix(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors with names `prefix/NAME` by NAME."""
    return {name.removeprefix(prefix + "/"): t for name, t in tensors.items() if name.startswith(prefix + "/")}


def random_state(device: torch.device) -> dict[str, Tensor]:
    """Return the states of torch's random generators as tensors."""
    state = {"random/cpu": torch.get_rng_state()}
    if device.type == "cuda":
        state["random/cuda"] = torch.cuda.get_rng_state(device)
    return state


def restore_random_state(tensors: Mapping[str, Tensor], device: torch.device) -> None:
    """Set the states that `random_state` returned."""
    torch.set_rng_state(tensors["random/cpu"])
    if device.type == "cuda" and "random/cuda" in tensors:
        torch.cuda.set_rng_state(tensors["random/cuda"], device)
