"""One process or several (torchrun): samples of each, sums over all, and parallel training of an objective."""

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

from sala_core.engine.device import resolve_device
from sala_core.errors import TrainError
from sala_core.train.network.network import Layer
from sala_core.train.objectives import Objective


@dataclass(frozen=True, kw_only=True)
class Processes:
    """This process and the group it belongs to."""

    rank: int
    count: int
    device: torch.device

    @property
    def is_first(self) -> bool:
        """Whether this process is the one that writes files."""
        return self.rank == 0

    def share(self, samples: range) -> range:
        """Return this process's samples: every `count`-th one. Raises TrainError if they cannot be shared evenly."""
        if len(samples) % self.count:
            raise TrainError(f"{len(samples)} rows cannot be shared by {self.count} processes; change rows")
        return samples[self.rank :: self.count]

    def total(self, tensor: Tensor) -> Tensor:
        """Sum a tensor over all processes; in place if there are several."""
        if self.count > 1:
            dist.all_reduce(tensor)
        return tensor

    def any(self, flag: bool) -> bool:
        """Return whether `flag` is true in any process."""
        return bool(self.total(torch.tensor(float(flag), device=self.device)) > 0)

    def barrier(self) -> None:
        """Wait until all processes have called this."""
        if self.count > 1:
            dist.barrier()

    def parallelize(self, objective: Objective, parallel: str) -> nn.Module:
        """Return the module to call: the objective itself, replicated (`ddp`), or sharded layer by layer (`fsdp`)."""
        if self.count == 1:
            return objective
        if parallel == "ddp":
            return DistributedDataParallel(objective, forward_sync_buffers=False)
        for module in list(objective.modules()):
            if isinstance(module, Layer):
                fully_shard(module)
        fully_shard(objective)
        return objective

    def gradient_sync(self, module: nn.Module, last: bool) -> AbstractContextManager[None]:
        """Context of one micro-batch: processes exchange gradients only in the last one of a step."""
        if isinstance(module, DistributedDataParallel) and not last:
            return module.no_sync()
        if isinstance(module, FSDPModule):
            module.set_requires_gradient_sync(last)
        return nullcontext()


@contextmanager
def open_processes(device: str) -> Iterator[Processes]:
    """Join the group of processes if torchrun started several. device: auto, cpu or cuda. Raises DeviceError."""
    count, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    target = resolve_device(device)
    if count == 1:
        yield Processes(rank=0, count=1, device=target)
        return
    if target.type == "cuda":
        target = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(target)
    dist.init_process_group("nccl" if target.type == "cuda" else "gloo")
    try:
        yield Processes(rank=rank, count=count, device=target)
    finally:
        dist.destroy_process_group()
