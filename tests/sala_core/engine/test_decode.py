"""Decoder passes: the same states as `forward`, however many tokens are confirmed; drafts change no token on a CPU."""

import dataclasses
import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sala_kernels.launch import recorded

from sala_core import Finished, SamplingParams, Token
from sala_core.engine.decode import MAX_PASS_TOKENS, Decoder, Pass
from sala_core.engine.sampling import Sampler
from sala_core.engine.speculation import DraftIndex
from sala_core.model.forward import AttentionTrace, SalaModel

pytestmark = pytest.mark.usefixtures("one_thread")
GREEDY = SamplingParams(temperature=0)
IDS = torch.randint(4, 97, (2000,), generator=torch.Generator().manual_seed(3))


class Drafts:
    """A draft index whose drafts are `propose(tokens of the answer, limit)`."""

    def __init__(self, propose):
        self._propose = propose
        self._ids = []

    def extend(self, ids):
        self._ids += list(ids)

    def propose(self, limit):
        return self._propose(self._ids, limit)


@pytest.fixture
def endless(small_engine, monkeypatch):
    """No token ends an answer."""
    monkeypatch.setattr(small_engine, "_end_ids", frozenset)
    return small_engine


def prepared(engine, tokens, headroom=64):
    state = engine.new_state()
    engine.forward(state, tokens)
    state.reserve(state.position + headroom)
    sampler = Sampler(GREEDY, engine.config.vocab_size, [])
    return state, sampler


def assert_same_state(found, expected, **tolerance):
    assert found.position == expected.position
    for i, cache in found.sparse.items():
        for name, buffer in cache.buffers.items():
            torch.testing.assert_close(buffer.rows, expected.sparse[i].buffers[name].rows, **tolerance)
    torch.testing.assert_close(found.linear_states, expected.linear_states, **tolerance)


@settings(max_examples=12, deadline=None)
@given(
    st.integers(1, 700),
    st.lists(st.tuples(st.integers(1, MAX_PASS_TOKENS), st.integers(0, 99)), min_size=1, max_size=4),
)
def test_passes_of_any_size_give_the_state_of_forward_over_the_confirmed_tokens(small_engine, start, passes):
    """Tokens that are not confirmed change neither the linear states nor the valid rows."""
    state, sampler = prepared(small_engine, IDS[:start], headroom=len(passes) * MAX_PASS_TOKENS)
    decoder = Decoder(small_engine.model, state, sampler, traced=False)
    true = IDS[start:].tolist()
    for size, cut in passes:
        count = 1 + cut % size
        wrong = [(token + 1) % 97 for token in true[count:size]]
        decoder.step(state, true[:count] + wrong, sampler)
        decoder.confirm(state, count)
        del true[:count]
    expected = small_engine.new_state()
    small_engine.forward(expected, IDS[: state.position])
    assert_same_state(state, expected, rtol=1e-6, atol=2e-5)


@pytest.mark.parametrize("kv", ["int8", "fp8"])
def test_decoding_continues_a_quantized_kv_cache_as_prefill_does(small_engine, kv):
    model = SalaModel(small_engine.config, small_engine.model.weights, kv=kv)
    state, expected = model.new_state(), model.new_state()
    model.prefill(state, IDS[:600])
    model.prefill(expected, IDS[:600])
    state.reserve(700)
    sampler = Sampler(GREEDY, 97, [])
    decoder = Decoder(model, state, sampler, traced=False)
    for start, stop in ((600, 601), (601, 609), (609, 625)):
        decoder.step(state, IDS[start:stop].tolist(), sampler)
        decoder.confirm(state, stop - start)
        model.prefill(expected, IDS[start:stop])
    assert state.position == 625
    found, wanted = state.segment(0, 625), expected.segment(0, 625)
    for name in (name for name in wanted if name.startswith("k1")):
        torch.testing.assert_close(found[name], wanted[name], rtol=0, atol=2e-2)
    torch.testing.assert_close(state.linear_states, expected.linear_states, rtol=0, atol=0.5)


def on_meta(model):
    """The same model on the meta device, where nothing is computed and no value can be read."""
    weights = {
        name: w.to("meta") if isinstance(w, torch.Tensor) else dataclasses.replace(w)
        for name, w in model.weights.items()
    }
    return SalaModel(model.config, weights, backend="triton")


def test_passes_of_the_reference_are_never_captured(small_engine, monkeypatch):
    """On a card without Triton, or in float64: they read the position on the host."""
    model = small_engine.model
    state, sampler = prepared(small_engine, IDS[:40])
    with pytest.raises(ValueError, match="no CUDA graph can capture"):
        Decoder(model, state, sampler, traced=False, graphs=True)
    monkeypatch.setattr(model, "device", torch.device("cuda"))
    assert not model.can_be_captured
    assert Decoder(model, state, sampler, traced=False)._pool is None


@pytest.mark.parametrize("size", [1, 4, MAX_PASS_TOKENS])
@pytest.mark.parametrize("params", [GREEDY, SamplingParams(top_k=5, top_p=0.9, min_p=0.1, repetition_penalty=1.2)])
def test_the_host_never_waits_for_the_device_in_a_pass(small_engine, size, params):
    """On the meta device, every operation that would make the host wait for a value raises."""
    model = on_meta(small_engine.model)
    state = model.new_state()
    state.reserve(700)
    sampler = Sampler(params, 97, [])
    mass = torch.zeros(len(state.sparse), state.capacity, device="meta")
    seen_tokens = sampler.seen_tokens.to("meta")
    with torch.inference_mode(), recorded(90) as launches:
        run = Pass(model, state, sampler.chooser, seen_tokens, mass, size, None)
        run.compute_on_device()
        if size > 1:
            run.confirm_on_device()
    names = {launch.kernel.__name__ for launch in launches}
    assert len(launches) > 20
    assert len(names) > 8


def test_every_row_of_a_pass_chooses_the_token_that_forward_gives(small_engine):
    state, sampler = prepared(small_engine, IDS[:333])
    decoder = Decoder(small_engine.model, state, sampler, traced=False)
    logits = small_engine.forward(state.clone(), IDS[333:349])
    assert decoder.step(state, IDS[333:349].tolist(), sampler) == logits.argmax(-1).tolist()


def test_the_trace_counts_confirmed_tokens_alone(small_engine):
    state, sampler = prepared(small_engine, IDS[:600])
    other, trace, expected = state.clone(), AttentionTrace(), AttentionTrace()
    decoder = Decoder(small_engine.model, state, sampler, traced=True)
    for tokens, count in ((IDS[600:608], 3), (IDS[603:604], 1), (IDS[604:620], 16)):
        decoder.step(state, tokens.tolist(), sampler)
        decoder.confirm(state, count)
    decoder.collect(trace, state)
    for token in IDS[600:620]:
        small_engine.model.prefill(other, token[None], trace=expected)
    for layer, mass in expected.mass.items():
        torch.testing.assert_close(trace.mass[layer][:620], mass[:620], rtol=1e-4, atol=1e-5)
    decoder.collect(again := AttentionTrace(), state)
    assert all(not mass.any() for mass in again.mass.values())


def test_a_pass_beyond_the_capacity_is_refused_before_it_writes_anything(small_engine):
    state, sampler = prepared(small_engine, IDS[:1500], headroom=0)
    state.reserve(1500)
    left = state.capacity - state.position
    decoder = Decoder(small_engine.model, state, sampler, traced=False)
    with pytest.raises(ValueError, match="do not fit into room"):
        decoder.step(state, [1] * (left + 1), sampler)
    assert state.position == 1500


PARAMS = [
    SamplingParams(temperature=0, max_tokens=40),
    SamplingParams(temperature=1.2, seed=5, max_tokens=40),
    SamplingParams(temperature=0.8, seed=6, top_p=0.9, top_k=20, min_p=0.02, max_tokens=40),
    SamplingParams(temperature=0.7, seed=7, repetition_penalty=1.3, max_tokens=40),
    SamplingParams(temperature=0, repetition_penalty=1.5, max_tokens=40),
]


@pytest.mark.parametrize("params", PARAMS)
@pytest.mark.parametrize("kind", ["lookup", "right", "wrong", "half"])
def test_drafts_change_no_token_of_an_answer(endless, params, kind):
    def answer(lookup):
        state, trace = endless.new_state(), AttentionTrace()
        events = list(endless.generate(state, prompt, params, trace=trace, drafts=lookup))
        return [event.id for event in events if isinstance(event, Token) and event.id is not None], events, state, trace

    prompt = IDS[:400]
    plain, events, state, trace = answer(None)
    guesses = {
        "right": lambda ids, limit: plain[len(ids) :][:limit],
        "wrong": lambda ids, limit: [(token + 1) % 97 for token in plain[len(ids) :]][:limit],
        "half": lambda ids, limit: [t if n < 2 else (t + 1) % 97 for n, t in enumerate(plain[len(ids) :])][:limit],
    }
    lookup = DraftIndex(prompt) if kind == "lookup" else Drafts(guesses[kind])
    with_drafts, found_events, found_state, found_trace = answer(lookup)
    assert with_drafts == plain
    assert found_events[-1] == events[-1]
    assert_same_state(found_state, state, rtol=0, atol=5e-5)
    for layer, mass in trace.mass.items():
        torch.testing.assert_close(
            found_trace.mass[layer][: state.position], mass[: state.position], rtol=1e-3, atol=1e-4
        )
    passes = found_events[-1].passes
    assert passes < len(plain) / 2 if kind == "right" else passes <= len(plain)


@pytest.mark.parametrize("count", [4, 7, 12])
def test_after_a_close_within_a_pass_the_state_holds_the_yielded_tokens(endless, count):
    plain = [e.id for e in endless.generate(endless.new_state(), IDS[:300], PARAMS[0]) if isinstance(e, Token)]
    state = endless.new_state()
    lookup = Drafts(lambda ids, limit: plain[len(ids) :][:limit])
    iterator = endless.generate(state, IDS[:300], PARAMS[0], drafts=lookup)
    seen = [event.id for event in itertools.islice((e for e in iterator if isinstance(e, Token)), count)]
    iterator.close()
    assert seen == plain[:count]
    expected = endless.new_state()
    endless.forward(expected, [*IDS[:300].tolist(), *seen])
    assert_same_state(state, expected, rtol=0, atol=5e-5)


def test_a_draft_never_exceeds_max_tokens(endless):
    params = SamplingParams(temperature=0, max_tokens=10)
    plain = list(endless.generate(endless.new_state(), IDS[:300], PARAMS[0]))[-1].ids
    lookup = Drafts(lambda ids, limit: list(plain[len(ids) :][:limit]))
    events = list(endless.generate(endless.new_state(), IDS[:300], params, drafts=lookup))
    assert events[-1] == Finished(reason="length", ids=plain[:10])
