"""A recipe: one TOML file that says how a model is made, from nothing or from a checkpoint to the finished hybrid.

Tables: `[model]` as in config.json, `[hybrid]`, `[data]`, `[training]`, and one for each stage that is to run, a table
or, where it has several phases, an array of tables (`[[long]]`).
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
"""In the order in which they run (arXiv:2602.11761, table 1)."""
_SPARSE_STAGES = ("long", "sft")
_MEASURED = "select"
_FREE = ("compile", "recompute", "micro_rows", "parallel", "save_every", "log_every", "max_file_bytes")
"""Settings that a run may change when it goes on."""
GUIDING = ("block_loss", "memory_loss", "look_loss")
"""A phase's factors of the losses of `guidance`."""
_ADDED = {"begin": "random", "block_loss": 0.0, "memory_loss": 0.0, "look_loss": 0.0, "target_share": 1.0}
"""Settings that came later, and what was before them: runs begun without them can still go on."""
_GUIDED_STAGES = ("backbone", "stable", "decay", "long", "sft")


@dataclass(frozen=True, kw_only=True)
class Hybrid:
    """What the backbone becomes. placement: softmax layers by `select`'s score, evenly, by the worst score, or listed.

    rotary: hype (lightning layers alone), everywhere, or none. softmax_share: of all layers, first and last counted.
    begin: how a hybrid without a backbone starts: with random weights, or with a circuit that copies in them.
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
        named = not isinstance(self.placement, str) or self.placement in ("importance", "even", "worst")
        _require(named, f"hybrid.placement must be importance, even, worst or layers, found {self.placement!r}")

    @property
    def needs_scores(self) -> bool:
        """Whether layers must be measured to be placed."""
        return self.placement in ("importance", "worst")


@dataclass(frozen=True, kw_only=True)
class Data:
    """Files and folders of text. held_out: parts of file names that no training step sees; cache: for token ids.

    python_library: the standard library of the Python that runs, as texts of the kind `code`.
    """

    texts: tuple[Path, ...]
    held_out: tuple[str, ...]
    cache: Path | None = None
    python_library: bool = False


@dataclass(frozen=True, kw_only=True)
class Training:
    """What all stages share. Learning rates are those of width `dim_model_base` (muP); muon's are `muon_ratio` times as
    high. micro_rows: rows that a process computes at once, 0 for all. validate_every: steps; 0 for never. target_share:
    of a row's tokens that are learnt from, answers first, then text at random."""

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
    """A stretch of a stage at one length. rows: of a step, over all processes; mix: weights of the kinds of rows.

    The rate goes from learning_rate to final_learning_rate by the schedule, after warmup_steps from 0. sparse: whether
    blocks are chosen; without it, only in `long` and `sft`. block_loss, memory_loss, look_loss: factors of the
    losses of `guidance`, which teach where an answer stands.
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
        for name in GUIDING:
            _require(getattr(self, name) >= 0, f"{name} must not be negative, found {getattr(self, name)}")
        _require(bool(self.mix) and min(self.mix.values()) >= 0, f"mix must hold weights, found {self.mix}")

    @property
    def step_tokens(self) -> int:
        """Tokens of one step."""
        return self.rows * self.length

    @property
    def is_guided(self) -> bool:
        """Whether it has a loss beside the next token's."""
        return any(getattr(self, name) > 0 for name in GUIDING)


@dataclass(frozen=True, kw_only=True)
class Select:
    """How layers are measured, each swapped alone. recall: kinds of rows; epsilon: in nats, of the score's divisor."""

    rows: int = 16
    length: int = 512
    recall: tuple[str, ...] = ("key_value", "needle")
    epsilon: float = 1e-3


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A whole recipe; model: the keys of [model], {} where `start` has a config. stages: in the order they run."""

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
            bool(self.model) != (self.start is not None), "a recipe needs either [model] or start, a model's folder"
        )
        known = {f.name for f in fields(SalaConfig)} - {"mixer_types", "sparse_config"}
        unknown = sorted(set(self.model) - known)
        _require(not unknown, f"[model] has no key {unknown[:1]}; it knows {', '.join(sorted(known))}")
        _require(bool(self.stages), f"a recipe needs a stage: one of {', '.join(STAGES)}")
        if "select" in self.stages:
            _require("align" in self.stages, "select measures what align has learnt; add [align]")
        if self.hybrid.begin != "random":
            _require(
                bool(self.model) and self.stages[0] == "stable",
                f'begin = "{self.hybrid.begin}" is for [model] without a backbone; begin the recipe at [stable]',
            )
        for stage in self.stages:
            guided = stage not in _GUIDED_STAGES and self.is_guided(stage)
            _require(not guided, f"[{stage}] does not learn the next token: it has none of {', '.join(GUIDING)}")

    @property
    def stages(self) -> tuple[str, ...]:
        """Names of the stages that this recipe has, in order."""
        return tuple(name for name in STAGES if name in self.phases or (name == _MEASURED and self.select is not None))

    def is_sparse(self, stage: str, phase: Phase) -> bool:
        """Whether softmax layers choose blocks."""
        return stage in _SPARSE_STAGES if phase.sparse is None else phase.sparse

    def is_guided(self, stage: str) -> bool:
        """Whether any of a stage's phases has a loss beside the next token's."""
        return any(phase.is_guided for phase in self.phases.get(stage, ()))

    def identity(self, stage: str) -> str:
        """JSON of all that a stage's result depends on; a run goes on only with the same. Folders may have moved."""
        training = {name: value for name, value in _settings(self.training).items() if name not in _FREE}
        phases = [_settings(phase) for phase in self.phases.get(stage, ())]
        data: dict[str, Any] = {"texts": [path.name for path in self.data.texts], "held_out": self.data.held_out}
        if self.data.python_library:
            data["python_library"] = platform.python_version()
        hybrid = _settings(self.hybrid)
        if stage in ("backbone", "align"):  # every layer is aligned: which ones stay softmax comes later
            hybrid = {} if stage == "backbone" else {**hybrid, "placement": None, "softmax_share": None}
        facts = {
            "seed": self.seed, "model": self.model, "hybrid": hybrid, "data": data, "training": training,
            "phases": phases, "select": asdict(self.select) if self.select and stage == _MEASURED else None,
        }  # fmt: skip
        return json.dumps(facts, sort_keys=True)


def read_recipe(file: Path) -> Recipe:
    """Read and check a recipe. Raises TrainError that names the key."""
    try:
        raw = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise TrainError(f"the recipe {file} cannot be read ({error.strerror}); give a TOML file") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise TrainError(f"the recipe {file} is no TOML: {error}") from error
    if "phases" in raw:
        raise TrainError(f"{file.name} has no table 'phases'; name the stages themselves")
    phases = {stage: raw.pop(stage) for stage in STAGES if stage in raw and stage != _MEASURED}
    raw["phases"] = {stage: tables if isinstance(tables, list) else [tables] for stage, tables in phases.items()}
    return read_table(Recipe, {"name": file.stem, **raw}, file.name, file.resolve().parent)


def _settings(record: Hybrid | Training | Phase) -> dict[str, Any]:
    """Of an identity: all but those of `_ADDED` that are what they were before."""
    return {name: value for name, value in asdict(record).items() if name not in _ADDED or value != _ADDED[name]}


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise TrainError(message)
