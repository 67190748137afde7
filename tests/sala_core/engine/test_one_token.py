"""One token of a small model on a CPU: state, logits and trace of the general forward pass, for every kind of model."""

import pytest
import torch
from small_models import VARIANTS

from sala_core import Engine, SamplingParams
from sala_core.engine.decode import Decoder, Pass, drafts_gain
from sala_core.engine.one_token import OneTokenPass
from sala_core.engine.one_token.matrix import Matrix
from sala_core.engine.one_token.weights import StepWeights
from sala_core.engine.sampling import Sampler
from sala_core.model.forward import AttentionTrace, SalaModel

pytestmark = pytest.mark.usefixtures("one_thread")
IDS = torch.randint(4, 97, (700,), generator=torch.Generator().manual_seed(5))
GREEDY = SamplingParams(temperature=0)
STEPS = 40


def steps(model, start, count=STEPS, *, traced=False, params=GREEDY):
    """Decode the known tokens from `start` on. Returns the state, the tokens chosen, all logits and the trace."""
    state = model.new_state()
    model.prefill(state, IDS[:start])
    state.reserve(start + count)
    sampler = Sampler(params, model.config.vocab_size, [])
    decoder = Decoder(model, state, sampler, traced=traced)
    chosen, logits = [], []
    for token in IDS[start : start + count].tolist():
        chosen += decoder.step(state, [token], sampler)
        decoder.confirm(state, 1)
        logits.append(decoder._passes[1]._logits[0].clone())
    assert isinstance(decoder._passes[1], OneTokenPass)
    trace = AttentionTrace()
    decoder.collect(trace, state)
    return state, chosen, torch.stack(logits), trace


def expected(model, start, count=STEPS):
    """The same by `prefill`, token by token."""
    state, trace, logits = model.new_state(), AttentionTrace(), []
    model.prefill(state, IDS[:start])
    for token in IDS[start : start + count]:
        logits.append(model.logits(model.prefill(state, token[None], trace=trace))[0])
    return state, torch.stack(logits), trace


def assert_same(found, wanted, **tolerance):
    assert found.position == wanted.position
    ours, theirs = found.segment(0, found.position), wanted.segment(0, wanted.position)
    for name, rows in theirs.items():
        torch.testing.assert_close(ours[name], rows, **tolerance)
    torch.testing.assert_close(found.linear_states, wanted.linear_states, **tolerance)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("start", [3, 230, 600])
def test_state_logits_and_trace_are_those_of_the_forward_pass(make_model, variant, start):
    """From the first tokens, where no window exists, over the place where blocks are first chosen, to far after it."""
    model = Engine.load(make_model(seed=3, **VARIANTS[variant]), dtype="float32").model
    state, chosen, logits, trace = steps(model, start, traced=True)
    wanted_state, wanted_logits, wanted_trace = expected(model, start)
    torch.testing.assert_close(logits, wanted_logits, rtol=1e-5, atol=2e-5)
    assert chosen == wanted_logits.argmax(-1).tolist()
    assert_same(state, wanted_state, rtol=1e-5, atol=2e-5)
    for layer, mass in wanted_trace.mass.items():
        torch.testing.assert_close(trace.mass[layer][: state.position], mass[: state.position], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kv", ["plain", "int8", "fp8"])
def test_bfloat16_and_quantized_rows(small_engine, kv):
    weights = {name: w.bfloat16() for name, w in small_engine.model.weights.items()}
    model = SalaModel(small_engine.config, weights, kv=kv)
    exact = SalaModel(small_engine.config, {name: w.float() for name, w in weights.items()}, kv=kv)
    _, _, logits, _ = steps(model, 500)
    _, wanted, _ = expected(exact, 500)
    _, rounded, _ = expected(model, 500)
    scale = wanted.square().mean().sqrt()
    error, usual = ((x - wanted).square().mean().sqrt() / scale for x in (logits, rounded))
    assert error <= usual + 1e-3, "float32 steps are no farther from float32 than bfloat16 steps are"


def test_only_small_models_of_plain_weights_on_a_cpu_take_this_path(small_engine, monkeypatch):
    model = small_engine.model
    assert OneTokenPass.supports(model)
    double = SalaModel(model.config, {name: w.double() for name, w in model.weights.items()})
    assert not OneTokenPass.supports(double)
    assert not OneTokenPass.supports(SalaModel(model.config, model.weights, backend="reference"))
    monkeypatch.setattr("sala_core.engine.one_token.weights.MAX_BYTES", 1000)
    assert not OneTokenPass.supports(model)
    state = model.new_state()
    state.reserve(10)
    sampler = Sampler(GREEDY, 97, [])
    decoder = Decoder(model, state, sampler, traced=False)
    decoder.step(state, [5], sampler)
    assert isinstance(decoder._passes[1], Pass)


def test_drafts_gain_nothing_where_steps_are_cheap(small_engine):
    assert not drafts_gain(small_engine.model)
    assert drafts_gain(SalaModel(small_engine.config, small_engine.model.weights, backend="reference"))


def test_logits_that_are_not_numbers_are_told(small_engine):
    weights = dict(small_engine.model.weights)
    for bad in (torch.nan, torch.inf):
        weights["model.layers.1.mlp.down_proj.weight"] = torch.full_like(
            small_engine.model.weights["model.layers.1.mlp.down_proj.weight"], bad
        )
        model = SalaModel(small_engine.config, weights)
        for params in (GREEDY, SamplingParams(temperature=1.0, seed=1)):
            state, sampler = model.new_state(), Sampler(params, 97, [])
            state.reserve(10)
            assert Decoder(model, state, sampler, traced=False).step(state, [5], sampler) == [-1]


def test_the_number_of_threads_is_as_before(small_engine):
    torch.set_num_threads(2)
    steps(small_engine.model, 20, 2)
    assert torch.get_num_threads() == 2


def test_weights_are_made_once_for_a_model(small_engine):
    assert StepWeights.of(small_engine.model) is StepWeights.of(small_engine.model)


def _bfloat16(matrix):
    return matrix.bfloat16().float()


def _int4(matrix):
    """Integers of 4 bits times float16 scales of 16 columns, as `dequantize` makes them in float32."""
    scales = matrix.view(96, 2, 16).abs().amax(2, keepdim=True).div(7).half().float()
    return (matrix.view(96, 2, 16) / scales).round().clamp(-8, 7).mul(scales).view(96, 32)


@pytest.mark.parametrize(
    ("kind", "num_parts"), [(_bfloat16, 1), (_int4, 2), (lambda matrix: matrix, 0), (torch.zeros_like, 1)]
)
@pytest.mark.parametrize("factors", [True, False])
def test_a_matrix_is_read_in_float16_only_where_nothing_is_lost(kind, num_parts, factors):
    """Whatever the form, the product is that of the float32 numbers."""
    generator = torch.Generator().manual_seed(1)
    matrix = kind(torch.randn(96, 32, generator=generator) * 1e-3)
    norm = torch.randn(32, generator=generator) if factors else None
    h, total = torch.randn(32, generator=generator), torch.randn(1, 96, generator=generator)
    made = Matrix(matrix, norm)
    assert made.num_parts in (num_parts, 0)  # 0: a build of torch that cannot multiply them
    wanted = 0.7 * (matrix.double() @ (h if norm is None else norm * h).double())
    torch.testing.assert_close(made.multiply(h, 0.7)[0].double(), wanted, rtol=1e-5, atol=1e-8)
    before = total[0].double()
    total.add_(made.multiply(h, 0.7))
    torch.testing.assert_close(total[0].double(), before + wanted, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("smallest", [2.0**-12, 2.0**-36, 2.0**-60])
def test_numbers_of_very_different_size_are_kept(smallest):
    matrix = torch.tensor([[1.0, smallest], [3.0, -smallest]])
    assert Matrix(matrix).multiply(torch.tensor([0.0, 1.0]), 1.0).tolist() == [[smallest, -smallest]]


def test_without_fbgemm_matrices_stay_float32(monkeypatch):
    def missing(*_args):
        raise RuntimeError("Didn't find engine for operation quantized::linear_prepack_fp16")

    monkeypatch.setattr("sala_core.engine.one_token.matrix.torch.ops.quantized.linear_prepack_fp16", missing)
    matrix = _bfloat16(torch.randn(8, 4, generator=torch.Generator().manual_seed(1)))
    made = Matrix(matrix, torch.full((4,), 2.0))
    assert made.num_parts == 0
    out = made.multiply(torch.ones(4), 0.5).add_(made.multiply(torch.ones(4), 0.5))
    torch.testing.assert_close(out[0], 2 * matrix.sum(1))
