"""The training loop: resumable to the step, logged to CSV."""

from __future__ import annotations

import csv
import os
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import torch
from torch import Tensor

from sala_core.config import SalaConfig
from sala_core.train.embedded.data import Batch, Phase, make_batch
from sala_core.train.embedded.network import EmbeddedNetwork
from sala_core.train.embedded.objective import answer_accuracy, choose_targets, training_loss
from sala_core.train.embedded.optimizer import Optimizer
from sala_core.train.tasks import TaskMaker

CHECKPOINT = "checkpoint.pt"
BANK_WINDOWS = 8192
_WARMUP_STEPS = 50
_LOG_EVERY = 10


def phase_file(name: str) -> str:
    """Where a run keeps the weights at the end of the phase `name`."""
    return f"after-{name}.pt"


class Trainer:
    """One run in one folder: `checkpoint.pt` (network, optimizer, step, pooled keys) and `log.csv`."""

    def __init__(
        self,
        folder: Path,
        config: SalaConfig,
        maker: TaskMaker,
        phases: list[Phase],
        seed: int,
        *,
        compiled: bool = True,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(seed)
        self.folder, self.maker, self.phases, self.seed = folder, maker, phases, seed
        self.network = EmbeddedNetwork(config)
        self.optimizer = Optimizer(self.network, matrix_lr=0.02, adam_lr=2e-3, weight_decay=0.01)
        num_sparse = sum(layer.is_softmax for layer in self.network.layers)
        self.bank = torch.randn(num_sparse, config.num_key_value_heads, BANK_WINDOWS, config.head_dim) * 0.01
        self.step = 0
        if (folder / CHECKPOINT).exists():
            self._restore()
        self.reader = ThreadPoolExecutor(1)
        self.coming: Future[Batch] | None = None
        self.loss = torch.compile(training_loss, dynamic=False) if compiled else training_loss

    def _restore(self) -> None:
        saved = torch.load(self.folder / CHECKPOINT, weights_only=True)
        self.network.load_state_dict(saved["network"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.bank, self.step = saved["bank"], saved["step"]

    def save(self) -> None:
        """Write the checkpoint beside the old one, then put it in its place."""
        saved = {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "bank": self.bank,
            "step": self.step,
        }
        temporary = self.folder / f"{CHECKPOINT}.new"
        torch.save(saved, temporary)
        os.replace(temporary, self.folder / CHECKPOINT)

    def phase_at(self, step: int) -> tuple[Phase, float]:
        """The phase of a step and its learning-rate factor."""
        before = 0
        for phase in self.phases:
            if step < before + phase.steps:
                share = (step - before) / phase.steps
                rate = phase.rates[0] + (phase.rates[1] - phase.rates[0]) * share
                return phase, rate * min(1.0, (step + 1) / _WARMUP_STEPS)
            before += phase.steps
        raise IndexError(f"step {step} is past the last phase ({before} steps)")

    def train_step(self) -> tuple[Tensor, Tensor, Tensor]:
        """One update; returns the next-token loss, the block loss and the memory loss."""
        phase, rate = self.phase_at(self.step)
        batch = self.coming.result() if self.coming else make_batch(self.maker, phase, self.seed, self.step)
        following = self.step + 1
        if following < sum(one.steps for one in self.phases):
            self.coming = self.reader.submit(make_batch, self.maker, self.phase_at(following)[0], self.seed, following)
        generator = torch.Generator().manual_seed(self.step)
        targets = choose_targets(batch.weights, generator)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            factors = (torch.tensor(phase.block_loss), torch.tensor(phase.memory_loss))
            total, text, blocks, memory, kept = self.loss(self.network, batch, targets, self.bank, *factors)
        total.backward()
        self.optimizer.step(rate)
        kept = kept[:, :, torch.randperm(kept.shape[2], generator=generator)[: BANK_WINDOWS // 16]].float()
        self.bank = torch.cat([self.bank[:, :, kept.shape[2] :], kept], 2)
        self.step += 1
        return text, blocks, memory

    def run(self, *, until: float, probes: list[Batch], save_every: int, probe_every: int) -> None:
        """Train to the end of the last phase, or to the time `until` (seconds since the epoch) if sooner."""
        total = sum(phase.steps for phase in self.phases)
        started, tokens = time.time(), 0
        with (self.folder / "log.csv").open("a", newline="") as file:
            log = csv.writer(file)
            while self.step < total and time.time() < until:
                phase, rate = self.phase_at(self.step)
                text, blocks, memory = self.train_step()
                tokens += phase.rows * phase.length
                if self.step % _LOG_EVERY == 0:
                    speed = tokens / (time.time() - started)
                    losses = (f"{loss:.4f}" for loss in (text, blocks, memory))
                    log.writerow([self.step, phase.name, f"{rate:.4f}", *losses, f"{speed:.0f}"])
                    file.flush()
                    started, tokens = time.time(), 0
                if self.step % probe_every == 0:
                    log.writerow(["probe", self.step, *self.probe(probes)])
                    file.flush()
                if self.step % save_every == 0:
                    self.save()
                if self.step == total or self.phase_at(self.step)[0] is not phase:
                    torch.save(self.network.state_dict(), self.folder / phase_file(phase.name))
        self.save()

    def probe(self, probes: list[Batch]) -> list[str]:
        """Answer accuracies (whole answers, tokens) on held-out conversations."""
        with torch.autocast("cpu", dtype=torch.bfloat16):
            results = [answer_accuracy(self.network, batch) for batch in probes]
        return [f"{whole:.3f}/{tokens:.3f}" for whole, tokens, _ in results]
