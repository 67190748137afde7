"""`sala_kernels.int4_linear` on a CPU: torch's 4-bit kernel for few rows, dequantized pieces for many.

Few rows are bound by memory: torch's kernel reads the packed weights once, and unpacks them in registers. It computes
every row by itself, always in the same order, so a row's result does not depend on the other rows or on the number of
threads. It takes scales in bfloat16: each weight then differs from the file's by at most 2^-9 of itself, as much as a
weight that is rounded to bfloat16.

Many rows are bound by arithmetic: some outputs at a time are dequantized, exactly, into a buffer that stays in the
cache, and torch multiplies. At 1,024 rows the dequantization takes 6% of the time.

By measurement, on two cores with AVX-512 and bfloat16 instructions (4096 x 4096, ms of one core): 1 row 0.9 against
29, 16 rows 6.7 against 31, 64 rows 27 against 37, 256 rows 106 against 63.
"""

import threading

import torch
from torch import Tensor
from torch.nn.functional import pad

from sala_kernels.int4_linear.cpu_matrix import CpuInt4Matrix, kernel_block
from sala_kernels.int4_linear.matrix import SYMMETRIC_ZERO

MAX_KERNEL_ROWS = 64
"""Rows that torch's kernel computes. Which of both ways a product takes depends on its number of rows alone."""

_PIECE_WEIGHTS = 1 << 22  # dequantized and multiplied at a time
_UNPACKED_WEIGHTS = 1 << 18  # unpacked at a time, in float32: stays in the cache of a core
INT4_SCRATCH_BYTES = 48 << 20
"""Upper limit of the buffers that each thread keeps."""


class _Scratch(threading.local):
    """Buffers of one thread, reused by all its products."""

    def __init__(self) -> None:
        self._buffers: dict[tuple[str, torch.dtype], Tensor] = {}

    def get(self, name: str, dtype: torch.dtype, *shape: int) -> Tensor:
        """A tensor whose content is left from an earlier use."""
        count = torch.Size(shape).numel()
        held = self._buffers.get((name, dtype))
        if held is None or len(held) < count:
            with torch.inference_mode(False):  # later calls may be outside of inference mode, and write to it too
                self._buffers[name, dtype] = held = torch.empty(count, dtype=dtype)
        return held[:count].view(shape)


_scratch = _Scratch()


def int4_linear(x: Tensor, matrix: CpuInt4Matrix) -> Tensor:
    """The product of `sala_kernels.int4_linear.int4_linear`."""
    rows = _in_slots(x.reshape(x.shape[:-1].numel(), x.shape[-1]), matrix)
    few = len(rows) <= MAX_KERNEL_ROWS and x.dtype == torch.bfloat16 and matrix.block == kernel_block()
    out = _by_kernel(rows, matrix) if few else _by_pieces(rows, matrix)
    return out.view(*x.shape[:-1], matrix.out_features)


def int4_dequantize(matrix: CpuInt4Matrix, dtype: torch.dtype) -> Tensor:
    """The matrix of `sala_kernels.int4_linear.int4_dequantize`."""
    blocks, slots, _ = matrix.packed.shape
    weight = torch.empty(slots, blocks * matrix.block, dtype=dtype)
    _dequantize(matrix, 0, weight)
    if matrix.inputs is not None:
        natural = torch.empty(matrix.in_features + 1, weight.shape[1], dtype=dtype)
        natural[matrix.inputs] = weight
        weight = natural[:-1]
    return weight.T[: matrix.out_features].contiguous()


def _in_slots(rows: Tensor, matrix: CpuInt4Matrix) -> Tensor:
    """x [M, in] as [M, slots], contiguous, 0 in empty slots."""
    if matrix.inputs is None:
        return rows.contiguous()
    return pad(rows, (0, 1))[:, matrix.inputs]


def _by_kernel(rows: Tensor, matrix: CpuInt4Matrix) -> Tensor:
    """[M, slots] bf16 -> [M, out]. Zero points other than 8 are subtracted afterwards, in float32."""
    if not len(rows):
        return rows.new_empty(0, matrix.out_features)
    blocks, slots, half = matrix.packed.shape
    packed = matrix.packed.view(blocks * 2 * half, slots // 2)
    out = torch.ops.aten._weight_int4pack_mm_for_cpu(rows, packed, matrix.group_size, matrix.rounded)
    if matrix.zeros is not None:
        sums = rows.float().view(len(rows), -1, matrix.group_size).sum(-1)  # [M, groups]
        offsets = (SYMMETRIC_ZERO - matrix.zeros.float()) * matrix.rounded[..., 0].float()
        out = (out.float() + sums @ offsets).to(rows.dtype)
    return out[:, : matrix.out_features].contiguous()


def _by_pieces(rows: Tensor, matrix: CpuInt4Matrix) -> Tensor:
    """[M, slots] -> [M, out], by torch, from dequantized outputs, some at a time.

    Weights are rounded to the dtype of x, except where the CPU multiplies bfloat16 slower than float32.
    """
    blocks, slots, _ = matrix.packed.shape
    dtype = rows.dtype
    if dtype == torch.bfloat16 and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        rows = rows.float()
    step = max(1, _PIECE_WEIGHTS // (slots * matrix.block))
    out = torch.empty(len(rows), blocks * matrix.block, dtype=dtype)
    for first in range(0, blocks, step):
        columns = slice(first * matrix.block, min(first + step, blocks) * matrix.block)
        piece = _scratch.get("piece", rows.dtype, slots, columns.stop - columns.start)
        _dequantize(matrix, first, piece)
        out[:, columns] = rows @ piece
    return out if matrix.out_features == out.shape[1] else out[:, : matrix.out_features].contiguous()


def _dequantize(matrix: CpuInt4Matrix, first: int, out: Tensor) -> None:
    """Write the weights of the blocks from `first` on to out [slots, n * block], rounded once to its dtype."""
    block, group = matrix.block, matrix.group_size
    slots = matrix.packed.shape[1]
    step = max(1, _UNPACKED_WEIGHTS // (block * group)) * group
    for n in range(out.shape[1] // block):
        columns = slice((first + n) * block, (first + n + 1) * block)
        for start in range(0, slots, step):
            part = slice(start, min(start + step, slots))
            groups = slice(start // group, part.stop // group)
            q = _unpacked(matrix.packed[first + n, part], symmetric=matrix.zeros is None)  # fp32 [s, block]
            grouped = q.view(-1, group, block)
            if matrix.zeros is not None:
                grouped.sub_(matrix.zeros[groups, None, columns].float())
            grouped.mul_(matrix.scales[groups, None, columns].float())
            out[part, n * block : (n + 1) * block] = q


def _unpacked(packed: Tensor, *, symmetric: bool) -> Tensor:
    """Integers of packed [s, block / 2] as float32 [s, block], less 8 if `symmetric`."""
    s, half = packed.shape
    numbers = _scratch.get("numbers", torch.float32, s, 2 * half)
    byte = _scratch.get("bytes", torch.uint8, s, half)
    for n, unpack in enumerate((torch.bitwise_and, torch.bitwise_right_shift)):
        unpack(packed, 15 if n == 0 else 4, out=byte)
        signed = byte.view(torch.int8)
        if symmetric:
            signed.sub_(SYMMETRIC_ZERO)
        numbers[:, n * half : (n + 1) * half] = signed
    return numbers
