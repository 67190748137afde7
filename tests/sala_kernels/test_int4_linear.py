"""4-bit linear layers: repacking from GPTQ's layout, and kernels in cases that `cases.py` does not cover."""

import os
import subprocess
import sys

import pytest
import torch
from sala_kernels import Int4Matrix, int4_dequantize, int4_linear, int4_swiglu, repack_int4
from sala_kernels.inspection.cases import relative_error
from sala_kernels.int4_linear import kernels
from sala_kernels.int4_linear.cases import random_matrix
from sala_kernels.int4_linear.kernels_prefill import gather

INPUT_ORDERS = {"in order": False, "permuted": True}


def gptq_tensors(num_in, num_out, group, *, permuted=False, seed=0):
    """Random tensors of a GPTQ file, with g_idx."""
    generator = torch.Generator().manual_seed(seed)
    size = num_in if group == -1 else group
    groups = -(-num_in // size)
    g_idx = torch.arange(num_in) // size
    return {
        "qweight": torch.randint(-(2**31), 2**31, (num_in // 8, num_out), generator=generator).int(),
        "qzeros": torch.randint(-(2**31), 2**31, (groups, num_out // 8), generator=generator).int(),
        "scales": torch.rand(groups, num_out, generator=generator).half(),
        "g_idx": g_idx[torch.randperm(num_in, generator=generator)] if permuted else g_idx,
    }


def plain(qweight, qzeros, scales, g_idx, zero_offset):
    """W [out, in] by the formula of the layout, one number at a time."""
    num_in, num_out = 8 * qweight.shape[0], qweight.shape[1]
    weight = torch.empty(num_out, num_in)
    for i in range(num_in):
        g = int(g_idx[i])
        for o in range(num_out):
            q = int(qweight[i // 8, o]) >> (4 * (i % 8)) & 15
            zero = ((int(qzeros[g, o // 8]) >> (4 * (o % 8))) + zero_offset) & 15
            weight[o, i] = float(scales[g, o]) * (q - zero)
    return weight


@pytest.mark.parametrize("permuted", INPUT_ORDERS.values(), ids=INPUT_ORDERS)
@pytest.mark.parametrize("zero_offset", [0, 1])
@pytest.mark.parametrize("group", [16, 24, 32, 48, 64, 128, 256, -1])
def test_repacked_matrix_is_the_files(group, zero_offset, permuted):
    stored = gptq_tensors(136, 16, group, permuted=permuted)
    matrix = repack_int4(**stored, group_size=group, zero_offset=zero_offset)
    expected = plain(**stored, zero_offset=zero_offset)
    assert torch.equal(int4_dequantize(matrix, torch.float32, backend="reference"), expected)
    assert matrix.shape == (16, 136)
    assert matrix.zeros is not None


def test_groups_of_any_lengths_are_repacked():
    stored = gptq_tensors(136, 16, 64)
    stored["g_idx"] = torch.tensor([2] * 100 + [0] * 36)  # one group longer than the group size, one empty
    matrix = repack_int4(**stored, group_size=64, zero_offset=1)
    assert torch.equal(int4_dequantize(matrix, torch.float32), plain(**stored, zero_offset=1))


def test_repacking_in_several_parts_is_the_same(monkeypatch):
    stored = gptq_tensors(136, 40, 32, permuted=True)
    whole = repack_int4(**stored, group_size=32, zero_offset=1)
    monkeypatch.setattr(sys.modules[Int4Matrix.__module__], "_CHUNK_NUMBERS", 256 * 7)
    parts = repack_int4(**stored, group_size=32, zero_offset=1)
    assert torch.equal(whole.words, parts.words)


def test_rows_in_order_need_neither_g_idx_nor_permutation():
    stored = gptq_tensors(200, 16, 64)
    matrix = repack_int4(**stored, group_size=64, zero_offset=1)
    without = repack_int4(**(stored | {"g_idx": None}), group_size=64, zero_offset=1)
    assert matrix.inputs is None
    assert matrix.slots is None
    assert torch.equal(matrix.words, without.words)


def test_symmetric_matrices_keep_no_zeros():
    stored = gptq_tensors(128, 16, 128)
    stored["qzeros"] = torch.full_like(stored["qzeros"], 0x77777777)
    matrix = repack_int4(**stored, group_size=128, zero_offset=1)
    assert matrix.zeros is None
    assert matrix.num_bytes == 128 * 16 // 2 + 16 * 2
    assert torch.equal(int4_dequantize(matrix, torch.float32), plain(**stored, zero_offset=1))


def test_layout_of_words_is_the_one_described():
    words = torch.zeros(1, 32, dtype=torch.int32)
    # second segment, c = 5: nibble 2 of the low half, nibble 3 of the high half
    words[0, 16 + 5] = (3 << 8) + (9 << 28) - 2**32
    scales = torch.ones(2, 1)
    matrix = Int4Matrix(words=words, scales=scales, zeros=torch.zeros(2, 1).byte(), group_size=128, in_features=256)
    weight = int4_dequantize(matrix, torch.float32)[0]
    assert weight.nonzero().flatten().tolist() == [128 + 64 + 10, 128 + 96 + 11]
    assert weight[[202, 235]].tolist() == [3, 9]


def test_reference_rounds_weights_to_the_dtype_of_x():
    matrix = random_matrix(64, 16, 32, symmetric=False, permuted=False, device=torch.device("cpu"))
    x = torch.randn(3, 64).bfloat16()
    weight = int4_dequantize(matrix, torch.bfloat16)
    assert torch.equal(int4_linear(x, matrix), (x.float() @ weight.float().T).bfloat16())


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize("M", [1, 2, 7, 16, 17, 33, 130])
@pytest.mark.parametrize("group", [32, 64, 128])
def test_any_number_of_rows(group, M, device):
    matrix = random_matrix(136, 40, group, symmetric=False, permuted=M % 2 == 1, device=device)
    x = torch.randn(M, 136, generator=torch.Generator().manual_seed(M)).to(device)
    found = int4_linear(x, matrix, backend="triton")
    assert relative_error(found, int4_linear(x, matrix, backend="reference")) < 1e-5


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize("permuted", INPUT_ORDERS.values(), ids=INPUT_ORDERS)
@pytest.mark.parametrize("M", [1, 5, 300])
def test_nothing_outside_x_is_read(M, permuted, device):
    """Between the rows and columns of x are NaNs, which a product keeps even if the weight is 0."""
    matrix = random_matrix(136, 24, 64, symmetric=True, permuted=permuted, device=device)
    values = torch.randn(M, 136, generator=torch.Generator().manual_seed(M)).to(device)
    expected = int4_linear(values, matrix, backend="reference")
    rows_apart = torch.full((M, 300), torch.nan, device=device)[:, 7:143].copy_(values)
    columns_apart = torch.full((M, 272), torch.nan, device=device)[:, ::2].copy_(values)
    for x in (rows_apart, columns_apart, values.T.contiguous().T):
        assert relative_error(int4_linear(x, matrix, backend="triton"), expected) < 1e-5


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize("M", [1, 20])
def test_fused_gemm_and_dequantized_matrix_compute_any_number_of_rows(M, device, monkeypatch):
    monkeypatch.setattr(kernels, "_MAX_SCRATCH_NUMBERS", 136 * 16)  # 40 outputs in three parts
    matrix = random_matrix(136, 40, 64, symmetric=False, permuted=True, device=device)
    x = torch.randn(M, 136, generator=torch.Generator().manual_seed(M)).to(device)
    expected = int4_linear(x, matrix, backend="reference")
    for compute in (kernels.fused_linear, kernels.dequantized_linear):
        out = torch.empty(M, 40, device=device)
        compute(x, matrix, out)
        assert relative_error(out, expected) < 1e-5


@pytest.mark.parametrize("M", [1, 3])
@pytest.mark.parametrize("size", [1e-12, 1e-4, 1e4, 1e12])
def test_magnitude_of_x_does_not_matter(size, M, device):
    """The GEMV's weights are subnormal floats, and x is scaled up. Neither may leave the range of float32."""
    matrix = random_matrix(128, 16, 128, symmetric=True, permuted=False, device=device)
    x = size * torch.randn(M, 128, generator=torch.Generator().manual_seed(M)).to(device)
    found = int4_linear(x, matrix, backend="triton")
    assert relative_error(found, int4_linear(x, matrix, backend="reference")) < 1e-5


@pytest.mark.usefixtures("poisoned")
def test_leading_dimensions_are_kept_and_zero_rows_are_allowed(device):
    matrix = random_matrix(64, 16, 32, symmetric=True, permuted=False, device=device)
    x = torch.randn(2, 3, 64, generator=torch.Generator().manual_seed(0)).to(device)
    found = int4_linear(x, matrix, backend="triton")
    assert relative_error(found, int4_linear(x, matrix, backend="reference")) < 1e-5
    assert int4_swiglu(x[0, 0], matrix, matrix, backend="triton").shape == (16,)
    assert int4_linear(x[:0], matrix, backend="triton").shape == (0, 3, 16)


def test_same_input_gives_the_same_bits(device):
    matrix = random_matrix(1160, 24, 128, symmetric=True, permuted=False, device=device)
    x = torch.randn(5, 1160, generator=torch.Generator().manual_seed(0)).to(device)
    assert torch.equal(int4_linear(x, matrix, backend="triton"), int4_linear(x, matrix, backend="triton"))


@pytest.mark.usefixtures("poisoned", "products_by_row")
def test_a_row_has_the_same_bits_among_two_rows_and_among_sixteen(device):
    """A single row is computed by another kernel, and its last bits may differ."""
    gate, up = (random_matrix(640, 136, 64, symmetric=False, permuted=False, device=device, seed=s) for s in (0, 1))
    x = torch.randn(16, 640, generator=torch.Generator().manual_seed(0)).to(device)
    for multiply in (
        lambda rows: int4_linear(rows, gate, backend="triton"),
        lambda rows: int4_swiglu(rows, gate, up, backend="triton"),
    ):
        whole = multiply(x)
        for start, stop in ((0, 2), (3, 10), (9, 16)):
            assert torch.equal(multiply(x[start:stop]), whole[start:stop])
        assert relative_error(multiply(x[:1]), whole[:1]) < 1e-5


def test_gathered_rows_have_zeros_in_empty_slots(device):
    x = torch.randn(3, 6, generator=torch.Generator().manual_seed(0)).to(device)
    inputs = torch.tensor([5, -1, 0, 3], dtype=torch.int32, device=device)
    zero = torch.zeros(3, device=device)
    assert torch.equal(gather(x, inputs), torch.stack([x[:, 5], zero, x[:, 0], x[:, 3]], 1))


def test_constants_of_the_unpacking_are_exact():
    """Assumptions of the tensor-core kernel: q in the low bits of `bits` gives base + q, and base + zero is exact."""
    q = torch.arange(16, dtype=torch.int16)
    for dtype, bits, base in ((torch.bfloat16, 0x4300, 128), (torch.float16, 0x6400, 1024)):
        values = (q | bits).view(dtype)
        assert torch.equal(values.double(), q.double() + base)
        assert torch.equal((q.float() + base).to(dtype), values)
        difference = values[:, None] - values[None, :]
        assert torch.equal(difference.double(), (q[:, None] - q[None, :]).double())


def test_wrong_shapes_and_devices_are_refused():
    matrix = random_matrix(64, 16, 32, symmetric=True, permuted=False, device=torch.device("cpu"))
    other = random_matrix(64, 24, 32, symmetric=True, permuted=False, device=torch.device("cpu"))
    with pytest.raises(ValueError, match=r"x must be \[\.\.\., 64\]"):
        int4_linear(torch.zeros(2, 128), matrix)
    with pytest.raises(ValueError, match="x is on meta"):
        int4_linear(torch.zeros(2, 64, device="meta"), matrix)
    with pytest.raises(ValueError, match="must have one shape"):
        int4_swiglu(torch.zeros(2, 64), matrix, other)
    with pytest.raises(ValueError, match="float64"):
        int4_linear(torch.zeros(2, 64, dtype=torch.float64), matrix, backend="triton")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"group_size": 48}, "group_size must be one of"),
        ({"words": torch.zeros(16, 8, dtype=torch.int32)}, "multiple of 128"),
        ({"words": torch.zeros(16, 16)}, "words must be int32"),
        ({"scales": torch.ones(2, 16)}, "scales must be contiguous"),
        ({"zeros": torch.ones(1, 8).byte()}, "zeros must be contiguous"),
        ({"in_features": 129}, "129 inputs do not fit into 128 slots"),
    ],
)
def test_matrices_that_do_not_fit_together_are_refused(change, message):
    parts = {
        "words": torch.zeros(16, 16, dtype=torch.int32),
        "scales": torch.ones(1, 16),
        "zeros": None,
        "group_size": 128,
        "in_features": 128,
    }
    Int4Matrix(**parts)
    with pytest.raises(ValueError, match=message):
        Int4Matrix(**(parts | change))


_PTX = """
import torch, triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from sala_kernels.inspection.compiler import CARDS, _specialize
from sala_kernels.int4_linear.cases import workloads
from sala_kernels.launch import recorded
for card in CARDS[::2]:
    with recorded(card.capability) as launches:
        next(workloads()).prepare(torch.device("meta"))()
    (launch,) = launches
    signature, constants, attributes = _specialize(launch)
    source = ASTSource(fn=launch.kernel, signature=signature, constexprs=constants, attrs=attributes)
    ptx = triton.compile(source, target=GPUTarget("cuda", card.capability, 32)).asm["ptx"]
    assert launch.kernel.__name__ == "_gemv" and "fma.rn.f32" in ptx and ".ftz" not in ptx, card
"""


def test_gemv_keeps_subnormal_numbers():
    """Its weights are subnormal. Instructions that flush subnormal numbers would make every product 0."""
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    path = os.pathsep.join(p for p in sys.path if p)
    subprocess.run([sys.executable, "-c", _PTX], env=environment | {"PYTHONPATH": path}, check=True, timeout=120)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("M", [1, 2, 16, 17, 64, 200, 512, 8192])
@pytest.mark.parametrize("shape", [(4096, 4096), (4096, 256), (16384, 4096)], ids=str)
def test_full_shapes_in_bf16(shape, M):
    device = torch.device("cuda")
    matrix = random_matrix(*shape, 128, symmetric=M != 64, permuted=False, device=device)
    x = torch.randn(M, shape[0], device=device).bfloat16()
    expected = int4_linear(x, matrix, backend="reference")
    assert relative_error(int4_linear(x, matrix), expected) < 5e-3
    if M <= 16:
        expected = int4_swiglu(x.float(), matrix, matrix, backend="reference").bfloat16()
        assert relative_error(int4_swiglu(x, matrix, matrix), expected) < 1e-2
