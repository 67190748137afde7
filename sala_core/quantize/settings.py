"""The settings of a quantization: checked once, and compared when an unfinished run continues."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

from sala_core.errors import QuantizeError
from sala_core.model.gptq import BITS, FORMATS, GPTQConfig
from sala_core.quantize.grid import Grid

Layout = Literal["gptqmodel", "autogptq"]
LAYOUTS: tuple[Layout, ...] = ("gptqmodel", "autogptq")
MATRICES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
"""Kinds of matrices that every run quantizes, by the last part of their names."""
OPTIONAL = ("o_gate", "z_proj", "lm_head")
"""Kinds left alone unless included. They are small, and errors in gates and logits do much damage."""
GROUP_SIZES = (-1, 16, 32, 64, 128, 256, 512, 1024)


@dataclass(frozen=True, kw_only=True)
class QuantizeSettings:
    """How matrices are quantized and how the result is written.

    Args:
        bits: 2, 4 or 8 bits for each weight.
        group_size: inputs that share a scale; -1 for all inputs of a matrix.
        sym: fixed zero point in the middle of the grid; if False, one zero point for each group.
        act_order: quantize the columns with the most active inputs first. Groups stay contiguous (AutoGPTQ's
            `static_groups`): the file has `desc_act` false and inference is as fast as without.
        desc_act: form the groups in that order too; the file's `g_idx` says which column belongs to which group.
        scale_search: choose each group's scale by least error, not by the group's minimum and maximum.
        damping: share of the mean diagonal of the Hessian that is added to the diagonal.
        include: kinds of `OPTIONAL` to quantize as well.
        samples, sample_tokens: calibration texts and their length in tokens, at most.
        checkpoint_format: `gptq` (v1, stores zero points minus 1) or `gptq_v2`.
        layout: file names and settings as GPTQModel or as AutoGPTQ writes them.
        max_shard_bytes: a larger model is written in several files.
    """

    bits: int = 4
    group_size: int = 128
    sym: bool = True
    act_order: bool = True
    desc_act: bool = False
    scale_search: bool = True
    damping: float = 0.01
    include: tuple[str, ...] = ()
    samples: int = 128
    sample_tokens: int = 2048
    checkpoint_format: str = "gptq"
    layout: Layout = "gptqmodel"
    max_shard_bytes: int = 4 << 30

    def __post_init__(self) -> None:
        _require(self.bits in BITS, f"bits must be one of {BITS}, found {self.bits}")
        _require(self.group_size in GROUP_SIZES, f"group_size must be one of {GROUP_SIZES}, found {self.group_size}")
        _require(0 < self.damping <= 1, f"damping must be above 0 and at most 1, found {self.damping}")
        _require(self.samples > 0, f"samples must be positive, found {self.samples}")
        _require(self.sample_tokens > 1, f"sample_tokens must be at least 2, found {self.sample_tokens}")
        _require(self.max_shard_bytes > 0, f"max_shard_bytes must be positive, found {self.max_shard_bytes}")
        _require(self.checkpoint_format in FORMATS, f"format must be one of {FORMATS}, found {self.checkpoint_format}")
        _require(self.layout in LAYOUTS, f"layout must be one of {LAYOUTS}, found {self.layout}")
        _require(
            self.layout == "gptqmodel" or self.checkpoint_format == "gptq",
            "AutoGPTQ reads format gptq only; choose the layout gptqmodel for gptq_v2",
        )
        for name in self.include:
            _require("embed" not in name, "embeddings cannot be quantized by GPTQ: they are looked up, not multiplied")
            _require(name in OPTIONAL, f"{name!r} cannot be included; choose from {', '.join(OPTIONAL)}")

    @property
    def grid(self) -> Grid:
        """The integer grid of these settings."""
        return Grid(bits=self.bits, sym=self.sym, min_zero=int(self.checkpoint_format == "gptq"))

    def group_length(self, num_in: int) -> int:
        """Return how many inputs of a matrix with `num_in` inputs share a scale."""
        return num_in if self.group_size == -1 else self.group_size

    def wants(self, kind: str) -> bool:
        """Whether matrices of this kind (`q_proj`) are to be quantized if their shape allows it."""
        return kind in MATRICES or kind in self.include

    def gptq_config(self, dynamic: dict[str, dict[str, Any]]) -> GPTQConfig:
        """Return the settings that readers of the result need. dynamic: patterns of the modules left alone."""
        return GPTQConfig(
            bits=self.bits,
            group_size=self.group_size,
            sym=self.sym,
            desc_act=self.desc_act,
            lm_head="lm_head" in self.include,
            checkpoint_format=self.checkpoint_format,
            dynamic=dynamic,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON types."""
        return {**asdict(self), "include": sorted(self.include)}


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise QuantizeError(message)
