"""GPTQ matrices in the packed layout of AutoGPTQ and GPTQModel: packing, checks, dequantization.

A matrix `X.weight [out, in]` is stored as `qweight int32 [in/n, out]`, `qzeros int32 [groups, out/n]`,
`scales [groups, out]` and `g_idx int32 [in]`. A word holds n = 32 / bits integers, the first one in the lowest bits.
`W[o, i] = scales[g, o] * (q[i, o] - zero[g, o])`, g = g_idx[i]. Format `gptq` (v1) stores `zero - 1`, `gptq_v2` stores
`zero`. A zero point of 0 has no agreed form in v1: some programs read the stored -1 as 0, some as 2^bits, and some let
it borrow from the next packed integer. So v1 has zero points from 1 on, and others are refused.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Literal

import torch
from sala_kernels import Int4Weight, repack_int4, repack_int4_for_cpu
from torch import Tensor

from sala_core.errors import CheckpointError
from sala_core.model.packing import Packing

FORMATS = ("gptq", "gptq_v2")
BITS = (2, 4, 8)
_WEIGHT_CHANGES = ("adapter", "rotation")
"""Settings of GPTQModel that add a low-rank matrix to the weights, or rotate their inputs."""
_CHUNK_WEIGHTS = 1 << 20  # weights unpacked at a time: temporary tensors stay small, and in the CPU's cache


@dataclass(frozen=True, kw_only=True)
class GPTQConfig:
    """Quantization settings of a checkpoint; fields spelled as in `quantize_config.json`.

    `dynamic` maps regular expressions on module names to settings that override these. Modules that match a pattern
    with the prefix `-:` are not quantized. The first pattern that matches applies, as in GPTQModel.
    """

    bits: int = 4
    group_size: int = 128  # -1: one group for all inputs
    sym: bool = True
    desc_act: bool = False
    lm_head: bool = False
    checkpoint_format: str = "gptq"
    dynamic: Mapping[str, Mapping[str, Any]] = field(default_factory=lambda: MappingProxyType({}))

    def __post_init__(self) -> None:
        if self.bits not in BITS:
            raise CheckpointError(f"GPTQ with {self.bits} bits is not supported; supported are {BITS}")
        if self.group_size != -1 and self.group_size <= 0:
            raise CheckpointError(f"GPTQ group_size must be -1 or positive, found {self.group_size}")
        if self.checkpoint_format not in FORMATS:
            raise CheckpointError(
                f"GPTQ checkpoint format {self.checkpoint_format!r} is not supported; "
                f"convert the checkpoint to one of {FORMATS}"
            )
        for pattern in self.dynamic:
            try:
                re.compile(_strip_sign(pattern))
            except re.error as error:
                raise CheckpointError(f"GPTQ dynamic pattern {pattern!r} is not a regular expression") from error

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> "GPTQConfig":
        """Build the settings from the JSON of AutoGPTQ or GPTQModel. Raises CheckpointError for other layouts."""
        method = raw.get("quant_method", raw.get("method", "gptq"))
        if method != "gptq":
            raise CheckpointError(
                f"quantization method {method!r} is not supported; use a GPTQ checkpoint with 4 bits, or the weights "
                "in bfloat16"
            )
        if raw.get("is_marlin_format"):
            raise CheckpointError("weights repacked for Marlin are not supported; use the original GPTQ ones")
        if raw.get("pack_dtype", "int32") not in ("int32", "torch.int32"):
            raise CheckpointError(f"GPTQ pack_dtype {raw['pack_dtype']!r} is not supported, only int32")
        meta = raw.get("meta")
        for name in _WEIGHT_CHANGES:
            if value := raw.get(name) or (meta.get(name) if isinstance(meta, Mapping) else None):
                raise CheckpointError(f"GPTQ with {name} {value!r} is not supported; use a checkpoint without it")
        names = [raw[key] for key in ("checkpoint_format", "format") if raw.get(key)]
        if len(set(map(str, names))) > 1:
            raise CheckpointError(
                f"the GPTQ settings name two formats, {names[0]!r} and {names[1]!r}; correct them, or get the "
                "checkpoint again"
            )
        try:
            return cls(
                bits=_whole(raw["bits"], "bits"),
                group_size=_whole(raw.get("group_size", 128), "group_size"),
                sym=_flag(raw, "sym", True),
                desc_act=_flag(raw, "desc_act", False),
                lm_head=_flag(raw, "lm_head", False),
                checkpoint_format=str(names[0]) if names else "gptq",
                dynamic=MappingProxyType({str(k): dict(v or {}) for k, v in (raw.get("dynamic") or {}).items()}),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise CheckpointError(f"the GPTQ settings cannot be read ({error!r}): {dict(raw)}") from error

    def for_module(self, name: str) -> "GPTQConfig | None":
        """Settings of one module (`model.layers.3.mlp.up_proj`); None if it is not quantized."""
        if name == "lm_head" and not self.lm_head:
            return None
        for pattern, settings in self.dynamic.items():
            if re.match(_strip_sign(pattern), name) is None:
                continue
            if pattern.startswith("-:"):
                return None
            overrides = {key: settings[key] for key in ("bits", "group_size", "sym", "desc_act") if key in settings}
            return replace(self, **overrides)
        return self


@dataclass(frozen=True, kw_only=True)
class PackedMatrix:
    """The stored tensors of one matrix. The module's docstring gives their shapes."""

    qweight: Tensor
    qzeros: Tensor
    scales: Tensor
    g_idx: Tensor | None  # None: the input's index // group_size


def _strip_sign(pattern: str) -> str:
    return pattern[2:] if pattern.startswith(("-:", "+:")) else pattern


def _whole(value: Any, name: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise CheckpointError(f"GPTQ {name} must be a whole number, found {value!r}")
    return value


def _flag(raw: Mapping[str, Any], name: str, default: bool) -> bool:
    value = raw.get(name, default)
    if not isinstance(value, bool):
        raise CheckpointError(f"GPTQ {name} must be true or false, found {value!r}")
    return value


def zero_point_format(qzeros: Tensor, config: GPTQConfig) -> Literal["gptq", "gptq_v2"]:
    """The format in which the zero points of a matrix are stored, after a check of every one of them.

    With `sym`, each zero point must be the middle of the grid, 8 for 4 bits. A file of format `gptq` whose stored
    integers are all 8 instead of 7 has been changed for the Marlin kernels: it stores zero points as `gptq_v2` does.

    qzeros: int32 [groups, out / n]. Raises CheckpointError, which names the value, for other zero points.
    """
    v1 = config.checkpoint_format == "gptq"
    stored = _unpack_columns(qzeros, config.bits).unique().tolist()
    middle, limit = 2 ** (config.bits - 1), 2**config.bits
    if not config.sym:
        if v1 and limit - 1 in stored:
            raise CheckpointError(
                f"stores the integer {limit - 1} as a zero point, which programs read as 0 or as {limit} in format "
                "gptq; export the checkpoint in format gptq_v2"
            )
        return "gptq" if v1 else "gptq_v2"
    if v1 and stored == [middle - 1]:
        return "gptq"
    if stored == [middle]:
        return "gptq_v2"
    wrong = next(value for value in stored if value != middle - int(v1))
    raise CheckpointError(
        f"stores the integer {wrong} as a zero point, but with sym true format {config.checkpoint_format} stores "
        f"{middle - int(v1)} everywhere; the settings and the weights do not belong together, or the file is damaged"
    )


def num_groups(in_features: int, group_size: int) -> int:
    """Number of groups (rows of `scales`) of a matrix with `in_features` inputs. The last group may be short."""
    return 1 if group_size == -1 else -(-in_features // group_size)


def default_g_idx(in_features: int, group_size: int) -> Tensor:
    """The group of each input where inputs keep their order, int32 [in]."""
    inputs = torch.arange(in_features, dtype=torch.int32)
    return torch.zeros_like(inputs) if group_size == -1 else inputs // group_size


def pack(q: Tensor, zeros: Tensor, scales: Tensor, config: GPTQConfig, *, g_idx: Tensor | None = None) -> PackedMatrix:
    """Pack quantized weights into a GPTQ matrix.

    Args:
        q: [out, in] integers in [0, 2^bits).
        zeros: [groups, out] zero points, in the same range; at least 1 for format `gptq`.
        scales: [groups, out], stored in float16.
        config: bits, group size and format.
        g_idx: [in], the group of each input. None: inputs in order.

    Raises ValueError for a shape or an integer out of range.
    """
    num_out, num_in = q.shape
    per_word = 32 // config.bits
    groups = num_groups(num_in, config.group_size)
    if num_in % per_word or num_out % per_word:
        raise ValueError(f"both sides of {tuple(q.shape)} must be multiples of {per_word}")
    if zeros.shape != (groups, num_out) or scales.shape != (groups, num_out):
        raise ValueError(
            f"zeros and scales must be {(groups, num_out)}, got {tuple(zeros.shape)}, {tuple(scales.shape)}"
        )
    limit, offset = 2**config.bits, int(config.checkpoint_format == "gptq")
    for name, integers, least in (("q", q, 0), ("zeros", zeros, offset)):
        if integers.numel() and (int(integers.min()) < least or int(integers.max()) >= limit):
            raise ValueError(f"{name} must lie in [{least}, {limit})")
    stored = zeros.to(torch.int64) - offset
    return PackedMatrix(
        qweight=_pack_rows(q.to(torch.int64).T, config.bits),
        qzeros=_pack_rows(stored.T, config.bits).T.contiguous(),
        scales=scales.to(torch.float16).contiguous(),
        g_idx=default_g_idx(num_in, config.group_size) if g_idx is None else g_idx.to(torch.int32),
    )


def dequantize(packed: PackedMatrix, config: GPTQConfig, *, dtype: torch.dtype) -> Tensor:
    """Dequantize a matrix to [out, in] in `dtype`, on the packed tensors' device. Computed in float32.

    Raises CheckpointError if the tensors do not match each other or `config`.
    """
    num_in, num_out = _checked_shape(packed, config)
    device = packed.qweight.device
    in_order = default_g_idx(num_in, config.group_size).to(device)
    g_idx = in_order if packed.g_idx is None else packed.g_idx.to(in_order)
    zeros = _unpack_rows(packed.qzeros.T, config.bits)  # [out, groups]
    if config.checkpoint_format == "gptq":
        zeros = (zeros + 1) & (2**config.bits - 1)
    zeros, scales = zeros.float(), packed.scales.float().T.contiguous()
    # inputs in order and groups of equal length: broadcasting replaces the gather of zeros and scales
    equal_groups = config.group_size == -1 or num_in % config.group_size == 0
    broadcast = equal_groups and torch.equal(g_idx, in_order)
    weight = torch.empty(num_out, num_in, dtype=dtype, device=device)
    step = max(1, _CHUNK_WEIGHTS // num_in)
    for start in range(0, num_out, step):
        part = slice(start, start + step)
        q = _unpack_columns(packed.qweight[:, part].T.contiguous(), config.bits).float()  # [c, in]
        if broadcast:
            q = q.view(q.shape[0], zeros.shape[1], -1)
            q.sub_(zeros[part, :, None]).mul_(scales[part, :, None])
        else:
            q.sub_(zeros[part][:, g_idx]).mul_(scales[part][:, g_idx])
        weight[part] = q.view(-1, num_in)
    return weight


def to_int4(packed: PackedMatrix, config: GPTQConfig, packing: Packing = "card") -> Int4Weight:
    """Repack a 4-bit matrix into the layout of a card's kernels, on the packed tensors' device, or into that of a CPU.

    Raises CheckpointError if the tensors do not match each other or `config`, ValueError for other bit widths.
    """
    if config.bits != 4:
        raise ValueError(f"the kernels support 4 bits, not {config.bits}; dequantize the matrix")
    _checked_shape(packed, config)
    repack = repack_int4 if packing == "card" else repack_int4_for_cpu
    return repack(
        packed.qweight,
        packed.qzeros,
        packed.scales,
        packed.g_idx,
        group_size=config.group_size,
        zero_offset=int(config.checkpoint_format == "gptq"),
    )


def _checked_shape(packed: PackedMatrix, config: GPTQConfig) -> tuple[int, int]:
    """(in, out) of a packed matrix. Raises CheckpointError if its tensors do not match each other or `config`."""
    per_word = 32 // config.bits
    if packed.qweight.ndim != 2 or packed.qweight.dtype != torch.int32:
        raise CheckpointError(f"qweight must be int32 [in/{per_word}, out], found {_type_of(packed.qweight)}")
    num_in, num_out = packed.qweight.shape[0] * per_word, packed.qweight.shape[1]
    groups = num_groups(num_in, config.group_size)
    if packed.qzeros.dtype != torch.int32 or packed.qzeros.shape != (groups, num_out // per_word):
        raise CheckpointError(
            f"qzeros must be int32 [{groups}, {num_out // per_word}], found {_type_of(packed.qzeros)}"
        )
    if not packed.scales.is_floating_point() or packed.scales.shape != (groups, num_out):
        raise CheckpointError(f"scales must be floats [{groups}, {num_out}], found {_type_of(packed.scales)}")
    g_idx = packed.g_idx
    if g_idx is None:
        if config.desc_act:
            raise CheckpointError("the matrix has no g_idx although desc_act permutes its rows")
    elif g_idx.shape != (num_in,) or int(g_idx.min()) < 0 or int(g_idx.max()) >= groups:
        raise CheckpointError(f"g_idx must be [{num_in}] with groups 0..{groups - 1}, found {_type_of(g_idx)}")
    return num_in, num_out


def _type_of(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"


def _pack_rows(integers: Tensor, bits: int) -> Tensor:
    """Pack int64 [n * r, c], each in [0, 2^bits), into int32 [r, c]; the first row of each n has the lowest bits."""
    per_word = 32 // bits
    rows = integers.reshape(-1, per_word, integers.shape[1])
    shifts = torch.arange(0, 32, bits, dtype=torch.int64, device=integers.device)
    words = (rows << shifts[None, :, None]).sum(dim=1)  # [0, 2^32) in int64
    return torch.where(words >= 2**31, words - 2**32, words).to(torch.int32)


def _unpack_rows(words: Tensor, bits: int) -> Tensor:
    """Unpack int32 [r, c] into int32 [n * r, c]. Inverse of `_pack_rows`."""
    return _unpack_columns(words.T, bits).T


def _unpack_columns(words: Tensor, bits: int) -> Tensor:
    """Unpack int32 [r, c] into int32 [r, n * c], the lowest bits of each word first."""
    shifts = torch.arange(0, 32, bits, dtype=torch.int32, device=words.device)
    return ((words[:, :, None] >> shifts) & (2**bits - 1)).reshape(words.shape[0], -1)
