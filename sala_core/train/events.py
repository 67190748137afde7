"""What a training run tells while it goes on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class StageStarted:
    """A stage begins, or goes on after `step` of `steps`; nothing is left to do where they are equal."""

    stage: str
    step: int
    steps: int
    tokens: int
    num_parameters: int
    num_trained: int
    place: str


@dataclass(frozen=True, kw_only=True)
class StepDone:
    """A step that is told of. loss: of the objective; tokens: since the stage began; tokens_per_s: lately."""

    stage: str
    step: int
    steps: int
    tokens: int
    loss: float
    learning_rate: float
    gradient_norm: float
    tokens_per_s: float
    seconds_left: float


@dataclass(frozen=True, kw_only=True)
class Measured:
    """On held-out rows. recall: mean probability of the right token; recalled: share of likeliest tokens right."""

    stage: str
    step: int
    valid_loss: float
    recall: float
    recalled: float


@dataclass(frozen=True, kw_only=True)
class LayerMeasured:
    """A layer of the backbone swapped alone for its aligned lightning mixer; layer -1: none."""

    layer: int
    num_layers: int
    loss: float
    recall: float
    recalled: float


@dataclass(frozen=True, kw_only=True)
class LayersSelected:
    """The layers that stay softmax."""

    layers: tuple[int, ...]
    report: Path


@dataclass(frozen=True, kw_only=True)
class StageDone:
    """A stage's model is written. reused: by an earlier run."""

    stage: str
    model: Path
    seconds: float
    reused: bool = False


@dataclass(frozen=True, kw_only=True)
class TrainStopped:
    """The run was asked to stop; the same call goes on."""

    stage: str
    step: int


Event = StageStarted | StepDone | Measured | LayerMeasured | LayersSelected | StageDone | TrainStopped
