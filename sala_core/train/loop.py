"""The training loop of all stages but `select`: steps, measurements, checkpoints. A killed stage resumes exactly."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from sala_core.errors import TrainError
from sala_core.train import checkpoints
from sala_core.train.curves import Curve, plot
from sala_core.train.data.batches import Batch
from sala_core.train.data.rows import TEXT, Rows
from sala_core.train.data.token_cache import num_windows
from sala_core.train.events import Event, Measured, StageStarted, StepDone, TrainStopped
from sala_core.train.objectives import Objective
from sala_core.train.optimizers import Optimizers, gather, rate_at, shard_like
from sala_core.train.processes import Processes
from sala_core.train.recipe import Phase, Recipe

CHECKPOINTS = "checkpoints"


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A stage of a recipe, and the folder of its files."""

    recipe: Recipe
    name: str
    folder: Path

    @property
    def phases(self) -> tuple[Phase, ...]:
        return self.recipe.phases[self.name]

    @property
    def num_steps(self) -> int:
        return sum(phase.steps for phase in self.phases)

    def position(self, step: int) -> tuple[Phase, int, int, int]:
        """Return the phase of a step, the step within it, and the number of rows and tokens before it."""
        rows = tokens = 0
        for phase in self.phases:
            if step < phase.steps:
                return phase, step, rows + step * phase.rows, tokens + step * phase.step_tokens
            step -= phase.steps
            rows, tokens = rows + phase.steps * phase.rows, tokens + phase.steps * phase.step_tokens
        return self.phases[-1], self.phases[-1].steps, rows, tokens

    def tokens_before(self, step: int) -> int:
        return self.position(step)[3]

    @property
    def identity(self) -> str:
        """Hash of everything that the result depends on."""
        return hashlib.blake2b(self.recipe.identity(self.name).encode(), digest_size=16).hexdigest()


class Loop:
    """Trains one stage. Everything random depends on the recipe's seed and the numbers of the rows alone."""

    def __init__(
        self,
        stage: Stage,
        objective: Objective,
        processes: Processes,
        rows: Rows,
        held_out: Rows,
        previous: Path | None,
    ) -> None:
        """Restore the newest checkpoint of the stage, if there is one. Raises TrainError.

        Args:
            stage: what to train.
            objective: the loss and its parameters.
            processes: this process and the others.
            rows, held_out: rows for training and for measurements.
            previous: checkpoints of the previous stage. A new stage starts with its weights and optimizer states; None
                for the weights of `objective`.
        """
        self.stage, self.objective, self.processes = stage, objective, processes
        self.rows, self.held_out = rows, held_out
        self.training, config = stage.recipe.training, objective.config
        for phase in stage.phases:
            processes.share(range(phase.rows))
        objective.to(processes.device)
        self.num_parameters = sum(p.numel() for p in objective.network.parameters())
        self.num_trained = sum(p.numel() for _, p in objective.trained_parameters())
        objective.network.recompute = self.training.recompute
        self.module = self._parallelize()
        self.named = dict(objective.trained_parameters())
        self.optimizers = Optimizers(self.named.items(), self.training, config.hidden_size / config.dim_model_base)
        self.step = 0
        self._restore(previous)

    def _parallelize(self) -> nn.Module:
        if self.training.compile:
            torch.compiler.reset()  # forget the shapes of earlier stages: dynamo stops compiling after eight
            self.objective.compile(dynamic=False)
        return self.processes.parallelize(self.objective, self.training.parallel)

    def _restore(self, previous: Path | None) -> None:
        """Load the newest checkpoint of this stage, else of `previous`."""
        newest = checkpoints.load(self.stage.folder / CHECKPOINTS)
        if newest is None:
            last = checkpoints.load(previous) if previous is not None else None
            if last is not None:
                self._load(last[0])
            return
        tensors, facts = newest
        if facts["identity"] != self.stage.identity:
            raise TrainError(
                f"{self.stage.folder} was started with another recipe; run that recipe again, or give another --out"
            )
        if set(checkpoints.strip_prefix("weights", tensors)) != set(self.named):
            raise TrainError(f"the checkpoint in {self.stage.folder} has other parameters; give another --out")
        self._load(tensors)
        checkpoints.restore_random_state(tensors, self.processes.device)
        self.step = int(facts["step"])

    @torch.no_grad()
    def _load(self, tensors: dict[str, Tensor]) -> None:
        """Copy the weights, optimizer states and buffers of a checkpoint that this stage has too."""
        weights = checkpoints.strip_prefix("weights", tensors)
        for name in weights.keys() & self.named.keys():
            self.named[name].copy_(shard_like(weights[name], self.named[name]))
        states = checkpoints.strip_prefix("optimizer", tensors)
        self.optimizers.load({name: state for name, state in states.items() if name.rsplit("/", 1)[0] in self.named})
        saved, buffers = checkpoints.strip_prefix("remembered", tensors), self.objective.saved_buffers()
        for name in saved.keys() & buffers.keys():
            buffers[name].copy_(saved[name])

    def weights(self) -> dict[str, Tensor]:
        """Return the trained parameters, gathered on the CPU. All processes must call it together."""
        return {name: gather(parameter) for name, parameter in self.named.items()}

    def result(self) -> dict[str, Tensor]:
        """Return all tensors of the resulting model, gathered on the CPU. All processes must call it together."""
        return {**{name: gather(tensor) for name, tensor in self.objective.frozen_tensors().items()}, **self.weights()}

    def save(self) -> None:
        """Write a checkpoint of the current step. All processes must call it together."""
        tensors = {f"weights/{name}": tensor for name, tensor in self.weights().items()}
        tensors |= {f"optimizer/{name}": tensor for name, tensor in self.optimizers.state().items()}
        tensors |= {f"remembered/{name}": gather(tensor) for name, tensor in self.objective.saved_buffers().items()}
        tensors |= checkpoints.random_state(self.processes.device)
        if self.processes.is_first:
            folder = self.stage.folder / CHECKPOINTS
            facts = {"identity": self.stage.identity, "rows": self.stage.position(self.step)[2]}
            checkpoints.save(folder, self.step, tensors, facts, self.training.max_file_bytes)
        self.processes.barrier()

    def run(self, should_stop: Callable[[], bool]) -> Iterator[Event]:
        """Train to the last step, or save a checkpoint and stop when `should_stop` returns true in any process."""
        stage, steps = self.stage, self.stage.num_steps
        yield self._started()
        curve = Curve(stage.folder / "log.csv", self.step) if self.processes.is_first else None
        since, tokens = time.monotonic(), 0
        with ThreadPoolExecutor(1) as reader:
            next_batch = reader.submit(self._batch, self.step)
            while self.step < steps:
                if self.processes.any(should_stop()):
                    self.save()
                    yield TrainStopped(stage=stage.name, step=self.step)
                    return
                batch, phase = next_batch.result(), stage.position(self.step)[0]
                next_batch = self._prefetch(reader)
                rate, (loss, norm) = self._rate(), self._train(batch, phase)
                tokens += phase.step_tokens
                is_logged = self.step % self.training.log_every == 0 or self.step == steps
                is_measured = self._is_due(self.training.validate_every)
                row: dict[str, float | int] = {
                    "step": self.step, "tokens": stage.tokens_before(self.step), "length": phase.length,
                    "loss": loss, "learning_rate": rate, "gradient_norm": norm,
                }  # fmt: skip
                if is_logged or is_measured:
                    speed = tokens / max(1e-9, time.monotonic() - since)
                    row["tokens_per_s"] = speed
                    yield self._step_done(row, speed)
                    since, tokens = time.monotonic(), 0
                if is_measured and (measured := self.measure(phase)):
                    row |= {"valid_loss": measured.valid_loss, "recall": measured.recall, "recalled": measured.recalled}
                    yield measured
                    since = time.monotonic()
                if curve is not None and (is_logged or is_measured):
                    curve.add(row)
                if self._is_due(self.training.save_every):
                    self.save()
        if curve is not None:
            plot(curve.file, f"{stage.recipe.name}: {stage.name}")

    def _started(self) -> StageStarted:
        count = self.processes.count
        return StageStarted(
            stage=self.stage.name,
            step=self.step,
            steps=self.stage.num_steps,
            tokens=self.stage.tokens_before(self.stage.num_steps),
            num_parameters=self.num_parameters,
            num_trained=self.num_trained,
            device=f"{self.processes.device.type}" + (f", {count} processes" if count > 1 else ""),
        )

    def _step_done(self, row: dict[str, float | int], speed: float) -> StepDone:
        left = self.stage.tokens_before(self.stage.num_steps) - row["tokens"]
        return StepDone(
            stage=self.stage.name,
            step=self.step,
            steps=self.stage.num_steps,
            tokens=int(row["tokens"]),
            loss=float(row["loss"]),
            learning_rate=float(row["learning_rate"]),
            gradient_norm=float(row["gradient_norm"]),
            tokens_per_s=speed,
            seconds_left=left / speed,
        )

    def _is_due(self, every: int) -> bool:
        return every > 0 and (self.step % every == 0 or self.step == self.stage.num_steps)

    def _rate(self) -> float:
        phase, step, *_ = self.stage.position(self.step)
        return rate_at(phase, step)

    def _batch(self, step: int) -> Batch:
        phase, _, first, _ = self.stage.position(step)
        samples = self.processes.share(range(first, first + phase.rows))
        return self.rows.batch(samples, phase.length, phase.mix, with_positions=self.objective.needs_positions)

    def _prefetch(self, reader: ThreadPoolExecutor) -> Future[Batch]:
        """The batch of the next step, which is made while this one is computed."""
        return reader.submit(self._batch, min(self.step + 1, self.stage.num_steps - 1))

    def _train(self, batch: Batch, phase: Phase) -> tuple[float, float]:
        """Do one optimizer step; return the loss and the gradient norm before clipping, over all processes."""
        device, count = self.processes.device, self.processes.count
        batch = batch.to(device)
        if self.objective.every_token:
            batch = batch._replace(weights=torch.ones_like(batch.weights))
        self.objective.prepare(phase, self.stage.recipe.is_sparse(self.stage.name, phase))
        num_rows, weight = len(batch.ids), self.processes.total(batch.weights.sum()).clamp(min=1e-6)
        total = torch.zeros((), device=device)
        size = self.training.micro_rows or num_rows
        for start in range(0, num_rows, size):
            with self.processes.gradient_sync(self.module, last=start + size >= num_rows):
                with self._autocast():
                    loss = self.module(*batch.rows(slice(start, start + size)))
                (loss * (count / weight)).backward()  # DDP and FSDP average gradients over processes
            total += loss.detach()
        norm = nn.utils.clip_grad_norm_(list(self.named.values()), self.training.clip or float("inf"))
        self.optimizers.step(self._rate())
        self.step += 1
        loss_now, norm_now = (self.processes.total(total) / weight).item(), float(gather(norm))
        if loss_now != loss_now:
            raise TrainError(
                f"{self.stage.name} diverged at step {self.step}: the loss is not a number; lower learning_rate"
            )
        return loss_now, norm_now

    def _autocast(self) -> torch.autocast:
        enabled = self.training.dtype == "bfloat16"
        return torch.autocast(self.processes.device.type, dtype=torch.bfloat16, enabled=enabled)

    @torch.no_grad()
    def measure(self, phase: Phase) -> Measured | None:
        """Measure loss on held-out text and recall on generated rows, at the phase's length; None without such text."""
        if num_windows(len(self.held_out.tokens) - phase.length, phase.length) < 1:
            return None
        sums = []
        for kind in (TEXT, self.training.validation_recall):
            count = -(-self.training.validation_rows // self.processes.count) * self.processes.count
            share, total = self.processes.share(range(count)), torch.zeros(4, device=self.processes.device)
            size = self.training.micro_rows or len(share)
            for start in range(0, len(share), size):
                batch = self.held_out.batch(share[start : start + size], phase.length, {kind: 1.0})
                ids, weights, _ = batch.to(self.processes.device)
                with self._autocast():
                    total += self.module(ids, weights, measure=True)
            sums.append(self.processes.total(total).tolist())
        (loss, tokens, *_), (_, targets, probability, hits) = sums
        targets = max(targets, 1e-6)
        return Measured(
            stage=self.stage.name,
            step=self.step,
            valid_loss=loss / tokens,
            recall=probability / targets,
            recalled=hits / targets,
        )
