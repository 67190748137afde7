"""One process or several (torchrun): who does what, sums over all, and how an objective is spread over them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.nn.parallel import DistributedDataParallel

from sala_core.engine.engine import resolve_device
from sala_core.errors import TrainError
from sala_core.train.network.network import Layer
from sala_core.train.objectives import Objective


@dataclass(frozen=True, kw_only=True)
class Processes:
    """This process among all of them."""

    rank: int
    count: int
    device: torch.device

    @property
    def is_first(self) -> bool:
        """Whether this one writes."""
        return self.rank == 0

    def share(self, samples: range) -> range:
        """This process's samples: every count-th one. Raises TrainError where they cannot be shared evenly."""
        if len(samples) % self.count:
            raise TrainError(f"{len(samples)} rows cannot be shared by {self.count} processes; change rows")
        return samples[self.rank :: self.count]

    def total(self, tensor: Tensor) -> Tensor:
        """The sum over all processes."""
        if self.count > 1:
            dist.all_reduce(tensor)
        return tensor

    def any(self, flag: bool) -> bool:
        """Whether it is true in any process."""
        return bool(self.total(torch.tensor(float(flag), device=self.device)) > 0)

    def wait(self) -> None:
        """Until all have come here."""
        if self.count > 1:
            dist.barrier()

    def spread(self, objective: Objective, parallel: str) -> nn.Module:
        """The objective as it is to be called: itself, replicated (ddp), or sharded layer by layer (fsdp)."""
        if self.count == 1:
            return objective
        if parallel == "ddp":
            return DistributedDataParallel(objective, forward_sync_buffers=False)
        for module in list(objective.modules()):
            if isinstance(module, Layer):
                fully_shard(module)
        fully_shard(objective)
        return objective

    def unsynchronised(self, module: nn.Module, last: bool) -> AbstractContextManager[None]:
        """While the parts of a step but its last are computed, gradients stay where they are."""
        if isinstance(module, DistributedDataParallel) and not last:
            return module.no_sync()
        if isinstance(module, FSDPModule):
            module.set_requires_gradient_sync(last)
        return nullcontext()


@contextmanager
def open_processes(device: str) -> Iterator[Processes]:
    """Join the others where torchrun started several. device: auto, cpu or cuda. Raises DeviceError."""
    count, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    place = resolve_device(device)
    if count == 1:
        yield Processes(rank=0, count=1, device=place)
        return
    if place.type == "cuda":
        place = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(place)
    dist.init_process_group("nccl" if place.type == "cuda" else "gloo")
    try:
        yield Processes(rank=rank, count=count, device=place)
    finally:
        dist.destroy_process_group()
