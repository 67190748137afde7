"""Run a recipe from its first stage to its last. Each stage starts from the model folder of the previous one."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from filelock import FileLock, Timeout

from sala_core.errors import TrainError
from sala_core.model.checkpoint import load_config_json, load_weights
from sala_core.model.config import SalaConfig
from sala_core.stopping import never
from sala_core.text.tokenizer import Tokenizer
from sala_core.train import checkpoints
from sala_core.train.auxiliary_losses import AuxiliaryLosses
from sala_core.train.data.rows import Rows, check_mix
from sala_core.train.data.token_cache import TokenCache
from sala_core.train.events import CharactersReplaced, Event, LayerMeasured, LayersSelected, StageDone, TrainStopped
from sala_core.train.export import write_model
from sala_core.train.files import read_json, write_json
from sala_core.train.loop import CHECKPOINTS, Loop, Stage
from sala_core.train.network.copying import initialize_copying
from sala_core.train.network.network import Network
from sala_core.train.network.structure import (
    backbone_config,
    convert_tensors,
    hybrid_config,
    place_layers,
    scratch_config,
)
from sala_core.train.objectives import Alignment, Distillation, NextToken, Objective
from sala_core.train.processes import Processes, open_processes
from sala_core.train.recipe import AUXILIARY_LOSSES, Recipe, read_recipe
from sala_core.train.select import importances, measure_layers, report

MODEL = "model"
ALL = "all"
_CONTINUING = ("decay", "long")
"""Stages that continue the last checkpoint of the previous stage, optimizer states included."""


def train(
    recipe: Recipe | Path, out: Path, *, stage: str = ALL, device: str = "auto", should_stop: Callable[[], bool] = never
) -> Iterator[Event]:
    """Run all stages of a recipe, or one of them; yield events, last a TrainStopped if the run was stopped.

    Finished stages are not repeated. A stage that was stopped or killed resumes exactly at its last checkpoint. Under
    torchrun every process calls this. Raises SalaError: TrainError and other ModelErrors, LibraryError, DiskFullError.

    Args:
        recipe: a recipe, or its file, which is copied to `out`.
        out: folder of the run; only one run can use it at a time.
        stage: name of the stage to run, or `ALL`.
        device: auto, cpu or cuda.
        should_stop: called before every step.
    """
    file = recipe if isinstance(recipe, Path) else None
    recipe = read_recipe(recipe) if isinstance(recipe, Path) else recipe
    if stage != ALL and stage not in recipe.stages:
        raise TrainError(f"the recipe {recipe.name} has no stage {stage!r}; it has {', '.join(recipe.stages)}")
    for name, phases in recipe.phases.items():
        for phase in phases:
            check_mix(phase.mix, f"[{name}] mix")
    with open_processes(device) as processes, _locked(out, processes):
        if processes.is_first and file is not None:
            shutil.copyfile(file, out / "recipe.toml")
        run = _TrainRun(recipe, out, processes, should_stop)
        for name in recipe.stages if stage == ALL else (stage,):
            for event in run.stage(name):
                yield event
                if isinstance(event, TrainStopped):
                    return


@contextmanager
def _locked(out: Path, processes: Processes) -> Iterator[None]:
    """Make the folder and lock it against other runs. Raises TrainError."""
    if not processes.is_first:
        processes.barrier()
        yield
        return
    lock = FileLock(str(out / ".lock"))
    try:
        out.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout as error:
        raise TrainError(f"another process is training into {out}; wait for it, or give another --out") from error
    except OSError as error:
        raise TrainError(f"{out} cannot be written ({error.strerror}); give another --out") from error
    processes.barrier()
    try:
        yield
    finally:
        lock.release()


def load_network(folder: Path) -> Network:
    """Load a model folder as a network in float32. Raises ModelError."""
    config = SalaConfig.from_dict(load_config_json(folder))
    with torch.device("meta"):
        network = Network(config)
    weights = load_weights(folder, config, dtype=torch.float32, device="cpu", packed=False)
    network.load_state_dict(weights, assign=True)
    return network


class _TrainRun:
    """One call of `train`."""

    def __init__(self, recipe: Recipe, out: Path, processes: Processes, should_stop: Callable[[], bool]) -> None:
        self.recipe, self.out, self.processes, self.should_stop = recipe, out, processes, should_stop
        self.cache = recipe.data.cache or out / "data"
        self.tokenizer = Tokenizer.from_folder(recipe.tokenizer)

    def stage(self, name: str) -> Iterator[Event]:
        """Run one stage, unless it is done."""
        started, folder = time.monotonic(), self.out / name
        model = folder / MODEL
        if (model / "config.json").exists():
            self._check_same(Stage(recipe=self.recipe, name=name, folder=folder))
            yield StageDone(stage=name, model=model, seconds=0.0, reused=True)
            return
        if self.processes.is_first:
            folder.mkdir(parents=True, exist_ok=True)
        self.processes.barrier()
        finished = False
        for event in self._select(folder) if name == "select" else self._train(name, folder):
            finished = not isinstance(event, TrainStopped)
            yield event
        if finished:
            yield StageDone(stage=name, model=model, seconds=time.monotonic() - started)

    def _check_same(self, stage: Stage) -> None:
        facts = read_json(stage.folder / "stage.json")
        if facts["identity"] != stage.identity:
            raise TrainError(f"{stage.folder} was made with another recipe; give another --out, or delete this folder")

    def _train(self, name: str, folder: Path) -> Iterator[Event]:
        stage = Stage(recipe=self.recipe, name=name, folder=folder)
        objective = self._objective(name)
        rows, held_out = self._rows(name, objective.config)
        if rows.replaced:
            yield CharactersReplaced(stage=name, note=rows.replaced)
        loop = Loop(stage, objective, self.processes, rows, held_out, self._previous_checkpoints(name))
        for event in loop.run(self.should_stop):
            yield event
            if isinstance(event, TrainStopped):
                return
        if checkpoints.steps(folder / CHECKPOINTS)[-1:] != [stage.num_steps]:
            loop.save()
        tensors = loop.result()
        if self.processes.is_first:
            self._write(stage, objective.config, tensors)
        self.processes.barrier()

    def _rows(self, stage: str, config: SalaConfig) -> tuple[Rows, Rows]:
        """Training and held-out rows of a stage. The first process makes the token cache before the others open it."""
        tokenizer = self.tokenizer
        if tokenizer.vocab_size > config.vocab_size:
            raise TrainError(
                f"{self.recipe.tokenizer} has {tokenizer.vocab_size} token ids, the model only {config.vocab_size}"
            )
        if not self.processes.is_first:
            self.processes.barrier()
        cache = TokenCache.open(self.recipe.data, tokenizer, config.bos_token_id, self.cache)
        if self.processes.is_first:
            self.processes.barrier()
        rows = Rows(self.recipe, stage, tokenizer, cache)
        return rows, Rows(self.recipe, stage, tokenizer, cache, held_out=True)

    def _objective(self, name: str) -> Objective:
        recipe = self.recipe
        if name == "backbone":
            return self._next_token(name, self._random(backbone_config(recipe)))
        if name == "align":
            teacher = load_network(self._teacher())
            config = hybrid_config(teacher.config, recipe.hybrid, ())
            students = Network(config)
            students.load_state_dict(convert_tensors(teacher.state_dict(), config))
            return Alignment(students, teacher)
        previous = self._previous_model(name)
        network = self._scratch() if previous is None else load_network(previous)
        if name == "distill":
            return Distillation(network, load_network(self._teacher()))
        return self._next_token(name, network)

    def _next_token(self, name: str, network: Network) -> NextToken:
        share = self.recipe.training.target_share
        if not self.recipe.has_auxiliary_losses(name):
            return NextToken(network, share)
        if self.processes.count > 1:
            raise TrainError(f"{', '.join(AUXILIARY_LOSSES)} need a single process; run without torchrun")
        return AuxiliaryLosses(network, share, self.recipe.seed)

    def _random(self, config: SalaConfig) -> Network:
        network = Network(config)
        network.initialize(torch.Generator().manual_seed(self.recipe.seed), self.recipe.training.init_std)
        return network

    def _scratch(self) -> Network:
        config = scratch_config(self.recipe)
        if self.recipe.hybrid.begin == "random":
            return self._random(config)
        network = Network(config)
        initialize_copying(network, torch.Generator().manual_seed(self.recipe.seed))
        return network

    def _previous_model(self, name: str) -> Path | None:
        """Folder of the model that a stage starts from; None for random weights. Raises TrainError."""
        stages = self.recipe.stages
        index = stages.index(name)
        if index == 0:
            return self.recipe.start
        folder = self.out / stages[index - 1] / MODEL
        if not (folder / "config.json").exists():
            raise TrainError(f"{name} starts from the model of {stages[index - 1]}, which is not done; run that first")
        return folder

    def _teacher(self) -> Path:
        """Folder of the full-attention model. Raises TrainError."""
        if "backbone" in self.recipe.stages:
            folder = self.out / "backbone" / MODEL
            if not (folder / "config.json").exists():
                raise TrainError("the backbone is not done; run that stage first")
            return folder
        if self.recipe.start is None:
            raise TrainError("align and distill need a teacher; add [backbone], or start = the folder of a backbone")
        return self.recipe.start

    def _previous_checkpoints(self, name: str) -> Path | None:
        """Checkpoints that a stage continues; None if it starts from a model folder."""
        stages = self.recipe.stages
        index = stages.index(name)
        previous = stages[index - 1] if index else ""
        continues = name in _CONTINUING and previous in ("stable", *_CONTINUING)
        return self.out / previous / CHECKPOINTS if continues else None

    def _write(self, stage: Stage, config: SalaConfig, tensors: dict[str, torch.Tensor]) -> None:
        """Write stage.json and the model folder. Its config.json, written last, marks the stage as done."""
        write_json(
            stage.folder / "stage.json",
            {"identity": stage.identity, "settings": json.loads(self.recipe.identity(stage.name))},
        )
        write_model(
            stage.folder / MODEL,
            config,
            tensors,
            tokenizer=self.recipe.tokenizer,
            dtype=self.recipe.training.export_dtype,
            max_file_bytes=self.recipe.training.max_file_bytes,
        )

    def _select(self, folder: Path) -> Iterator[Event]:
        """Measure the layers if the placement needs scores, place them, write the hybrid, all in the first process."""
        select, hybrid = self.recipe.select, self.recipe.hybrid
        assert select is not None
        teacher, aligned = load_network(self._teacher()), load_network(self._aligned())
        num_layers, measured = teacher.config.num_hidden_layers, list[LayerMeasured]()
        _, held_out = self._rows("select", teacher.config)
        if self.processes.is_first and hybrid.needs_scores:
            measuring = measure_layers(
                teacher, aligned, held_out, select, self.recipe.training, self.processes.device, self.should_stop
            )
            for event in measuring:
                measured.append(event)
                yield event
        unfinished = self.processes.is_first and hybrid.needs_scores and len(measured) <= num_layers
        if self.processes.any(unfinished):
            yield TrainStopped(stage="select", step=len(measured))
            return
        if self.processes.is_first:
            scored = importances(measured, select.epsilon) if measured else []
            layers = place_layers(hybrid, num_layers, [one.score for one in scored] or None)
            config = hybrid_config(teacher.config, hybrid, layers)
            write_json(folder / "importance.json", report(measured, scored, layers))
            tensors = convert_tensors(teacher.cpu().state_dict(), config, aligned.cpu().state_dict())
            self._write(Stage(recipe=self.recipe, name="select", folder=folder), config, tensors)
            yield LayersSelected(layers=layers, report=folder / "importance.json")
        self.processes.barrier()

    def _aligned(self) -> Path:
        return self.out / "align" / MODEL
