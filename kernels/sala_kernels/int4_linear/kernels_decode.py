"""Triton kernel of `sala_kernels.int4_linear` for one row: a GEMV bound by memory bandwidth, not by arithmetic.

An H200 reads 8e12 weights per second at 4 TB/s and issues 28e12 instructions per second over all lanes: about three
for a weight. This kernel needs two, an `and` and a multiply-add. A masked nibble at bit p, read as a float, is exactly
the number q * 2^(p - 149), mostly a subnormal one. Floats are linear in bits 0 to 23 (the fraction and the lowest bit
of the exponent), so six nibbles of a word need no shift. The other two are shifted. x is multiplied by 2^(76 - p), so
that all products are in units of 2^-73. The zero point is subtracted once for each group, as zero * sum(x). |x| may be
up to 2^51. Subnormal operands are not slower on NVIDIA GPUs, and PTX keeps them unless an instruction has `.ftz`.
"""

import triton
import triton.language as tl
from torch import Tensor

from sala_kernels.int4_linear.matrix import Int4Matrix
from sala_kernels.launch import launch

_NUM_WARPS = 4
_BLOCK_OUT = 16  # outputs of a program, which share the preparation of x
_FEW_OUTPUTS = 4096  # with fewer, four times as many programs share the outputs
_SEGMENTS = 32  # of 64 bytes, read at a time: 16 bytes of a row for each of 128 threads


def gemv(x: Tensor, matrix: Int4Matrix, up: Int4Matrix | None, out: Tensor) -> None:
    """Write W x[m], or silu(W x[m]) * (Wup x[m]) if `up` is given, to out[m]. x: [M, in]. out: [M, out].

    M may be any number; each row is computed alone. `up` has the group size of `matrix`, and both have no permutation.
    """
    num_out, width = matrix.words.shape
    block = _BLOCK_OUT if num_out >= _FEW_OUTPUTS else _BLOCK_OUT // 4
    if up is not None:
        block //= 2
    launch(
        _gemv,
        (triton.cdiv(num_out, block), x.shape[0]),
        num_warps=_NUM_WARPS,
        num_stages=1,
        x=x,
        words=matrix.words,
        scales=matrix.scales,
        zeros=matrix.zeros,
        inputs=matrix.inputs,
        words_up=None if up is None else up.words,
        scales_up=None if up is None else up.scales,
        zeros_up=None if up is None else up.zeros,
        out=out,
        stride_x=x.stride(0),
        stride_out=out.stride(0),
        num_in=x.shape[1],
        num_out=num_out,
        num_segments=width // 16,
        GROUP=matrix.group_size,
        BLOCK_OUT=block,
        SEGMENTS=_SEGMENTS,
        STAGES=1 if width <= 16 * _SEGMENTS else 2,
    )


@triton.jit
def _gemv(
    x,
    words,
    scales,
    zeros,
    inputs,
    words_up,
    scales_up,
    zeros_up,
    out,
    stride_x,
    stride_out,
    num_in,
    num_out,
    num_segments,
    GROUP: tl.constexpr,
    BLOCK_OUT: tl.constexpr,
    SEGMENTS: tl.constexpr,
    STAGES: tl.constexpr,
):
    row = tl.program_id(1).to(tl.int64)
    n = tl.program_id(0) * BLOCK_OUT + tl.arange(0, BLOCK_OUT)[:, None, None]
    x += row * stride_x
    total = tl.zeros([BLOCK_OUT, SEGMENTS, 4], tl.float32)
    total_up = tl.zeros([BLOCK_OUT, SEGMENTS, 4], tl.float32)
    for start in tl.range(0, num_segments, SEGMENTS, num_stages=STAGES):
        segment = start + tl.arange(0, SEGMENTS)[:, None]  # [segments, 1]
        at = n.to(tl.int64) * (num_segments * 16) + (segment * 16 + tl.arange(0, 16)[None, :])[None, :, :]
        inside = (n < num_out) & (segment < num_segments)[None, :, :]
        word = tl.load(words + at, inside, other=0)  # [outputs, segments, 16]
        dot = tl.zeros([BLOCK_OUT, SEGMENTS, 16], tl.float32)
        if words_up is not None:
            word_up = tl.load(words_up + at, inside, other=0)
            dot_up = tl.zeros([BLOCK_OUT, SEGMENTS, 16], tl.float32)
        sums = tl.zeros([SEGMENTS, 16], tl.float32)
        for i in tl.static_range(4):
            low, high = _two_inputs(x, inputs, num_in, segment, num_segments, i)
            sums += low + high
            low = (low * _two_to(76 - 4 * i))[None, :, :]
            high = (high * (_two_to(60 - 4 * i) if i < 2 else _two_to(76)))[None, :, :]
            dot += _nibble(word, 4 * i) * low
            dot += _nibble(word, 4 * i + 16) * high
            if words_up is not None:
                dot_up += _nibble(word_up, 4 * i) * low
                dot_up += _nibble(word_up, 4 * i + 16) * high
            if (32 * i + 32) % GROUP == 0:
                part = _by_four(sums[None, :, :]) * _two_to(-73)
                group = (segment * (128 // GROUP) + (32 * i) // GROUP)[None, :, :]
                total = _add_group(total, dot, part, scales, zeros, n, num_out, group, inside)
                dot = tl.zeros([BLOCK_OUT, SEGMENTS, 16], tl.float32)
                if words_up is not None:
                    total_up = _add_group(total_up, dot_up, part, scales_up, zeros_up, n, num_out, group, inside)
                    dot_up = tl.zeros([BLOCK_OUT, SEGMENTS, 16], tl.float32)
                sums = tl.zeros([SEGMENTS, 16], tl.float32)
    result = _sum_of_row(total)
    if words_up is not None:
        result = result * tl.sigmoid(result) * _sum_of_row(total_up)
    n = tl.program_id(0) * BLOCK_OUT + tl.arange(0, BLOCK_OUT)
    tl.store(out + row * stride_out + n, result.to(out.dtype.element_ty), n < num_out)


@triton.jit
def _two_inputs(x, inputs, num_in, segment, num_segments, i: tl.constexpr):
    """The inputs of nibble i of the low half and of the high half of each word, fp32 [segments, 16] each."""
    slot = segment * 128 + (32 * i + tl.arange(0, 32))[None, :]
    if inputs is None:
        value = tl.load(x + slot, slot < num_in, other=0.0)
    else:
        index = tl.load(inputs + slot, segment < num_segments, other=-1)
        value = tl.load(x + index, index >= 0, other=0.0)
    return tl.split(value.to(tl.float32).reshape(value.shape[0], 16, 2))


@triton.jit
def _nibble(word, bit: tl.constexpr):
    """The nibble at `bit` as a subnormal float: q * 2^(bit - 149), or q * 2^-149 from bit 24 on."""
    if bit == 28:
        bits = word.to(tl.uint32, bitcast=True) >> 28
    elif bit == 24:
        bits = (word >> 24) & 15
    else:
        bits = word & (15 << bit)
    return bits.to(tl.float32, bitcast=True)


@triton.jit
def _add_group(total, dot, sums, scales, zeros, n, num_out, group, inside):
    """total + scale * (dot - zero * sums), [outputs, segments, 4]. dot: [outputs, segments, 16]. sums: of x."""
    at = group * num_out + n
    scale = tl.load(scales + at, inside, other=0.0).to(tl.float32)
    if zeros is None:
        part = _by_four(dot) - sums * 8
    else:
        part = _by_four(dot) - sums * tl.load(zeros + at, inside, other=0).to(tl.float32)
    return total + part * scale


@triton.jit
def _by_four(values):
    """[r, s, 16] to [r, s, 4]: sums of four neighbors, which are in one thread."""
    return tl.sum(values.reshape(values.shape[0], values.shape[1], 4, 4), 3)


@triton.jit
def _sum_of_row(total):
    """The sum of each output [outputs], from [outputs, segments, 4] in units of 2^-73."""
    return tl.sum(total.reshape(total.shape[0], total.shape[1] * 4), 1) * _two_to(73)


@triton.jit
def _two_to(exponent: tl.constexpr):
    """2^exponent as a float32."""
    return tl.full([], 2.0**exponent, tl.float32)
