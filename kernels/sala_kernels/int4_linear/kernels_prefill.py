"""Triton kernels of `sala_kernels.int4_linear` for several rows: the GEMM on tensor cores, and dequantization.

The GEMM computes out^T = W x^T. W is the left operand, so that packed words become tensor-core operands in registers,
by one `and`, one `or` and one subtraction for two weights. A nibble q in the low bits of 128 (bf16) or of 1024 (fp16)
is the number 128 + q or 1024 + q, from which the zero point is subtracted exactly. The scale multiplies the sum over a
group, in float32.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from sala_kernels.int4_linear.matrix import Int4Matrix
from sala_kernels.launch import capability, launch

_MAX_SPLITS = 16


def gemm(x: Tensor, matrix: Int4Matrix, up: Int4Matrix | None, out: Tensor) -> None:
    """Write x W^T, or silu(x W^T) * (x Wup^T) if `up` is given, to out [M, out]. x: [M, in] in the order of slots.

    `up` has the group size of `matrix`, and both have no permutation. If there are few tiles, programs split the inputs
    (split-K), and a second kernel adds their results in a fixed order.
    """
    M, num_out = out.shape
    num_segments = matrix.words.shape[1] // 16
    block_rows, block_out, num_warps, num_stages = _tile(M, x.dtype, capability(x), matrix.group_size)
    if up is not None:
        block_out = min(block_out, 64)
    tiles = triton.cdiv(M, block_rows) * triton.cdiv(num_out, block_out)
    splits = 1 if up is not None else _num_splits(tiles, num_segments, num_warps)
    segments_per_split = triton.cdiv(num_segments, splits)
    splits = triton.cdiv(num_segments, segments_per_split)
    sums = out if splits == 1 else torch.empty(splits, M, num_out, dtype=torch.float32, device=x.device)
    launch(
        _gemm,
        (tiles, splits),
        num_warps=num_warps,
        num_stages=num_stages,
        x=x,
        words=matrix.words,
        scales=matrix.scales,
        zeros=matrix.zeros,
        words_up=None if up is None else up.words,
        scales_up=None if up is None else up.scales,
        zeros_up=None if up is None else up.zeros,
        out=sums,
        stride_x=x.stride(0),
        stride_out=sums.stride(-2),
        M=M,
        num_in=x.shape[1],
        num_out=num_out,
        num_segments=num_segments,
        segments_per_split=segments_per_split,
        EVEN=x.shape[1] == 128 * num_segments,
        GROUP=matrix.group_size,
        BLOCK_ROWS=block_rows,
        BLOCK_OUT=block_out,
    )
    if splits > 1:
        block = 1024
        launch(
            _add_splits,
            (triton.cdiv(num_out, block), M),
            num_warps=4,
            sums=sums,
            out=out,
            stride_out=out.stride(0),
            M=M,
            num_out=num_out,
            SPLITS=splits,
            BLOCK=block,
        )


def _tile(M: int, dtype: torch.dtype, compute_capability: int, group_size: int) -> tuple[int, int, int, int]:
    """(rows of x, outputs, warps, stages) of a tile that fits in 99 KB of shared memory without spills."""
    if dtype == torch.float32:
        return 16, 64, 4, 2  # no tensor cores: not fast
    if M <= 16:
        return 16, 128, 4, 4
    if M <= 32:
        return 32, 128, 4, 3
    if M <= 64:
        return 64, 64, 4, 3
    return (128, 128, 8, 4) if compute_capability == 90 and group_size == 128 else (64, 128, 8, 3)


def _num_splits(tiles: int, num_segments: int, num_warps: int) -> int:
    """Splits of the inputs: enough for 8 warps on each of about 128 multiprocessors, with at least 4 segments each.

    Each further split costs 4 bytes for an output, written and read.
    """
    return max(1, min(128 * 8 // num_warps // tiles, num_segments // 4, _MAX_SPLITS))


def gather(x: Tensor, inputs: Tensor) -> Tensor:
    """Return x [M, in] in the order of slots, [M, slots], 0 in empty slots."""
    out = torch.empty(x.shape[0], inputs.shape[0], dtype=x.dtype, device=x.device)
    block = 1024
    launch(
        _gather,
        (triton.cdiv(inputs.shape[0], block), x.shape[0]),
        x=x,
        inputs=inputs,
        out=out,
        stride_x=x.stride(0),
        num_slots=inputs.shape[0],
        BLOCK=block,
    )
    return out


def dequantize(matrix: Int4Matrix, out: Tensor, first: int) -> None:
    """Write rows of the dequantized matrix, from `first` on, to out [n, in], contiguous."""
    n, num_in = out.shape
    block_out, block_in = 16, 512  # a thread computes 16 neighbors in each of four runs of 128 slots
    launch(
        _dequantize,
        (triton.cdiv(num_in, block_in), triton.cdiv(n, block_out)),
        num_warps=4,
        words=matrix.words[first : first + n],
        scales=matrix.scales[:, first : first + n],
        zeros=None if matrix.zeros is None else matrix.zeros[:, first : first + n],
        slots=matrix.slots,
        out=out,
        stride_scales=matrix.scales.stride(0),
        n=n,
        num_in=num_in,
        num_segments=matrix.words.shape[1] // 16,
        GROUP=matrix.group_size,
        BLOCK_OUT=block_out,
        BLOCK_SEGMENTS=block_in // 128,
    )


@triton.jit(do_not_specialize=["M", "segments_per_split"])
def _gemm(
    x,
    words,
    scales,
    zeros,
    words_up,
    scales_up,
    zeros_up,
    out,
    stride_x,
    stride_out,
    M,
    num_in,
    num_out,
    num_segments,
    segments_per_split,
    EVEN: tl.constexpr,
    GROUP: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_OUT: tl.constexpr,
):
    m, n = _program_tile(tl.program_id(0), M, num_out, BLOCK_ROWS, BLOCK_OUT)
    split = tl.program_id(1)
    # rows and outputs after the end repeat the last: loads need no mask, stores have one
    row, output = tl.minimum(m, M - 1), tl.minimum(n, num_out - 1)
    at_x = x + row[None, :].to(tl.int64) * stride_x + tl.arange(0, 32)[:, None]
    at = output[:, None].to(tl.int64) * (num_segments * 16) + tl.arange(0, 16)[None, :]
    total = tl.zeros([BLOCK_OUT, BLOCK_ROWS], tl.float32)
    total_up = tl.zeros([BLOCK_OUT, BLOCK_ROWS], tl.float32)
    for segment in range(
        split * segments_per_split, tl.minimum(split * segments_per_split + segments_per_split, num_segments)
    ):
        word = tl.load(words + at + segment * 16)
        dot = tl.zeros([BLOCK_OUT, BLOCK_ROWS], tl.float32)
        if words_up is not None:
            word_up = tl.load(words_up + at + segment * 16)
            dot_up = tl.zeros([BLOCK_OUT, BLOCK_ROWS], tl.float32)
        for i in tl.static_range(4):
            group_at = tl.cast(segment * (128 // GROUP) + (32 * i) // GROUP, tl.int64) * num_out + output
            if (32 * i) % GROUP == 0:
                # before the products of the group, which hide its latency
                scale = tl.load(scales + group_at).to(tl.float32)[:, None]
                if words_up is not None:
                    scale_up = tl.load(scales_up + group_at).to(tl.float32)[:, None]
            first = segment * 128 + 32 * i
            if EVEN:
                columns = tl.load(at_x + first)  # [32, rows]
            else:
                columns = tl.load(at_x + first, first + tl.arange(0, 32)[:, None] < num_in, other=0.0)
            dot = tl.dot(_weights(word, i, zeros, group_at, columns.dtype), columns, dot, input_precision="ieee")
            if words_up is not None:
                weight = _weights(word_up, i, zeros_up, group_at, columns.dtype)
                dot_up = tl.dot(weight, columns, dot_up, input_precision="ieee")
            if (32 * i + 32) % GROUP == 0:
                total += dot * scale
                dot = tl.zeros([BLOCK_OUT, BLOCK_ROWS], tl.float32)
                if words_up is not None:
                    total_up += dot_up * scale_up
                    dot_up = tl.zeros([BLOCK_OUT, BLOCK_ROWS], tl.float32)
    if words_up is not None:
        total = total * tl.sigmoid(total) * total_up
    at_out = out + (split.to(tl.int64) * M + m[None, :]) * stride_out + n[:, None]
    tl.store(at_out, total.to(out.dtype.element_ty), (m[None, :] < M) & (n[:, None] < num_out))


@triton.jit
def _program_tile(program, M, num_out, BLOCK_ROWS: tl.constexpr, BLOCK_OUT: tl.constexpr):
    """Rows of x and outputs of a program. Eight tiles of rows use a tile of W while it is in the L2 cache."""
    tiles_m, tiles_n = tl.cdiv(M, BLOCK_ROWS), tl.cdiv(num_out, BLOCK_OUT)
    first = program // (8 * tiles_n) * 8
    high = tl.minimum(tiles_m - first, 8)
    within = program % (8 * tiles_n)
    m = (first + within % high) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    return m, within // high * BLOCK_OUT + tl.arange(0, BLOCK_OUT)


@triton.jit
def _weights(word, i: tl.constexpr, zeros, group_at, dtype: tl.constexpr):
    """q - zero of run i of a segment, exactly, in `dtype`: words [outputs, 16] to weights [outputs, 32]."""
    pair = (word >> (4 * i)) & 0x000F000F
    if dtype == tl.float32:
        low, high = (pair & 0xFFFF).to(tl.float32), (pair >> 16).to(tl.float32)
    else:
        # constants, not arguments: only past constants does the compiler move the layout conversion to the load
        pair |= 0x43004300 if dtype == tl.bfloat16 else 0x64006400
        low = (pair & 0xFFFF).to(tl.int16).to(dtype, bitcast=True)
        high = (pair >> 16).to(tl.int16).to(dtype, bitcast=True)
    base: tl.constexpr = 0.0 if dtype == tl.float32 else (128.0 if dtype == tl.bfloat16 else 1024.0)
    weight = tl.join(low, high).reshape(word.shape[0], 32)
    if zeros is None:
        weight -= tl.full([1, 1], base + 8.0, dtype)
    else:
        weight -= (tl.load(zeros + group_at)[:, None].to(tl.float32) + base).to(dtype)
    return weight


@triton.jit(do_not_specialize=["M"])
def _add_splits(sums, out, stride_out, M, num_out, SPLITS: tl.constexpr, BLOCK: tl.constexpr):
    """Write the sum of sums [splits, M, out] over the splits to out [M, out]."""
    row = tl.program_id(1).to(tl.int64)
    n = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    total = tl.zeros([BLOCK], tl.float32)
    for split in tl.static_range(SPLITS):
        total += tl.load(sums + (row + split * M) * num_out + n, n < num_out, other=0.0)
    tl.store(out + row * stride_out + n, total.to(out.dtype.element_ty), n < num_out)


@triton.jit
def _gather(x, inputs, out, stride_x, num_slots, BLOCK: tl.constexpr):
    row = tl.program_id(1).to(tl.int64)
    slot = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    index = tl.load(inputs + slot, slot < num_slots, other=-1)
    value = tl.load(x + row * stride_x + index, index >= 0, other=0.0)
    tl.store(out + row * num_slots + slot, value, slot < num_slots)


@triton.jit
def _dequantize(
    words,
    scales,
    zeros,
    slots,
    out,
    stride_scales,
    n,
    num_in,
    num_segments,
    GROUP: tl.constexpr,
    BLOCK_OUT: tl.constexpr,
    BLOCK_SEGMENTS: tl.constexpr,
):
    row = tl.program_id(1) * BLOCK_OUT + tl.arange(0, BLOCK_OUT)
    if slots is None:
        segment = tl.program_id(0) * BLOCK_SEGMENTS + tl.arange(0, BLOCK_SEGMENTS)
        at = (segment[:, None] * 16 + tl.arange(0, 16)[None, :])[None, :, :]
        at += row[:, None, None].to(tl.int64) * (num_segments * 16)
        inside = (row < n)[:, None, None] & (segment < num_segments)[None, :, None]
        word = tl.load(words + at, inside, other=0)
        for i in tl.static_range(4):
            group = segment[None, :, None] * (128 // GROUP) + (32 * i) // GROUP
            low = _scaled(word >> (4 * i), scales, zeros, stride_scales, row[:, None, None], group, inside)
            high = _scaled(word >> (4 * i + 16), scales, zeros, stride_scales, row[:, None, None], group, inside)
            column = segment[:, None] * 128 + (32 * i + tl.arange(0, 32))[None, :]
            values = tl.join(low, high).reshape(BLOCK_OUT, BLOCK_SEGMENTS, 32).to(out.dtype.element_ty)
            at_out = out + row[:, None, None].to(tl.int64) * num_in + column[None, :, :]
            tl.store(at_out, values, (row < n)[:, None, None] & (column < num_in)[None, :, :])
    else:
        column = tl.program_id(0) * BLOCK_SEGMENTS * 128 + tl.arange(0, BLOCK_SEGMENTS * 128)
        slot = tl.load(slots + column, column < num_in, other=0)[None, :]
        inside = (row < n)[:, None] & (column < num_in)[None, :]
        at = (slot // 128) * 16 + (slot % 32) // 2 + row[:, None].to(tl.int64) * (num_segments * 16)
        shift = (slot % 128) // 32 * 4 + slot % 2 * 16
        word = tl.load(words + at, inside, other=0)
        value = _scaled(word >> shift, scales, zeros, stride_scales, row[:, None], slot // GROUP, inside)
        tl.store(out + row[:, None].to(tl.int64) * num_in + column[None, :], value.to(out.dtype.element_ty), inside)


@triton.jit
def _scaled(q, scales, zeros, stride_scales, row, group, inside):
    """scale * ((q & 15) - zero) in float32. With q in its low bits, the float 2^23 is 2^23 + q."""
    at = group * stride_scales + row
    zero = 8388616.0
    if zeros is not None:
        zero = tl.load(zeros + at, inside, other=0).to(tl.float32) + 8388608.0
    difference = ((q & 15) | 0x4B000000).to(tl.float32, bitcast=True) - zero
    return difference * tl.load(scales + at, inside, other=0.0).to(tl.float32)
