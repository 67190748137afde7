"""Random weights, created on the device in the layout of the forward pass. Nothing is loaded or quantized."""

from collections.abc import Mapping

import torch
from sala_kernels import CpuInt4Matrix, Int4Matrix, Int4Weight, block_outputs
from torch import Tensor

from sala_core.bench.sizes import FullConfig
from sala_core.model.checkpoint import expected_shapes
from sala_core.model.config import SalaConfig

Weights = dict[str, Tensor | Int4Weight]

GROUP_SIZE = 128
_UNPACKED = ("embed_tokens", "lm_head", "o_gate", "z_proj")  # `quantize` does not pack these either
_NIBBLE_RMS = 21.5**0.5  # root mean square of the integers -8 ... 7


class RandomWeights:
    """Draws matrices whose products have about the magnitude of their input. Equal seeds give equal matrices."""

    def __init__(self, dtype: torch.dtype, device: torch.device, *, packed: bool, seed: int = 0) -> None:
        """Create the generator.

        Args:
            dtype: of tensors that are not packed.
            device: of the tensors. "meta" makes shapes without numbers.
            packed: 4-bit matrices where the shape allows it, except those that `quantize` does not pack.
            seed: of the generator.
        """
        self._dtype, self._device, self._packed = dtype, device, packed
        meta = device.type == "meta"  # has no generator
        self._generator = None if meta else torch.Generator(device).manual_seed(seed)

    def weight(self, name: str, shape: tuple[int, ...], *, scale: float = 1.0) -> Tensor | Int4Weight:
        """The weight of this name: ones for a norm, else a matrix [out, in] with deviation `scale` / sqrt(in)."""
        if len(shape) == 1:
            return torch.ones(shape, dtype=self._dtype, device=self._device)
        num_out, num_in = shape
        packable = not any(part in name for part in _UNPACKED)
        if self._packed and packable and num_in % GROUP_SIZE == 0:
            return self.int4(num_out, num_in)
        weight = torch.empty(shape, dtype=self._dtype, device=self._device)
        return weight.normal_(0, scale * num_in**-0.5, generator=self._generator)

    def int4(self, num_out: int, num_in: int) -> Int4Weight:
        """[out, in] in 4 bits, symmetric, in groups of 128. Made of random words, without an unpacked copy."""
        if self._device.type == "cpu":
            return self._cpu_int4(num_out, num_in)
        words = torch.empty(num_out, num_in // 8, dtype=torch.int32, device=self._device)
        words.random_(-(2**31), 2**31, generator=self._generator)
        scales = torch.empty(num_in // GROUP_SIZE, num_out, dtype=torch.float16, device=self._device)
        scales.uniform_(0.75, 1.25, generator=self._generator).mul_(num_in**-0.5 / _NIBBLE_RMS)
        return Int4Matrix(words=words, scales=scales, zeros=None, group_size=GROUP_SIZE, in_features=num_in)

    def _cpu_int4(self, num_out: int, num_in: int) -> CpuInt4Matrix:
        """The same in the layout of a CPU."""
        block = block_outputs()
        blocks, groups = -(num_out // -block), num_in // GROUP_SIZE
        packed = torch.empty(blocks, num_in, block // 2, dtype=torch.uint8)
        packed.view(torch.int64).random_(-(2**63), None, generator=self._generator)
        scales = torch.empty(groups, blocks * block, dtype=torch.float32)
        scales.uniform_(0.75, 1.25, generator=self._generator).mul_(num_in**-0.5 / _NIBBLE_RMS)
        return CpuInt4Matrix.of(
            packed, scales.half(), None, group_size=GROUP_SIZE, in_features=num_in, out_features=num_out
        )


def sala_weights(config: SalaConfig, dtype: torch.dtype, device: torch.device, *, packed: bool) -> Weights:
    """All tensors of the model. The embedding is scaled so that hidden states after `scale_emb` have deviation 1.

    Args:
        config: the model's shapes.
        dtype, device, packed: as for `RandomWeights`.
    """
    random = RandomWeights(dtype, device, packed=packed)
    embedding = config.hidden_size**0.5 / config.scale_emb
    return {
        name: random.weight(name, shape, scale=embedding if name == "model.embed_tokens.weight" else 1.0)
        for name, shape in expected_shapes(config).items()
    }


def full_weights(config: FullConfig, dtype: torch.dtype, device: torch.device, *, packed: bool) -> Weights:
    """All tensors of the full-attention model. q, k and v are one matrix, `qkv_proj`.

    Args:
        config: the model's shapes.
        dtype, device, packed: as for `RandomWeights`.
    """
    random = RandomWeights(dtype, device, packed=packed)
    return {
        name: random.weight(name, shape, scale=config.hidden_size**0.5 if name == "model.embed_tokens.weight" else 1.0)
        for name, shape in full_shapes(config).items()
    }


def full_shapes(config: FullConfig) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor, in the order of the forward pass."""
    D, F, d = config.hidden_size, config.intermediate_size, config.head_dim
    num_q, num_kv = config.num_attention_heads * d, config.num_key_value_heads * d
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (config.vocab_size, D)}
    for layer in range(config.num_hidden_layers):
        prefix = f"model.layers.{layer}."
        shapes |= {
            prefix + "input_layernorm.weight": (D,),
            prefix + "self_attn.qkv_proj.weight": (num_q + 2 * num_kv, D),
            prefix + "self_attn.q_norm.weight": (d,),
            prefix + "self_attn.k_norm.weight": (d,),
            prefix + "self_attn.o_proj.weight": (D, num_q),
            prefix + "post_attention_layernorm.weight": (D,),
            prefix + "mlp.gate_proj.weight": (F, D),
            prefix + "mlp.up_proj.weight": (F, D),
            prefix + "mlp.down_proj.weight": (D, F),
        }
    shapes["model.norm.weight"] = (D,)
    if not config.tie_word_embeddings:
        shapes["lm_head.weight"] = (config.vocab_size, D)
    return shapes


def weight_bytes(weights: Mapping[str, Tensor | Int4Weight]) -> int:
    """Bytes of all weights."""
    return sum(map(tensor_bytes, weights.values()))


def tensor_bytes(weight: Tensor | Int4Weight) -> int:
    """Bytes of one weight."""
    return weight.num_bytes if isinstance(weight, Int4Weight) else weight.numel() * weight.itemsize
