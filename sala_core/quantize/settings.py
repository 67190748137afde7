"""What a quantization is asked to do; checked once, and compared when a run goes on."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

from sala_core.errors import QuantizeError
from sala_core.model.gptq import BITS, FORMATS, GPTQConfig
from sala_core.quantize.grid import Grid

Layout = Literal["gptqmodel", "autogptq"]
LAYOUTS: tuple[Layout, ...] = ("gptqmodel", "autogptq")
MATRICES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
"""Quantized in every run; kinds of matrices by the last part of their names."""
OPTIONAL = ("o_gate", "z_proj", "lm_head")
"""Left alone unless included: small, and what they gate or choose is sensitive."""
GROUP_SIZES = (-1, 16, 32, 64, 128, 256, 512, 1024)


@dataclass(frozen=True, kw_only=True)
class QuantizeSettings:
    """How matrices are quantized and written. group_size -1: one group for all inputs of a matrix.

    act_order: most active columns first, groups as they lie (`desc_act` false in the file, as fast to run as without).
    desc_act: groups follow that order too, and the file's `g_idx` says which. scale_search: scales by least error
    instead of by the extremes. samples and sample_tokens: calibration text used, at most. damping: share of the mean
    diagonal added to it. max_shard_bytes: a larger model is cut into several files.
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
        """What numbers are rounded to."""
        return Grid(bits=self.bits, sym=self.sym, least_zero=int(self.checkpoint_format == "gptq"))

    def group_length(self, num_in: int) -> int:
        """Inputs that share a scale, of a matrix with that many."""
        return num_in if self.group_size == -1 else self.group_size

    def wants(self, kind: str) -> bool:
        """Whether matrices of this kind (`q_proj`) are to be quantized where they fit."""
        return kind in MATRICES or kind in self.include

    def gptq_config(self, dynamic: dict[str, dict[str, Any]]) -> GPTQConfig:
        """The settings that readers of the result need. dynamic: patterns of what is left alone."""
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
        """As JSON types."""
        return {**asdict(self), "include": sorted(self.include)}


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise QuantizeError(message)
