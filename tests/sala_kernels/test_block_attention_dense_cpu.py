"""Few queries and very many keys on a CPU: the same as the reference, in little memory."""

import pytest
import torch
from sala_kernels import BlockLayout, block_attention, quantize_rows
from sala_kernels.block_attention import cpu_dense, reference

LAYOUT = BlockLayout(stride=16, block=64, init=1, local=4, slots=3)


@pytest.fixture
def short_pieces(monkeypatch):
    """Pieces of 64 keys, and no least number of keys."""
    monkeypatch.setattr(cpu_dense, "MIN_KEYS", 1)
    monkeypatch.setattr(cpu_dense, "_KEYS_AT_ONCE", 64)


def inputs(num_queries, num_keys, dtype, spread=3.0):
    """q [T, 4, 32], k and v [2, n, 32] with scores of up to `spread` times what trained models have."""
    generator = torch.Generator().manual_seed(num_keys)
    q = torch.randn(num_queries, 4, 32, generator=generator) * spread
    k, v = (torch.randn(2, num_keys, 32, generator=generator) for _ in range(2))
    return q.to(dtype), k.to(dtype), v.to(dtype)


@pytest.mark.usefixtures("short_pieces")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize("by_query", [True, False, None])
@pytest.mark.parametrize(("num_queries", "num_keys"), [(1, 64), (1, 65), (16, 16), (7, 130), (16, 1003), (3, 64 * 5)])
def test_outputs_and_masses_are_those_of_the_reference(dtype, by_query, num_queries, num_keys):
    q, k, v = inputs(num_queries, num_keys, dtype)
    shape = {True: (num_queries, num_keys), False: (num_keys,)}.get(by_query)
    masses = [torch.full(shape, 0.5) if shape else None for _ in range(2)]
    position = num_keys - num_queries
    expected = reference.block_attention(q, k, v, None, position=position, scale=0.2, layout=LAYOUT, mass=masses[0])
    out = block_attention(q, k, v, None, position=position, scale=0.2, layout=LAYOUT, mass=masses[1])
    error = (out.double() - expected.double()).square().mean().sqrt() / expected.double().square().mean().sqrt()
    assert error < {torch.float32: 2e-6, torch.bfloat16: 6e-3, torch.float64: 1e-6}[dtype]
    if shape:
        torch.testing.assert_close(masses[1], masses[0], rtol=2e-5, atol=2e-6)


@pytest.mark.usefixtures("short_pieces")
def test_quantized_rows_and_rows_behind_the_queries_are_as_in_the_reference():
    q, k, v = inputs(5, 300, torch.float32)
    rows = [quantize_rows(x, "int8") for x in (k, v)]
    outs = [
        attend(q, *rows, None, position=250, scale=0.2, layout=LAYOUT)
        for attend in (reference.block_attention, block_attention)
    ]
    torch.testing.assert_close(outs[1], outs[0], rtol=1e-5, atol=1e-6)


@pytest.mark.usefixtures("short_pieces")
def test_scores_of_many_hundreds_neither_overflow_nor_vanish():
    q, k, v = inputs(4, 500, torch.float32, spread=400.0)
    mass = torch.zeros(4, 500)
    expected = reference.block_attention(q, k, v, None, position=496, scale=0.2, layout=LAYOUT)
    out = block_attention(q, k, v, None, position=496, scale=0.2, layout=LAYOUT, mass=mass)
    torch.testing.assert_close(out, expected, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(mass.sum(1), torch.full((4,), 4.0))


def test_no_array_of_all_keys_is_made_beside_the_mass():
    """Every tensor that is made is counted: 16 queries over 65,536 keys once took 96 MB."""
    from torch.utils._python_dispatch import TorchDispatchMode

    sizes = []

    class Count(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            if isinstance(out, torch.Tensor) and not out._is_view():
                sizes.append(out.numel() * out.element_size())
            return out

    q, k, v = inputs(16, 1 << 16, torch.bfloat16)
    mass = torch.zeros(16, 1 << 16)
    with torch.inference_mode(False), Count():
        block_attention(q, k, v, None, position=(1 << 16) - 16, scale=0.2, layout=LAYOUT, mass=mass)
    of_result = {mass.nbytes, k.nbytes}
    assert max(size for size in sizes if size not in of_result) < 8 << 20
