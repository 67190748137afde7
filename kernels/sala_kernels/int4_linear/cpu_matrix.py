"""Matrices with packed 4-bit weights in the order that a CPU reads, repacked once at load from GPTQ's tensors.

Outputs are divided into blocks of 64 or 32. Within a block the weights of one input lie together: byte j has output j
of the block in its low nibble, and output `block / 2 + j` in its high nibble. This is what torch's CPU kernel
(`aten::_weight_int4pack_mm_for_cpu`) reads; the size of a block depends on the instructions that torch found.
"""

import functools
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from sala_kernels.int4_linear.matrix import SYMMETRIC_ZERO, assign_slots, nibbles, slot_group_size

OWN_BLOCK = 64
"""Outputs in a block where torch has no fast kernel."""

_KERNEL_BLOCKS = {"AVX512": 64, "AVX2": 32}  # torch's instruction set -> outputs in a block; without either it is slow
_CHUNK_NUMBERS = 1 << 24  # weights repacked at a time


@dataclass(frozen=True, kw_only=True)
class CpuInt4Matrix:
    """W[o, i] = scales[g, o] * (q[o, s] - zeros[g, o]), where s is the slot of input i and g = s // group_size.

    Attributes:
        packed: uint8 [blocks, slots, block / 2], as this module's docstring describes; slots a multiple of 128.
        scales: [slots / group_size, blocks * block], any float dtype; 0 for outputs that only fill the last block.
        zeros: zero points, uint8 of the same shape, or None if all are 8.
        rounded: bfloat16 [slots / group_size, blocks * block, 2], for torch's kernel: the scales, and zeros.
        group_size: 32, 64 or 128.
        in_features, out_features: number of inputs and outputs.
        inputs: int64 [slots], the input in each slot, `in_features` for an empty slot; None if input i is in slot i
            and no slot is empty.
    """

    packed: Tensor
    scales: Tensor
    zeros: Tensor | None
    rounded: Tensor
    group_size: int
    in_features: int
    out_features: int
    inputs: Tensor | None = None

    def __post_init__(self) -> None:
        blocks, slots, half = self.packed.shape
        if self.packed.dtype != torch.uint8 or not self.packed.is_contiguous() or slots % 128:
            raise ValueError("packed must be uint8 [blocks, slots, block / 2], contiguous, slots a multiple of 128")
        shape = (slots // self.group_size, blocks * 2 * half)
        for name, tensor in (("scales", self.scales), ("zeros", self.zeros), ("rounded", self.rounded[..., 0])):
            if tensor is not None and tensor.shape != shape:
                raise ValueError(f"{name} must be of shape {shape}, got {tuple(tensor.shape)}")
        if self.inputs is None and self.in_features != slots:
            raise ValueError(f"{self.in_features} inputs do not fill {slots} slots")

    @classmethod
    def of(
        cls,
        packed: Tensor,
        scales: Tensor,
        zeros: Tensor | None,
        *,
        group_size: int,
        in_features: int,
        out_features: int,
        inputs: Tensor | None = None,
    ) -> "CpuInt4Matrix":
        """A matrix from its exact tensors. Adds the rounded scales.

        Args:
            packed, scales, zeros, group_size, in_features, out_features, inputs: the attributes of these names.
        """
        rounded = torch.zeros(*scales.shape, 2, dtype=torch.bfloat16, device=scales.device)
        rounded[..., 0] = scales
        return cls(
            packed=packed,
            scales=scales.contiguous(),
            zeros=zeros,
            rounded=rounded,
            group_size=group_size,
            in_features=in_features,
            out_features=out_features,
            inputs=inputs,
        )

    @property
    def shape(self) -> tuple[int, int]:
        """(out, in), the shape of the dequantized matrix."""
        return self.out_features, self.in_features

    @property
    def device(self) -> torch.device:
        """The device of the tensors."""
        return self.packed.device

    @property
    def block(self) -> int:
        """Outputs in a block."""
        return 2 * self.packed.shape[2]

    @property
    def num_bytes(self) -> int:
        """Bytes of all tensors."""
        parts = (self.packed, self.scales, self.zeros, self.rounded, self.inputs)
        return sum(part.numel() * part.itemsize for part in parts if part is not None)


@functools.cache
def kernel_block() -> int | None:
    """Outputs in a block as torch's kernel reads them on this CPU; None where its kernel is slow or reads otherwise."""
    block = _KERNEL_BLOCKS.get(torch.backends.cpu.get_cpu_capability())
    if block is None:
        return None
    q = (torch.arange(2 * block * 6, dtype=torch.int32) * 7 + 3) % 16
    packed = torch.ops.aten._convert_weight_to_int4pack_for_cpu(q.view(2 * block, 6), 1)
    expected = pack_blocks(q.view(2 * block, 6).T.to(torch.uint8), block)
    return block if torch.equal(packed.flatten(), expected.flatten()) else None


def block_outputs() -> int:
    """Outputs in a block of the matrices that are packed on this CPU."""
    return kernel_block() or OWN_BLOCK


def pack_blocks(q: Tensor, block: int) -> Tensor:
    """Pack weights uint8 [slots, out], 0 to 15, to [out / block, slots, block / 2]. out: a multiple of `block`."""
    halves = q.view(q.shape[0], -1, 2, block // 2)
    return (halves[:, :, 0] | halves[:, :, 1] << 4).permute(1, 0, 2).contiguous()


def repack_int4_for_cpu(
    qweight: Tensor, qzeros: Tensor, scales: Tensor, g_idx: Tensor | None, *, group_size: int, zero_offset: int
) -> CpuInt4Matrix:
    """Repack the tensors of a 4-bit GPTQ file, on the CPU, without an unpacked copy of the whole matrix.

    Args:
        qweight: int32 [in / 8, out], lowest nibble first.
        qzeros: int32 [groups, out / 8].
        scales: [groups, out].
        g_idx: [in], the group of each input, or None if inputs are in the order of their groups.
        group_size: of the file, any; -1 for a single group.
        zero_offset: added to each stored zero point, modulo 16: 1 for format `gptq` (v1), 0 for `gptq_v2`.
    """
    in_features, out = 8 * qweight.shape[0], qweight.shape[1]
    order = torch.arange(in_features)
    if g_idx is None:
        g_idx = torch.zeros_like(order) if group_size == -1 else order // group_size
    size = slot_group_size(group_size)
    inputs, groups = assign_slots(g_idx.to(torch.int64), qzeros.shape[0], size)
    in_order = torch.equal(inputs, order)
    inputs = torch.where(inputs < 0, in_features, inputs)
    block = block_outputs()
    filling = -out % block
    packed = torch.empty((out + filling) // block, len(inputs), block // 2, dtype=torch.uint8)
    step = max(1, _CHUNK_NUMBERS // (len(inputs) * block)) * block
    for start in range(0, out, step):
        q = _unpack_rows(qweight[:, start : start + step])  # [in, c]
        if q.shape[1] % block:
            q = pad(q, (0, -q.shape[1] % block))
        if not in_order:
            q = pad(q, (0, 0, 0, 1))[inputs]
        packed[start // block : (start + step) // block] = pack_blocks(q, block)
    zeros = pad(((nibbles(qzeros) + zero_offset) & 15).to(torch.uint8), (0, filling), value=SYMMETRIC_ZERO)[groups]
    return CpuInt4Matrix.of(
        packed,
        pad(scales, (0, filling))[groups],
        None if bool((zeros == SYMMETRIC_ZERO).all()) else zeros.contiguous(),
        group_size=size,
        in_features=in_features,
        out_features=out,
        inputs=None if in_order else inputs,
    )


def _unpack_rows(words: Tensor) -> Tensor:
    """Unpack int32 [r, c] to uint8 [8 r, c], the lowest nibble of each word first. Little-endian, as all CPUs here."""
    r, c = words.shape
    by_place = words.contiguous().view(torch.uint8).view(r, c, 4).transpose(1, 2).contiguous()  # bytes [r, 4, c]
    q = torch.empty(r, 4, 2, c, dtype=torch.uint8)
    torch.bitwise_and(by_place, 15, out=q[:, :, 0])
    torch.bitwise_right_shift(by_place, 4, out=q[:, :, 1])
    return q.view(8 * r, c)
