"""Which matrices of a model are quantized, which are left alone, and why."""

import re
from dataclasses import dataclass

from sala_core.errors import QuantizeError
from sala_core.model.checkpoint import expected_shapes
from sala_core.model.config import SalaConfig
from sala_core.quantize.settings import OPTIONAL, QuantizeSettings

FUSED = {"qkv_proj": ("q_proj", "k_proj", "v_proj"), "gate_up_proj": ("gate_proj", "up_proj")}
"""Matrices that SGLang and vLLM load as one: all of them are quantized, or none."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """quantized: module names in the order of the forward pass. left: module name -> why it is left alone."""

    quantized: tuple[str, ...]
    left: dict[str, str]

    @classmethod
    def make(cls, config: SalaConfig, settings: QuantizeSettings) -> "Plan":
        """Decide for every matrix. Raises QuantizeError if no matrix can be quantized."""
        if config.tie_word_embeddings and settings.wants("lm_head"):
            raise QuantizeError("lm_head is the embedding in this model, which cannot be quantized; do not include it")
        shapes = {
            name.removesuffix(".weight"): shape
            for name, shape in expected_shapes(config).items()
            if len(shape) == 2 and "embed_tokens" not in name
        }
        left = {name: reason for name, shape in shapes.items() if (reason := _skip_reason(name, shape, settings))}
        for name in shapes:
            for partner in _partners(name):
                if partner in left and name not in left and settings.wants(_kind(name)):
                    left[name] = f"{_kind(partner)}, which other programs load with it, is left alone"
        quantized = tuple(name for name in shapes if name not in left)
        if not quantized:
            raise QuantizeError(f"no matrix can be quantized: {next(iter(left.values()))}; choose another group size")
        return cls(quantized=quantized, left=left)

    def of_layer(self, layer: int) -> frozenset[str]:
        """Return the quantized matrices of one layer, without the layer's prefix: `self_attn.q_proj`."""
        prefix = layer_prefix(layer)
        return frozenset(name.removeprefix(prefix) for name in self.quantized if name.startswith(prefix))

    def patterns(self) -> dict[str, dict[str, str]]:
        """Return the `dynamic` patterns that exclude what is left alone; `lm_head` has a field of its own instead."""
        quantized_kinds = {_kind(name) for name in self.quantized}
        patterns: dict[str, dict[str, str]] = {}
        for name in self.left:
            kind = _kind(name)
            if kind == "lm_head":
                continue
            path = re.escape(name.removesuffix(kind)) if kind in quantized_kinds else r".*\."
            for part in (kind, *(fused for fused, parts in FUSED.items() if kind in parts)):
                patterns[f"-:{path}{part}$"] = {}
        return patterns

    def reasons(self) -> dict[str, list[str]]:
        """Return reason -> the modules that are left alone because of it."""
        grouped: dict[str, list[str]] = {}
        for name, reason in self.left.items():
            grouped.setdefault(reason, []).append(name)
        return grouped


def layer_prefix(layer: int) -> str:
    """Return the prefix of the tensor names of a layer."""
    return f"model.layers.{layer}."


def _kind(name: str) -> str:
    """The last part of a module name: `q_proj`."""
    return name.rpartition(".")[2]


def _partners(name: str) -> list[str]:
    """The other matrices that SGLang and vLLM fuse with this one."""
    path, _, kind = name.rpartition(".")
    return [f"{path}.{part}" for parts in FUSED.values() if kind in parts for part in parts if part != kind]


def _skip_reason(name: str, shape: tuple[int, ...], settings: QuantizeSettings) -> str | None:
    """Why a matrix of this shape [out, in] is left alone, or None."""
    num_out, num_in = shape
    per_word, group = 32 // settings.bits, settings.group_size
    if not settings.wants(_kind(name)):
        assert _kind(name) in OPTIONAL
        return "not asked for; --include adds it"
    if num_in % per_word or num_out % per_word:
        return f"its sides {num_out} x {num_in} are no multiples of {per_word}, the numbers in a packed word"
    if group != -1 and num_in % group:
        return f"its {num_in} inputs are no multiple of the group size {group}"
    return None
