"""4-bit linear layers on a CPU: the packed layout, and both ways of multiplying, against float64."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from sala_kernels import CpuInt4Matrix, int4_dequantize, int4_linear, int4_swiglu, repack_int4, repack_int4_for_cpu
from sala_kernels.int4_linear import cpu, cpu_matrix
from torch.nn.functional import silu

LIMITS = {torch.bfloat16: 5e-3, torch.float32: 1e-6, torch.float64: 1e-14}
"""Relative RMS error. bfloat16: scales or weights and the result are rounded to 8 bits, 2^-9 each at most."""

MATRICES = {  # (in, out, group size, symmetric, permuted): multiples of all tiles, and of none
    "whole blocks": (256, 128, 128, True, False),
    "padded, zero points": (200, 72, 128, False, False),
    "padded, permuted": (136, 40, 64, True, True),
    "permuted, zero points": (200, 72, 32, False, True),
    "group of 48, permuted": (136, 40, 48, False, True),
    "group of 256": (512, 8, 256, True, False),
    "one group": (264, 136, -1, False, False),
}


def gptq_tensors(num_in, num_out, group, symmetric, permuted, seed=0):
    """Random tensors of a GPTQ file of format v1, with g_idx."""
    generator = torch.Generator().manual_seed(seed)
    size = num_in if group == -1 else group
    g_idx = torch.arange(num_in) // size
    zeros = torch.randint(-(2**31), 2**31, (-(-num_in // size), num_out // 8), generator=generator).int()
    return {
        "qweight": torch.randint(-(2**31), 2**31, (num_in // 8, num_out), generator=generator).int(),
        "qzeros": torch.full_like(zeros, 0x77777777) if symmetric else zeros,
        "scales": (torch.rand(len(zeros), num_out, generator=generator) * 0.1 + 0.01).half(),
        "g_idx": g_idx[torch.randperm(num_in, generator=generator)] if permuted else g_idx,
    }


def plain(stored):
    """W [out, in] in float64 by the formula of the layout."""
    shifts = 4 * torch.arange(8, dtype=torch.int64)
    q = (stored["qweight"].long()[:, None] >> shifts[:, None] & 15).flatten(0, 1)  # [in, out]
    zeros = ((stored["qzeros"].long()[..., None] >> shifts) + 1 & 15).flatten(1)  # [groups, out]
    g = stored["g_idx"]
    return (stored["scales"].double()[g] * (q - zeros[g])).T


def matrix_of(name, seed=0):
    """(matrix, its weights in float64)."""
    stored = gptq_tensors(*MATRICES[name], seed=seed)
    return repack_int4_for_cpu(**stored, group_size=MATRICES[name][2], zero_offset=1), plain(stored)


def rows(M, num_in, dtype, seed=0):
    return torch.randn(M, num_in, generator=torch.Generator().manual_seed(M + seed)).to(dtype)


def error(found, expected):
    return float((found.double() - expected).norm() / expected.norm())


@pytest.mark.parametrize("name", MATRICES)
def test_the_packed_matrix_is_the_files_and_the_cards(name):
    matrix, expected = matrix_of(name)
    stored = gptq_tensors(*MATRICES[name])
    of_card = repack_int4(**stored, group_size=MATRICES[name][2], zero_offset=1)
    assert matrix.shape == of_card.shape == tuple(expected.shape)
    for dtype in (torch.bfloat16, torch.float32, torch.float64):
        found = int4_dequantize(matrix, dtype)
        assert torch.equal(found, expected.float().to(dtype))
        assert torch.equal(found, int4_dequantize(of_card, dtype))


def test_repacking_in_several_parts_is_the_same(monkeypatch):
    whole, _ = matrix_of("one group")
    monkeypatch.setattr(cpu_matrix, "_CHUNK_NUMBERS", 1)
    parts, _ = matrix_of("one group")
    assert torch.equal(whole.packed, parts.packed)


def test_a_symmetric_matrix_takes_little_more_than_its_nibbles():
    matrix, _ = matrix_of("whole blocks")
    assert matrix.zeros is matrix.inputs is None
    assert matrix.num_bytes == 256 * 128 // 2 + 2 * 128 * 6


@pytest.mark.parametrize("dtype", LIMITS, ids=str)
@pytest.mark.parametrize("name", MATRICES)
def test_products_of_any_number_of_rows_are_within_the_limit(name, dtype, monkeypatch):
    monkeypatch.setattr(cpu, "_PIECE_WEIGHTS", 1)  # one block in a piece
    monkeypatch.setattr(cpu, "_UNPACKED_WEIGHTS", 1)
    matrix, weight = matrix_of(name)
    for M in (1, 2, 7, 64, 65, 131):
        x = rows(M, matrix.in_features, dtype)
        found = int4_linear(x, matrix)
        assert (found.dtype, found.is_contiguous()) == (dtype, True)
        assert error(found, x.double() @ weight.T) < LIMITS[dtype], M


@pytest.mark.parametrize("rows_above", [0, 1 << 20])
def test_both_ways_of_multiplying_are_within_the_limit_at_every_number_of_rows(rows_above, monkeypatch):
    monkeypatch.setattr(cpu, "MAX_KERNEL_ROWS", rows_above)
    for name in ("whole blocks", "permuted, zero points"):
        matrix, weight = matrix_of(name)
        for M in (1, 40, 200):
            x = rows(M, matrix.in_features, torch.bfloat16)
            assert error(int4_linear(x, matrix), x.double() @ weight.T) < LIMITS[torch.bfloat16]


def test_rounded_scales_change_no_weight_by_more_than_a_rounded_weight_is():
    matrix, weight = matrix_of("padded, zero points")
    if matrix.block != cpu_matrix.kernel_block():
        pytest.skip("torch has no fast 4-bit kernel for this CPU")
    one = torch.eye(matrix.in_features, dtype=torch.bfloat16)
    found = torch.cat([int4_linear(part, matrix) for part in one.split(50)]).double().T  # W, rounded once more
    assert ((found - weight).abs() <= (2**-9 + 2**-8) * weight.abs() + 2**-8 * 8 * 0.11).all()
    assert error(found, weight) < LIMITS[torch.bfloat16]


def test_a_row_has_the_same_bits_whatever_rows_are_beside_it():
    """So a draft of several tokens gets the products that its tokens get one by one."""
    for name in MATRICES:
        matrix, _ = matrix_of(name)
        x = rows(cpu.MAX_KERNEL_ROWS, matrix.in_features, torch.bfloat16)
        whole = int4_linear(x, matrix)
        for start, stop in ((0, 1), (1, 3), (5, 64), (63, 64)):
            assert torch.equal(int4_linear(x[start:stop], matrix), whole[start:stop])


@pytest.mark.parametrize("M", [1, 16, 65, 300])
def test_the_number_of_threads_changes_no_bit(M):
    matrix, _ = matrix_of("whole blocks")
    x = rows(M, matrix.in_features, torch.bfloat16)
    found, threads = [], torch.get_num_threads()
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            found.append(int4_linear(x, matrix))
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(found[0], other) for other in found[1:])


def test_threads_do_not_share_their_buffers():
    matrices = [matrix_of(name, seed)[0] for name in ("padded, permuted", "one group") for seed in (1, 2)]
    inputs = [rows(100, matrix.in_features, torch.float32) for matrix in matrices]
    expected = [int4_linear(x, matrix) for x, matrix in zip(inputs, matrices, strict=True)]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(10):
            found = list(pool.map(int4_linear, inputs, matrices))
            assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_buffers_made_in_inference_mode_serve_calls_outside_of_it():
    """A new thread has no buffers yet. torch refuses to write to a tensor that was made in inference mode elsewhere."""
    matrix, weight = matrix_of("padded, permuted")

    def compute():
        with torch.inference_mode():
            int4_linear(torch.ones(70, 136), matrix)
        return int4_linear(torch.ones(70, 136), matrix)

    with ThreadPoolExecutor(1) as pool:
        assert error(pool.submit(compute).result(), torch.ones(70, 136).double() @ weight.T) < 1e-6


def test_swiglu_zero_rows_and_leading_dimensions():
    gate, gate_weight = matrix_of("padded, permuted")
    up, up_weight = matrix_of("padded, permuted", seed=1)
    x = rows(6, 136, torch.float32).view(2, 3, 136)
    expected = silu(x.double() @ gate_weight.T) * (x.double() @ up_weight.T)
    assert error(int4_swiglu(x, gate, up), expected) < 1e-6
    assert int4_linear(x.bfloat16()[:0], gate).shape == (0, 3, 40)
    assert int4_linear(x[0, 0], gate).shape == (40,)


def test_strided_rows_are_read_by_their_strides():
    matrix, weight = matrix_of("whole blocks")
    x = rows(3, 300, torch.bfloat16)
    for view in (x[:, 20:276], rows(512, 3, torch.bfloat16).T[:, ::2]):
        assert error(int4_linear(view, matrix), view.double() @ weight.T) < LIMITS[torch.bfloat16]


def test_what_does_not_fit_together_is_refused():
    matrix, _ = matrix_of("padded, permuted")
    with pytest.raises(ValueError, match=r"x must be \[\.\.\., 136\]"):
        int4_linear(torch.zeros(2, 128), matrix)
    with pytest.raises(ValueError, match="CpuInt4Matrix"):
        int4_linear(torch.zeros(2, 136), matrix, backend="triton")
    with pytest.raises(ValueError, match="scales must be of shape"):
        CpuInt4Matrix.of(matrix.packed, torch.ones(1, 8), None, group_size=64, in_features=136, out_features=40)
    with pytest.raises(ValueError, match="do not fill"):
        CpuInt4Matrix.of(matrix.packed, matrix.scales, None, group_size=64, in_features=136, out_features=40)


_OTHER_CPU = """
import sys
import torch
sys.path[:0] = sys.argv[1:]
from test_int4_cpu import LIMITS, MATRICES, cpu_matrix, error, int4_linear, matrix_of, rows
assert cpu_matrix.kernel_block() == {"AVX2": 32}.get(torch.backends.cpu.get_cpu_capability()), cpu_matrix.kernel_block()
for name in MATRICES:
    matrix, weight = matrix_of(name)
    for M in (1, 5, 70):
        x = rows(M, matrix.in_features, torch.bfloat16)
        assert error(int4_linear(x, matrix), x.double() @ weight.T) < LIMITS[torch.bfloat16], (name, M)
"""


@pytest.mark.parametrize("instructions", ["avx2", "default"])
def test_a_cpu_with_other_instructions_computes_the_same(instructions):
    environment = os.environ | {"ATEN_CPU_CAPABILITY": instructions, "ONEDNN_MAX_CPU_ISA": "AVX2"}
    command = [sys.executable, "-c", _OTHER_CPU, os.path.dirname(__file__), *(path for path in sys.path if path)]
    subprocess.run(command, env=environment, check=True, timeout=120)
