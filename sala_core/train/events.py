"""The events that a training run yields."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class StageStarted:
    """A stage starts, or resumes after step `step`.

    Args:
        stage: name of the stage.
        step, steps: steps done and steps of the whole stage.
        tokens: of the whole stage.
        num_parameters, num_trained: parameters of the model, and those that are trained.
        device: device type and, if there are several, the number of processes.
    """

    stage: str
    step: int
    steps: int
    tokens: int
    num_parameters: int
    num_trained: int
    device: str


@dataclass(frozen=True, kw_only=True)
class CharactersReplaced:
    """The stage's texts have characters that the tokenizer cannot write. note: how many, and which, for the user."""

    stage: str
    note: str


@dataclass(frozen=True, kw_only=True)
class StepDone:
    """A step that is logged.

    Args:
        stage: name of the stage.
        step, steps: steps done and steps of the whole stage.
        tokens: since the start of the stage.
        loss: mean of the objective's loss over the step.
        learning_rate, gradient_norm: of this step; the norm is the one before clipping.
        tokens_per_s: since the last logged step.
        seconds_left: estimate for the rest of the stage.
    """

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
    """A measurement on held-out rows.

    Args:
        stage, step: when it was taken.
        valid_loss: on held-out text: nats per token; mean squared error in `align`.
        recall: mean probability of the target in recall rows.
        recalled: share of targets that are the most probable token (top-1 accuracy).
    """

    stage: str
    step: int
    valid_loss: float
    recall: float
    recalled: float


@dataclass(frozen=True, kw_only=True)
class LayerMeasured:
    """The backbone measured with one layer's softmax mixer replaced by its aligned lightning mixer.

    Args:
        layer: the replaced layer; -1 for the unchanged backbone.
        num_layers: layers of the backbone.
        loss: nats per token of held-out text.
        recall, recalled: as in `Measured`.
    """

    layer: int
    num_layers: int
    loss: float
    recall: float
    recalled: float


@dataclass(frozen=True, kw_only=True)
class LayersSelected:
    """The layers that stay softmax attention. report: JSON file with the measurements."""

    layers: tuple[int, ...]
    report: Path


@dataclass(frozen=True, kw_only=True)
class StageDone:
    """The model folder of a stage is complete. reused: an earlier run wrote it."""

    stage: str
    model: Path
    seconds: float
    reused: bool = False


@dataclass(frozen=True, kw_only=True)
class TrainStopped:
    """The run was stopped on request. The same call resumes it."""

    stage: str
    step: int


Event = (
    StageStarted | CharactersReplaced | StepDone | Measured | LayerMeasured | LayersSelected | StageDone | TrainStopped
)
