"""The GPTQ solver against the formulas of the paper and against round to nearest, in every column order."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sala_core.errors import QuantizeError
from sala_core.model.gptq import PackedMatrix, dequantize, pack
from sala_core.quantize.grid import Grid
from sala_core.quantize.settings import QuantizeSettings
from sala_core.quantize.solver import Hessian, QuantizeStopped, inverse_factor, round_to_nearest, solve

CPU = torch.device("cpu")


def correlated(num_in, *, rows=2048, seed=0):
    """Inputs with directions of very different magnitude, like activations. [rows, in]"""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(num_in, num_in, generator=generator) * torch.logspace(0, -1.5, num_in)
    return torch.randn(rows, num_in, generator=generator) @ mixing + 0.3 * torch.randn(
        rows, num_in, generator=generator
    )


def problem(num_out=48, num_in=256, seed=0):
    hessian = Hessian(num_in, CPU)
    hessian.add(correlated(num_in, seed=seed))
    return torch.randn(num_out, num_in, generator=torch.Generator().manual_seed(seed + 1)) * 0.05, hessian


def plain_gptq(weight, hessian, grid, size, damping, importance=False):
    """Algorithm 1 of arXiv:2210.17323 in float64, one column at a time, without blocks."""
    H = hessian.sum.double()
    H = H + damping * H.diagonal().mean() * torch.eye(H.shape[0], dtype=torch.float64)
    factor = torch.linalg.cholesky(torch.linalg.inv(H), upper=True)
    W, quantized = weight.double().clone(), torch.empty_like(weight, dtype=torch.float64)
    for column in range(W.shape[1]):
        if column % size == 0:
            costs = factor.diagonal()[column : column + size].float() ** -2 if importance else None
            scale, zero = grid.fit(W[:, column : column + size].T.float(), costs)
        quantized[:, column] = grid.round(W[:, column].float(), scale, zero)
        error = (W[:, column] - quantized[:, column]) / factor[column, column]
        W[:, column:] -= error[:, None] * factor[column, column:]
    return quantized


def test_the_hessian_sums_all_inputs_and_its_cost_is_the_output_error():
    x, error = correlated(24, rows=300), torch.randn(8, 24)
    hessian = Hessian(24, CPU)
    for part in x.view(3, 10, 10, 24):
        hessian.add(part)
    torch.testing.assert_close(hessian.sum, x.T @ x, rtol=1e-5, atol=1e-3)
    assert hessian.cost(error) == pytest.approx(float((x @ error.T).square().sum()), rel=1e-4)


def test_inverse_factor_is_the_cholesky_factor_of_the_inverse_in_the_given_order():
    _, hessian = problem(num_in=96)
    order = torch.randperm(96, generator=torch.Generator().manual_seed(3))
    factor, damping = inverse_factor(hessian.sum, order, 0.01)
    damped = hessian.sum.double() + 0.01 * hessian.sum.diagonal().mean() * torch.eye(96)
    expected = torch.linalg.cholesky(torch.linalg.inv(damped[order][:, order]), upper=True)
    torch.testing.assert_close(factor.double(), expected, rtol=1e-4, atol=1e-6)
    assert damping == 0.01


def test_damping_is_raised_until_the_factor_exists_or_is_too_large():
    rank_one = torch.ones(64, 64) * 1e4
    rank_one[0, 0] -= 30  # indefinite, by more than the requested damping
    factor, damping = inverse_factor(rank_one, torch.arange(64), 1e-5)
    assert damping > 1e-5
    assert torch.isfinite(factor).all()
    with pytest.raises(QuantizeError, match="calibration text"):
        inverse_factor(-torch.eye(8), torch.arange(8), 0.01)


def test_inputs_that_are_always_zero_give_round_to_nearest():
    weight, options = torch.randn(16, 32), QuantizeSettings(group_size=16, scale_search=False)
    solution, _ = solve(weight, Hessian(32, CPU), options)
    assert torch.equal(solution.weight, round_to_nearest(weight, options).weight)


@pytest.mark.parametrize("size", [16, 64, 256])
@pytest.mark.parametrize("search", [False, True])
@pytest.mark.parametrize("sym", [True, False])
def test_blocks_with_lazy_updates_equal_the_plain_algorithm(size, search, sym):
    weight, hessian = problem()
    options = QuantizeSettings(group_size=size, scale_search=search, sym=sym, act_order=False)
    quantized = solve(weight, hessian, options)[0].weight
    expected = plain_gptq(weight, hessian, options.grid, size, options.damping, importance=search)
    # a value rounded the other way in float32 changes all later columns, so not every element is equal
    assert (quantized - expected).abs().gt(1e-5).double().mean() < 0.02
    assert hessian.cost(quantized - weight) == pytest.approx(hessian.cost(expected.float() - weight), rel=0.02)


def test_stacked_matrices_are_solved_independently():
    weight, hessian = problem()
    options = QuantizeSettings(group_size=64)
    together = solve(weight, hessian, options)[0]
    for part in (slice(0, 16), slice(16, 48)):
        assert torch.equal(solve(weight[part], hessian, options)[0].q, together.q[part])


CHOICES = [
    {},
    {"scale_search": False},
    {"act_order": False},
    {"act_order": False, "scale_search": False},
    {"desc_act": True},
    {"sym": False},
    {"sym": False, "desc_act": True},
    {"group_size": -1},
    {"bits": 2},
    {"bits": 8},
]


@pytest.mark.parametrize("choice", CHOICES, ids=str)
@pytest.mark.parametrize("checkpoint_format", ["gptq", "gptq_v2"])
def test_gptq_beats_round_to_nearest_and_is_packed_without_loss(choice, checkpoint_format):
    weight, hessian = problem(seed=5)
    options = QuantizeSettings(**{"group_size": 32, "checkpoint_format": checkpoint_format} | choice)
    solution, _ = solve(weight, hessian, options)
    nearest = round_to_nearest(weight, options)
    assert hessian.cost(solution.weight - weight) < 0.6 * hessian.cost(nearest.weight - weight)
    for quantized in (solution, nearest):
        packed = pack(quantized.q, quantized.zeros, quantized.scales, options.gptq_config({}), g_idx=quantized.g_idx)
        read = dequantize(packed, options.gptq_config({}), dtype=torch.float32)
        assert torch.equal(read, quantized.weight)


def test_groups_are_contiguous_without_desc_act():
    weight, hessian = problem()
    in_order = torch.arange(256, dtype=torch.int32) // 32
    for choice in ({"act_order": False}, {"act_order": True}):
        assert torch.equal(solve(weight, hessian, QuantizeSettings(group_size=32, **choice))[0].g_idx, in_order)
    described = solve(weight, hessian, QuantizeSettings(group_size=32, desc_act=True))[0].g_idx
    active = hessian.sum.diagonal().argsort(descending=True)
    assert torch.equal(described[active], in_order)
    assert not torch.equal(described, in_order)


def test_version_one_never_stores_a_zero_point_below_zero():
    weight = torch.rand(32, 64) + 0.5  # all positive: the best zero point is 0
    for checkpoint_format, least in (("gptq", 1), ("gptq_v2", 0)):
        options = QuantizeSettings(group_size=32, sym=False, checkpoint_format=checkpoint_format)
        assert int(round_to_nearest(weight, options).zeros.min()) == least
        assert int(solve(weight, problem(num_in=64)[1], options)[0].zeros.min()) == least


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from([2, 4, 8]), st.booleans(), st.floats(-2, 4))
def test_rounding_is_idempotent_with_float16_scales_and_small_errors(seed, bits, sym, exponent):
    grid = Grid(bits=bits, sym=sym)
    group = torch.randn(32, 8, generator=torch.Generator().manual_seed(seed)) * 10**exponent
    scale, zero = grid.fit(group)
    assert torch.equal(scale, scale.half().float())
    assert (scale > 0).all()
    rounded = grid.round(group, scale, zero)
    assert torch.equal(grid.round(rounded, scale, zero), rounded)
    inside = (group - rounded).abs() <= scale * 0.5001 + scale * (0.51 if sym else 1.01)  # the ends are clipped
    assert inside.all()


def test_the_scale_search_never_costs_more_than_minimum_to_maximum():
    generator = torch.Generator().manual_seed(4)
    group, cost = torch.randn(64, 100, generator=generator), torch.rand(64, generator=generator) + 0.1
    for sym in (True, False):
        grid = Grid(bits=4, sym=sym)
        plain, best = grid.fit(group), grid.fit(group, cost)
        errors = [((grid.round(group, *found) - group).square() * cost[:, None]).sum(0) for found in (plain, best)]
        assert (errors[1] <= errors[0] * 1.02).all()  # the plain range is not among the candidates
        assert errors[1].sum() < 0.95 * errors[0].sum()


def test_a_group_of_zeros_stays_zero_and_tiny_weights_have_a_scale():
    grid = Grid(bits=4, sym=True)
    scale, zero = grid.fit(torch.stack([torch.zeros(16), torch.full((16,), 1e-9)], 1))
    assert scale.tolist() == [1.0, 2.0**-24]
    assert grid.round(torch.zeros(2), scale, zero).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_are_refused(bad):
    weight, hessian = problem(num_in=32)
    weight[3, 4] = bad
    with pytest.raises(QuantizeError, match="not finite"):
        solve(weight, hessian, QuantizeSettings(group_size=32))


def test_it_stops_between_blocks_when_asked():
    weight, hessian = problem()
    asked = iter([False, True])
    with pytest.raises(QuantizeStopped):
        solve(weight, hessian, QuantizeSettings(group_size=32), lambda: next(asked))


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        ({"bits": 3}, "bits"),
        ({"group_size": 100}, "group_size"),
        ({"damping": 0.0}, "damping"),
        ({"include": ("embed_tokens",)}, "looked up"),
        ({"include": ("down",)}, "cannot be included"),
        ({"layout": "autogptq", "checkpoint_format": "gptq_v2"}, "AutoGPTQ"),
    ],
)
def test_invalid_settings_are_refused(wrong, word):
    with pytest.raises(QuantizeError, match=word):
        QuantizeSettings(**wrong)


def test_the_packed_solution_has_the_shapes_that_the_reader_expects():
    weight, hessian = problem(num_out=24, num_in=64)
    options = QuantizeSettings(group_size=32, desc_act=True)
    solution, _ = solve(weight, hessian, options)
    packed = pack(solution.q, solution.zeros, solution.scales, options.gptq_config({}), g_idx=solution.g_idx)
    assert isinstance(packed, PackedMatrix)
    assert packed.qweight.shape == (8, 24)
    assert packed.scales.shape == (2, 24)
    assert packed.qzeros.flatten().tolist() == [0x77777777] * 6
