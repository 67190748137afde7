"""Matrices with packed 4-bit weights in the order that the kernels read, repacked once at load from GPTQ's tensors.

A row of `words` contains the weights of one output. Inputs are placed in slots, and 128 slots (a segment) are packed
into 16 words. Word c of a segment has eight nibbles: nibble i of its low half is slot 32 i + 2 c of the segment, and
nibble i of its high half is the next slot. So `(word >> 4 i) & 0x000F000F` gives two neighboring weights in the two
halves of a register, and for each i the 16 words give a run of 32 neighboring slots: a tensor core's operand without
any shuffle.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

SEGMENT = 128
"""Slots that are packed into 16 words. The slots of a row are padded to a multiple of it."""

SYMMETRIC_ZERO = 8  # zero point of symmetric quantization
_GROUP_SIZES = (128, 64, 32)
_CHUNK_NUMBERS = 1 << 24  # weights repacked at a time, so that the scratch memory is small compared to the model


@dataclass(frozen=True, kw_only=True)
class Int4Matrix:
    """W[o, i] = scales[g, o] * (q[o, s] - zeros[g, o]), where s is the slot of input i and g = s // group_size.

    Attributes:
        words: int32 [out, slots / 8], in the layout that this module's docstring describes, slots a multiple of 128.
        scales: [slots / group_size, out], any float dtype.
        zeros: zero points, uint8 of the same shape, or None if all are 8.
        group_size: 32, 64 or 128.
        in_features: number of inputs.
        inputs: int32 [slots], the input in each slot, -1 for an empty slot; None if input i is in slot i.
        slots: int32 [in_features], the slot of each input; None if input i is in slot i.
    """

    words: Tensor
    scales: Tensor
    zeros: Tensor | None
    group_size: int
    in_features: int
    inputs: Tensor | None = None
    slots: Tensor | None = None

    def __post_init__(self) -> None:
        out, width = self.words.shape
        if self.group_size not in _GROUP_SIZES:
            raise ValueError(f"group_size must be one of {_GROUP_SIZES}, got {self.group_size}")
        if self.words.dtype != torch.int32 or not self.words.is_contiguous() or 8 * width % SEGMENT:
            raise ValueError("words must be int32 [out, slots / 8], contiguous, slots a multiple of 128")
        shape = (8 * width // self.group_size, out)
        for name, tensor in (("scales", self.scales), ("zeros", self.zeros)):
            if tensor is not None and (tensor.shape != shape or not tensor.is_contiguous()):
                raise ValueError(f"{name} must be contiguous, of shape {shape}, got {tuple(tensor.shape)}")
        if self.inputs is None and not 0 <= self.in_features <= 8 * width:
            raise ValueError(f"{self.in_features} inputs do not fit into {8 * width} slots")

    @property
    def shape(self) -> tuple[int, int]:
        """(out, in), the shape of the dequantized matrix."""
        return self.words.shape[0], self.in_features

    @property
    def device(self) -> torch.device:
        """The device of the tensors."""
        return self.words.device

    @property
    def num_bytes(self) -> int:
        """Bytes of all tensors."""
        parts = (self.words, self.scales, self.zeros, self.inputs, self.slots)
        return sum(part.numel() * part.itemsize for part in parts if part is not None)


def repack_int4(
    qweight: Tensor, qzeros: Tensor, scales: Tensor, g_idx: Tensor | None, *, group_size: int, zero_offset: int
) -> Int4Matrix:
    """Repack the tensors of a 4-bit GPTQ file into an Int4Matrix on the same device.

    Groups of other sizes than 32, 64 and 128 are divided into, or padded to, groups of one of these sizes.

    Args:
        qweight: int32 [in / 8, out], lowest nibble first.
        qzeros: int32 [groups, out / 8].
        scales: [groups, out].
        g_idx: [in], the group of each input, or None if inputs are in the order of their groups.
        group_size: of the file, any; -1 for a single group.
        zero_offset: added to each stored zero point, modulo 16: 1 for format `gptq` (v1), 0 for `gptq_v2`.
    """
    in_features, out = 8 * qweight.shape[0], qweight.shape[1]
    device = qweight.device
    order = torch.arange(in_features, device=device)
    if g_idx is None:
        g_idx = torch.zeros_like(order) if group_size == -1 else order // group_size
    new_size = slot_group_size(group_size)
    inputs, groups = assign_slots(g_idx.to(torch.int64), qzeros.shape[0], new_size)
    in_order = bool((inputs[:in_features] == order).all())
    zeros = ((nibbles(qzeros) + zero_offset) & 15).to(torch.uint8)[groups].contiguous()  # [groups, out]
    words = torch.empty(out, len(inputs) // 8, dtype=torch.int32, device=device)
    step = max(1, _CHUNK_NUMBERS // len(inputs))
    for start in range(0, out, step):
        part = slice(start, start + step)
        q = nibbles(qweight[:, part].T.contiguous())[:, inputs.clamp_min(0)]
        words[part] = _pack(q.masked_fill_(inputs < 0, 0))
    slots = torch.empty(in_features, dtype=torch.int32, device=device)
    slots[inputs[inputs >= 0]] = (inputs >= 0).nonzero().flatten().to(torch.int32)
    return Int4Matrix(
        words=words,
        scales=scales[groups].contiguous(),
        zeros=None if bool((zeros == SYMMETRIC_ZERO).all()) else zeros,
        group_size=new_size,
        in_features=in_features,
        inputs=None if in_order else inputs.to(torch.int32),
        slots=None if in_order else slots,
    )


def unpack(words: Tensor) -> Tensor:
    """Unpack words int32 [out, slots / 8] to weights int32 [out, slots], 0 to 15, in the order of slots."""
    shifts = torch.tensor([[4 * i, 4 * i + 16] for i in range(4)], dtype=torch.int32, device=words.device)
    parts = (words.view(-1, words.shape[1] // 16, 1, 16, 1) >> shifts[:, None, :]) & 15  # [out, segments, 4, 16, 2]
    return parts.reshape(words.shape[0], 8 * words.shape[1])


def _pack(q: Tensor) -> Tensor:
    """The inverse of `unpack`."""
    parts = q.reshape(q.shape[0], -1, 4, 16, 2)
    words = torch.zeros(q.shape[0], parts.shape[1], 16, dtype=torch.int32, device=q.device)
    for i in range(4):
        for half in range(2):
            words |= parts[:, :, i, :, half] << (4 * i + 16 * half)
    return words.view(q.shape[0], -1)


def slot_group_size(group_size: int) -> int:
    """The size, 32, 64 or 128, of the groups that a file's are divided into or padded to. -1: a single group."""
    return next((size for size in _GROUP_SIZES if group_size == -1 or group_size % size == 0), _GROUP_SIZES[-1])


def nibbles(words: Tensor) -> Tensor:
    """Unpack int32 [r, c] to int32 [r, 8 c], the lowest nibble of each word first."""
    shifts = torch.arange(0, 32, 4, dtype=torch.int32, device=words.device)
    return ((words[:, :, None] >> shifts) & 15).reshape(words.shape[0], -1)


def assign_slots(g_idx: Tensor, num_groups: int, size: int) -> tuple[Tensor, Tensor]:
    """Assign inputs to slots so that each run of `size` slots has inputs of one group.

    g_idx: int64 [in]. Returns the inputs, int64 [slots], -1 in empty slots; and the group of each run, int64
    [slots / size].
    """
    counts = torch.bincount(g_idx, minlength=num_groups)
    runs = -(counts // -size)  # runs of each group
    groups = torch.repeat_interleave(torch.arange(num_groups, device=g_idx.device), runs)
    by_group = torch.argsort(g_idx, stable=True)
    first_slot = (runs.cumsum(0) - runs) * size
    first_rank = counts.cumsum(0) - counts
    group = g_idx[by_group]
    slot = first_slot[group] + torch.arange(len(g_idx), device=g_idx.device) - first_rank[group]
    num_slots = -(len(groups) * size // -SEGMENT) * SEGMENT
    inputs = torch.full((num_slots,), -1, dtype=torch.int64, device=g_idx.device)
    inputs[slot] = by_group
    return inputs, torch.nn.functional.pad(groups, (0, num_slots // size - len(groups)))
