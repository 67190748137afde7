"""Inputs on which `int4_linear` is compared, and its workloads in the released model."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch
from torch import Tensor

from sala_kernels.backend import Backend
from sala_kernels.inspection.cases import BF16_LIMIT, FLOAT32, Comparison, Numbers, Workload, in_float16
from sala_kernels.int4_linear import Int4Matrix, int4_dequantize, int4_linear, int4_swiglu, repack_int4

TENSOR_CORE_KERNELS = frozenset({"_gemm"})

_GROUP = 128
_SHAPES = {  # (out, in) of the released model's matrices
    "q, k, v, o, gates": (4096, 4096),
    "k, v of sparse layers": (256, 4096),
    "down": (4096, 16384),
}
_FFN = (16384, 4096)
_FP16_LIMIT = 1e-3  # results are rounded to 11 bits, and only the reference rounds the weights

# (in, out, group size, symmetric, permuted): sizes that are multiples of all tiles, and of none
_MATRICES = (
    (256, 128, 128, True, False),
    (200, 72, 128, False, False),
    (136, 40, 64, True, True),
    (328, 24, 64, False, False),
    (200, 72, 32, False, True),
    (96, 8, 32, True, False),
    (264, 136, -1, False, False),
)


def comparisons() -> Iterator[Comparison]:
    """Each kernel by its number of rows: one, a tile, several tiles, and more than the fused kernel computes."""
    for num_in, num_out, group, symmetric, permuted in _MATRICES:
        kind = f"{num_in} x {num_out}, group {group}" + " symmetric" * symmetric + " permuted" * permuted
        make = partial(random_matrix, num_in, num_out, group, symmetric=symmetric, permuted=permuted)
        for M in (1, 2, 17, 300):
            yield Comparison(name=f"{M} rows, {kind}", run=partial(_linear, make=make, M=M))
        for M in (1, 7) if num_out < 100 else (7,):
            run = partial(_swiglu, make=make, M=M)  # in bfloat16 two products are rounded, then used as one product's
            yield Comparison(name=f"swiglu, {M} rows, {kind}", run=run, bf16_limit=2 * BF16_LIMIT)
        yield Comparison(name=f"dequantized, {kind}", run=partial(_dequantized, make=make), limit=0.0)
    for M in (1, 16, 33, 300):  # fp16, where two weights are unpacked at once
        make = partial(random_matrix, 200, 72, 64, symmetric=M == 16, permuted=False)
        half = in_float16(partial(_linear, make=make, M=M))
        yield Comparison(name=f"{M} rows in fp16", run=half, limit=_FP16_LIMIT, bf16_limit=None)
    make = partial(random_matrix, 200, 72, 64, symmetric=False, permuted=False)
    half = in_float16(partial(_swiglu, make=make, M=5))
    yield Comparison(name="swiglu, 5 rows in fp16", run=half, limit=2 * _FP16_LIMIT, bf16_limit=None)
    for M in (1, 16, 33, 100):  # as k and v of the released model's sparse layers
        make = partial(random_matrix, 4096, 128, _GROUP, symmetric=True, permuted=False)
        yield Comparison(name=f"{M} rows, 4096 x 128, group 128", run=partial(_linear, make=make, M=M))
    for M in (7, 33):  # inputs split into unequal parts, outputs in several tiles
        make = partial(random_matrix, 1408, 136, 128, symmetric=True, permuted=False)
        yield Comparison(name=f"{M} rows, 1408 x 136, split", run=partial(_linear, make=make, M=M))
    make = partial(random_matrix, 4232, 24, 128, symmetric=False, permuted=False)
    yield Comparison(name="1 row, 4232 x 24, two passes over x", run=partial(_linear, make=make, M=1))


def workloads() -> Iterator[Workload]:
    """The matrices of the released model, group size 128. Bytes: W with its scales, x and the result, once each."""
    for M in (1, 16, 128, 512, 8192):
        rows = "1 row" if M == 1 else f"{M:,} rows"
        for name, (num_out, num_in) in _SHAPES.items():
            yield Workload(
                name=f"{name}: {num_in} x {num_out}, {rows}",
                prepare=partial(_prepare, M=M, num_out=num_out, num_in=num_in),
                num_bytes=_matrix_bytes(num_out, num_in) + 2 * M * (num_in + num_out),
                num_flops=2 * M * num_in * num_out,
            )
        num_out, num_in = _FFN
        yield Workload(
            name=f"gate and up with SwiGLU: 2 x {num_in} x {num_out}, {rows}",
            prepare=partial(_prepare_swiglu, M=M),
            num_bytes=2 * _matrix_bytes(num_out, num_in) + 2 * M * (num_in + num_out),
            num_flops=4 * M * num_in * num_out,
        )


def random_matrix(
    num_in: int, num_out: int, group: int, *, symmetric: bool, permuted: bool, device: torch.device, seed: int = 0
) -> Int4Matrix:
    """Return a matrix of random weights, repacked from GPTQ's layout.

    Args:
        num_in, num_out: inputs and outputs.
        group: size of a group, or -1 for a single group.
        symmetric: whether all zero points are 8.
        permuted: whether inputs are in another order than their groups.
        device: of the matrix.
        seed: of the random numbers.
    """
    generator = torch.Generator().manual_seed(seed)
    size = num_in if group == -1 else group
    groups = -(-num_in // size)

    def words(rows: int, columns: int) -> Tensor:
        return torch.randint(-(2**31), 2**31, (rows, columns), generator=generator).to(torch.int32).to(device)

    g_idx = torch.arange(num_in) // size
    return repack_int4(
        words(num_in // 8, num_out),
        torch.full_like(words(groups, num_out // 8), 0x77777777) if symmetric else words(groups, num_out // 8),
        (torch.rand(groups, num_out, generator=generator) * 0.1 + 0.01).half().to(device),
        g_idx[torch.randperm(num_in, generator=generator)].to(device) if permuted else None,
        group_size=group,
        zero_offset=1,
    )


def _x(M: int, num_in: int, numbers: Numbers, device: torch.device) -> Tensor:
    """Random rows [M, num_in], strided."""
    x = torch.randn(M, num_in + 8, generator=torch.Generator().manual_seed(M)).to(device)
    return numbers.rows(x)[:, :num_in]


def _linear(
    backend: Backend,
    device: torch.device,
    numbers: Numbers = FLOAT32,
    *,
    make: Callable[..., Int4Matrix],
    M: int,
) -> Sequence[Tensor]:
    matrix = make(device=device)
    return [int4_linear(_x(M, matrix.in_features, numbers, device), matrix, backend=backend)]


def _swiglu(
    backend: Backend,
    device: torch.device,
    numbers: Numbers = FLOAT32,
    *,
    make: Callable[..., Int4Matrix],
    M: int,
) -> Sequence[Tensor]:
    gate, up = make(device=device), make(device=device, seed=1)
    return [int4_swiglu(_x(M, gate.in_features, numbers, device), gate, up, backend=backend)]


def _dequantized(
    backend: Backend, device: torch.device, numbers: Numbers = FLOAT32, *, make: Callable[..., Int4Matrix]
) -> Sequence[Tensor]:
    matrix = make(device=device)
    dtypes = (torch.float32, torch.float16) if numbers == FLOAT32 else (numbers.row_dtype,)
    return [int4_dequantize(matrix, dtype, backend=backend) for dtype in dtypes]


def _matrix_bytes(num_out: int, num_in: int) -> int:
    return num_out * num_in // 2 + 2 * num_out * num_in // _GROUP


def _empty_matrix(num_out: int, num_in: int, device: torch.device) -> Int4Matrix:
    return Int4Matrix(
        words=torch.zeros(num_out, num_in // 8, dtype=torch.int32, device=device),
        scales=torch.ones(num_in // _GROUP, num_out, dtype=torch.float16, device=device),
        zeros=None,
        group_size=_GROUP,
        in_features=num_in,
    )


def _prepare(device: torch.device, M: int, num_out: int, num_in: int) -> Callable[[], object]:
    x = torch.ones(M, num_in, dtype=torch.bfloat16, device=device)
    matrix = _empty_matrix(num_out, num_in, device)
    return lambda: int4_linear(x, matrix)


def _prepare_swiglu(device: torch.device, M: int) -> Callable[[], object]:
    x = torch.ones(M, _FFN[1], dtype=torch.bfloat16, device=device)
    gate, up = _empty_matrix(*_FFN, device), _empty_matrix(*_FFN, device)
    return lambda: int4_swiglu(x, gate, up)
