"""A recipe: one TOML file that says how a model is trained, from random weights or a checkpoint to the finished hybrid.

Its tables are `[model]` with the keys of config.json, `[hybrid]`, `[data]`, `[training]`, and one table for each stage
to run. A stage with several phases is an array of tables (`[[long]]`).
"""

from __future__ import annotations

import json
import platform
import tomllib
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from sala_core.errors import TrainError
from sala_core.model.config import SalaConfig, SparseConfig
from sala_core.train.tables import read_table

STAGES = ("backbone", "align", "select", "distill", "stable", "decay", "long", "sft")
"""All stages, in the order in which they run (arXiv:2602.11761, table 1)."""
_SPARSE_STAGES = ("long", "sft")
_NEXT_TOKEN_STAGES = ("backbone", "stable", "decay", "long", "sft")
_SELECT = "select"
_CHANGEABLE = ("compile", "recompute", "micro_rows", "parallel", "save_every", "log_every", "max_file_bytes")
"""Settings of `Training` that may change when a run resumes: they do not change what is computed."""
AUXILIARY_LOSSES = ("block_loss", "memory_loss", "look_loss")
"""Fields of `Phase`: the factors of the losses in `auxiliary_losses`."""
_IDENTITY_DEFAULTS = {"begin": "random", "block_loss": 0.0, "memory_loss": 0.0, "look_loss": 0.0, "target_share": 1.0}
"""Settings that are part of an identity only if they differ from these values. Runs without them stay valid."""


@dataclass(frozen=True, kw_only=True)
class Hybrid:
    """The architecture that the backbone is converted to.

    Args:
        placement: which layers stay softmax attention: by the score of `select` (`importance`), evenly spaced
            (`even`), by the worst score (`worst`), or the listed layers.
        softmax_share: softmax layers as a share of all layers; the first and the last layer are counted.
        rotary: `hype` (in lightning layers only), `everywhere` or `none`.
        output_gates: gate the output of both kinds of attention.
        output_norm, qk_norm: norms on the output and on q and k of lightning attention.
        begin: initial weights of a hybrid without a backbone: random, or random with a copying circuit.
        sparse_config: block selection of the softmax layers.
    """

    placement: str | tuple[int, ...] = "importance"
    softmax_share: float = 0.25
    rotary: Literal["hype", "everywhere", "none"] = "hype"
    output_gates: bool = True
    output_norm: bool = True
    qk_norm: bool = True
    begin: Literal["random", "copying"] = "random"
    sparse_config: SparseConfig = field(default_factory=SparseConfig)

    def __post_init__(self) -> None:
        _require(0 < self.softmax_share <= 1, f"hybrid.softmax_share must be in (0, 1], found {self.softmax_share}")
        is_known = not isinstance(self.placement, str) or self.placement in ("importance", "even", "worst")
        _require(
            is_known, f"hybrid.placement must be importance, even, worst or a list of layers, found {self.placement!r}"
        )

    @property
    def needs_scores(self) -> bool:
        """Whether the placement depends on the scores that `select` measures."""
        return self.placement in ("importance", "worst")


@dataclass(frozen=True, kw_only=True)
class Data:
    """The training text.

    Args:
        texts: files and folders of text.
        held_out: files with one of these strings in their names are held out from every training step.
        cache: folder for token ids; None for `data` in the folder of the run.
        python_library: also read the standard library of the running Python, as text of the kind `code`.
    """

    texts: tuple[Path, ...]
    held_out: tuple[str, ...]
    cache: Path | None = None
    python_library: bool = False


@dataclass(frozen=True, kw_only=True)
class Training:
    """Settings that all stages share.

    Args:
        optimizer: `muon` updates the matrices of layers with Muon and the rest with AdamW.
        muon_ratio: learning rate of Muon divided by the phase's learning rate. Adam's rates are those of a model of
            width `dim_model_base` (muP).
        betas: of AdamW.
        weight_decay: for the matrices of layers.
        clip: maximum norm of the gradient; 0 for no clipping.
        dtype: of matrix products; weights and optimizer states are float32.
        init_std: standard deviation of random initial weights.
        micro_rows: rows that a process computes at once (gradient accumulation); 0 for all.
        recompute: recompute activations in the backward pass instead of keeping them.
        compile: compile the objective with `torch.compile`.
        parallel: several processes replicate (`ddp`) or shard (`fsdp`) the model.
        save_every, log_every, validate_every: in steps; validate_every 0 for never.
        validation_rows: held-out rows of each kind in a measurement.
        validation_recall: kind of rows on which recall is measured.
        export_dtype: of the weights in a stage's model folder.
        max_file_bytes: larger models and checkpoints are written in several files.
        target_share: share of a row's tokens that the loss is computed on: answers first, then text at random.
    """

    optimizer: Literal["adamw", "muon"] = "adamw"
    muon_ratio: float = 10.0
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.1
    clip: float = 1.0
    dtype: Literal["float32", "bfloat16"] = "bfloat16"
    init_std: float = 0.1
    micro_rows: int = 0
    recompute: bool = False
    compile: bool = False
    parallel: Literal["ddp", "fsdp"] = "ddp"
    save_every: int = 200
    log_every: int = 10
    validate_every: int = 100
    validation_rows: int = 8
    validation_recall: str = "key_value"
    export_dtype: Literal["float32", "bfloat16"] = "float32"
    max_file_bytes: int = 2 << 30
    target_share: float = 1.0

    def __post_init__(self) -> None:
        for name in ("save_every", "log_every", "max_file_bytes", "validation_rows"):
            _require(getattr(self, name) > 0, f"training.{name} must be positive, found {getattr(self, name)}")
        share = self.target_share
        _require(0 < share <= 1, f"training.target_share must be in (0, 1], found {share}")


@dataclass(frozen=True, kw_only=True)
class Phase:
    """A part of a stage with one row length.

    Args:
        steps: optimizer steps.
        length: tokens of a row.
        rows: rows of a step, over all processes.
        learning_rate, final_learning_rate, schedule: the learning rate goes from the first to the last by the schedule.
        warmup_steps: steps in which the learning rate rises from 0.
        mix: kind of rows -> weight with which it is drawn.
        sparse: select blocks in the softmax layers; None for yes in `long` and `sft`, no in other stages.
        block_loss, memory_loss, look_loss: factors of the losses in `auxiliary_losses`, which teach the model where an
            answer stands.
    """

    steps: int
    length: int
    rows: int
    learning_rate: float
    final_learning_rate: float | None = None
    schedule: Literal["constant", "linear", "cosine", "exponential"] = "constant"
    warmup_steps: int = 0
    mix: dict[str, float] = field(default_factory=lambda: {"text": 1.0})
    sparse: bool | None = None
    block_loss: float = 0.0
    memory_loss: float = 0.0
    look_loss: float = 0.0

    def __post_init__(self) -> None:
        for name in ("steps", "length", "rows"):
            _require(getattr(self, name) > 0, f"{name} must be positive, found {getattr(self, name)}")
        _require(self.learning_rate > 0, f"learning_rate must be positive, found {self.learning_rate}")
        final = self.final_learning_rate
        _require(
            final is None or final > 0 or self.schedule != "exponential", "an exponential schedule cannot end at 0"
        )
        for name in AUXILIARY_LOSSES:
            _require(getattr(self, name) >= 0, f"{name} must not be negative, found {getattr(self, name)}")
        _require(bool(self.mix) and min(self.mix.values()) >= 0, f"mix must hold weights, found {self.mix}")

    @property
    def step_tokens(self) -> int:
        """Tokens of one step."""
        return self.rows * self.length

    @property
    def has_auxiliary_losses(self) -> bool:
        """Whether the phase has a loss besides next-token cross-entropy."""
        return any(getattr(self, name) > 0 for name in AUXILIARY_LOSSES)


@dataclass(frozen=True, kw_only=True)
class Select:
    """How `select` measures each layer.

    Args:
        rows: rows of each kind.
        length: tokens of a row.
        recall: kinds of rows on which recall is measured.
        epsilon: nats that are added to the divisor of the score.
    """

    rows: int = 16
    length: int = 512
    recall: tuple[str, ...] = ("key_value", "needle")
    epsilon: float = 1e-3


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A whole recipe.

    Args:
        name: name of the file without its ending.
        tokenizer: folder of the tokenizer.
        data: the training text.
        seed: of everything random.
        start: folder of the model that the first stage begins with; None for random weights.
        model: the keys of [model]; {} if `start` is given.
        hybrid: the architecture after conversion.
        training: settings of all stages.
        phases: stage -> its phases; `select` has none.
        select: settings of the stage `select`; None if the recipe does not have it.
    """

    name: str
    tokenizer: Path
    data: Data
    seed: int = 0
    start: Path | None = None
    model: dict[str, Any] = field(default_factory=dict)
    hybrid: Hybrid = field(default_factory=Hybrid)
    training: Training = field(default_factory=Training)
    phases: dict[str, tuple[Phase, ...]] = field(default_factory=dict)
    select: Select | None = None

    def __post_init__(self) -> None:
        _require(
            bool(self.model) != (self.start is not None),
            "a recipe needs either [model] or start, a model's folder",
        )
        known = {f.name for f in fields(SalaConfig)} - {"mixer_types", "sparse_config"}
        unknown = sorted(set(self.model) - known)
        _require(not unknown, f"[model] has no key {unknown[:1]}; it knows {', '.join(sorted(known))}")
        _require(bool(self.stages), f"a recipe needs at least one stage of {', '.join(STAGES)}")
        if "select" in self.stages:
            _require("align" in self.stages, "select measures the mixers that align has trained; add [align]")
        if self.hybrid.begin != "random":
            _require(
                bool(self.model) and self.stages[0] == "stable",
                f'begin = "{self.hybrid.begin}" is for a [model] without a backbone; make [stable] the first stage',
            )
        for stage in self.stages:
            _require(
                stage in _NEXT_TOKEN_STAGES or not self.has_auxiliary_losses(stage),
                f"[{stage}] does not learn the next token, so it cannot have {', '.join(AUXILIARY_LOSSES)}",
            )

    @property
    def stages(self) -> tuple[str, ...]:
        """Names of the recipe's stages, in the order in which they run."""
        return tuple(name for name in STAGES if name in self.phases or (name == _SELECT and self.select is not None))

    def is_sparse(self, stage: str, phase: Phase) -> bool:
        """Whether softmax layers select blocks in this phase of `stage`."""
        return stage in _SPARSE_STAGES if phase.sparse is None else phase.sparse

    def has_auxiliary_losses(self, stage: str) -> bool:
        """Whether any phase of `stage` has a loss besides next-token cross-entropy."""
        return any(phase.has_auxiliary_losses for phase in self.phases.get(stage, ()))

    def identity(self, stage: str) -> str:
        """JSON of everything that a stage's result depends on. A run resumes only if it is equal. Folders may move."""
        training = {name: value for name, value in _settings(self.training).items() if name not in _CHANGEABLE}
        phases = [_settings(phase) for phase in self.phases.get(stage, ())]
        data: dict[str, Any] = {"texts": [path.name for path in self.data.texts], "held_out": self.data.held_out}
        if self.data.python_library:
            data["python_library"] = platform.python_version()
        hybrid = _settings(self.hybrid)
        if stage in ("backbone", "align"):  # all layers are aligned, whatever the placement
            hybrid = {} if stage == "backbone" else {**hybrid, "placement": None, "softmax_share": None}
        facts = {
            "seed": self.seed, "model": self.model, "hybrid": hybrid, "data": data, "training": training,
            "phases": phases, "select": asdict(self.select) if self.select and stage == _SELECT else None,
        }  # fmt: skip
        return json.dumps(facts, sort_keys=True)


def read_recipe(file: Path) -> Recipe:
    """Read and check a recipe. Raises TrainError, which names the wrong key."""
    try:
        raw = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise TrainError(f"the recipe {file} cannot be read ({error.strerror}); give a TOML file") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise TrainError(f"the recipe {file} is not valid TOML: {error}") from error
    if "phases" in raw:
        raise TrainError(f"{file.name} has no table 'phases'; give each stage a table of its own")
    phases = {stage: raw.pop(stage) for stage in STAGES if stage in raw and stage != _SELECT}
    raw["phases"] = {stage: tables if isinstance(tables, list) else [tables] for stage, tables in phases.items()}
    return read_table(Recipe, {"name": file.stem, **raw}, file.name, file.resolve().parent)


def _settings(record: Hybrid | Training | Phase) -> dict[str, Any]:
    """The fields that are part of an identity: all but those at their value in `_IDENTITY_DEFAULTS`."""
    defaults = _IDENTITY_DEFAULTS
    return {name: value for name, value in asdict(record).items() if name not in defaults or value != defaults[name]}


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise TrainError(message)
