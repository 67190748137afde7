"""Sampling against the definitions in numpy, and stop strings however the text is split."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sala_core.engine.sampling import PENALTY_TAIL_TOKENS, Sampler, SamplingParams, StopMatcher
from sala_core.errors import ModelError

LOGITS = st.lists(st.floats(-20, 20, width=32), min_size=2, max_size=12)


def probabilities(logits, params, seen):
    """Probability of each token by the definitions, one filter after the other. [vocab] float64."""
    scores = np.asarray(logits, dtype=np.float64)
    for token in seen:
        scores[token] *= 1 / params.repetition_penalty if scores[token] > 0 else params.repetition_penalty
    order = sorted(range(len(scores)), key=lambda i: (-np.float32(scores[i]), i))
    if params.top_k:
        order = order[: params.top_k]
    probs = np.exp((scores[order] - scores.max()) / params.temperature)
    probs /= probs.sum()
    before = np.concatenate([[0.0], np.cumsum(probs)[:-1]])
    probs[before >= params.top_p] = 0 if params.top_p < 1 else probs[before >= params.top_p]
    probs[probs < params.min_p * probs[0]] = 0
    full = np.zeros(len(scores))
    full[order] = probs / probs.sum()
    return full


def draws(logits, params, count, *, prompt=()):
    """The first token of samplers with seeds 0 ... count - 1."""
    tensor = torch.tensor(logits, dtype=torch.float32)
    seeded = (SamplingParams(**(vars(params) | {"seed": seed})) for seed in range(count))
    return [Sampler(one, len(logits), prompt).sample(tensor) for one in seeded]


@settings(max_examples=60, deadline=None)
@given(
    LOGITS,
    st.floats(0.05, 3),
    st.floats(0.05, 1),
    st.integers(0, 14),
    st.floats(0, 1),
    st.floats(0.5, 2),
    st.lists(st.integers(0, 1), max_size=3),
)
def test_only_tokens_that_the_filters_keep_are_drawn(logits, temperature, top_p, top_k, min_p, penalty, seen):
    params = SamplingParams(temperature=temperature, top_p=top_p, top_k=top_k, min_p=min_p, repetition_penalty=penalty)
    unfiltered = SamplingParams(temperature=temperature, repetition_penalty=penalty)
    before = probabilities(logits, unfiltered, set(seen))
    kept = probabilities(logits, params, set(seen)) > 0
    # the filters keep the most likely tokens; the margin allows for rounding at their threshold
    threshold = before[kept].min() * (1 - 1e-4)
    for token in draws(logits, params, 20, prompt=seen):
        assert before[token] >= threshold


@pytest.mark.parametrize(
    "params",
    [
        SamplingParams(temperature=1.0),
        SamplingParams(temperature=0.5),
        SamplingParams(temperature=1.7, top_k=3),
        SamplingParams(temperature=1.0, top_p=0.7),
        SamplingParams(temperature=1.0, min_p=0.2),
        SamplingParams(temperature=1.0, repetition_penalty=1.5),
        SamplingParams(temperature=2.0, top_k=4, top_p=0.9, min_p=0.1, repetition_penalty=1.2),
    ],
)
def test_frequencies_are_the_probabilities_of_the_definition(params):
    logits, seen = [1.0, 2.0, -1.0, 0.5, 1.5, -3.0], [1, 2]
    count = 4000
    found = np.bincount(draws(logits, params, count, prompt=seen), minlength=6) / count
    expected = probabilities(logits, params, seen)
    assert ((found > 0) <= (expected > 0)).all()
    np.testing.assert_allclose(found, expected, atol=4.5 * np.sqrt(0.25 / count))


@given(LOGITS)
def test_temperature_zero_and_top_k_one_take_the_most_likely_token(logits):
    for params in (SamplingParams(temperature=0), SamplingParams(top_k=1)):
        token = Sampler(params, len(logits), []).sample(torch.tensor(logits))
        assert logits[token] == max(logits)


def test_same_seed_gives_the_same_tokens_and_another_seed_others():
    logits = torch.zeros(1000)

    def run(seed):
        sampler = Sampler(SamplingParams(seed=seed), 1000, [])
        return [sampler.sample(logits) for _ in range(20)]

    assert run(7) == run(7)
    assert run(7) != run(8)
    assert run(None) != run(None)


def test_logits_are_never_changed():
    logits = torch.tensor([3.0, 1.0, -2.0])
    kept = logits.clone()
    params = SamplingParams(top_k=2, top_p=0.5, min_p=0.1, repetition_penalty=2.0, seed=0)
    sampler = Sampler(params, 3, [0, 1, 2])
    for _ in range(3):
        sampler.sample(logits)
    assert torch.equal(logits, kept)


def test_the_penalty_applies_to_the_answer_and_the_end_of_the_prompt():
    params = SamplingParams(temperature=0, repetition_penalty=2.0)
    logits = torch.tensor([1.0, 0.9, 0.8])
    sampler = Sampler(params, 3, [])
    assert [sampler.sample(logits) for _ in range(4)] == [0, 1, 2, 0]
    old = Sampler(params, 3, [0] + [1] * PENALTY_TAIL_TOKENS)
    assert old.sample(logits) == 0


def test_tokens_with_no_probability_are_never_drawn():
    logits = [float("-inf"), 0.0, float("-inf"), 0.0, float("-inf")]
    assert set(draws(logits, SamplingParams(temperature=1.0), 50)) == {1, 3}


@pytest.mark.parametrize("bad", [[float("nan"), 1.0], [float("inf"), 1.0], [float("-inf")] * 2])
def test_logits_that_are_not_finite_are_an_error(bad):
    for temperature in (0, 1):
        sampler = Sampler(SamplingParams(temperature=temperature), 2, [])
        with pytest.raises(ModelError, match="not numbers"):
            sampler.sample(torch.tensor(bad))


def test_logits_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"\[3\]"):
        Sampler(SamplingParams(), 3, []).sample(torch.zeros(1, 3))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", -0.1),
        ("temperature", float("nan")),
        ("temperature", float("inf")),
        ("top_p", 0.0),
        ("top_p", 1.1),
        ("top_k", -1),
        ("top_k", 1.5),
        ("min_p", -0.1),
        ("min_p", 1.1),
        ("repetition_penalty", 0.0),
        ("max_tokens", 0),
        ("seed", -1),
        ("stop", "END"),
        ("stop", ("",)),
    ],
)
def test_values_out_of_range_are_refused_by_name(name, value):
    with pytest.raises(ValueError, match=f"{name} must be"):
        SamplingParams(**{name: value})


def text_before_stop(text, stop):
    """The definition: everything before the stop string that is complete first."""
    ends = [(text.find(s) + len(s), text.find(s)) for s in stop if s in text]
    return text[: min(ends)[1]] if ends else text


@given(
    st.text("abc", max_size=30),
    st.lists(st.text("abc", min_size=1, max_size=4), max_size=3),
    st.lists(st.integers(0, 30), max_size=8),
)
def test_stop_strings_end_the_text_however_it_is_split(text, stop, cuts):
    bounds = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    matcher = StopMatcher(stop)
    out = "".join(matcher.push(text[a:b]) for a, b in itertools.pairwise(bounds)) + matcher.flush()
    assert out == text_before_stop(text, stop)
    assert matcher.stopped is any(s in text for s in stop)


def test_only_a_possible_start_of_a_stop_string_is_held_back():
    matcher = StopMatcher(("\nUser:",))
    assert [matcher.push(text) for text in ("Yes", ".\nUs", "ually\n", "User", ": no")] == [
        "Yes",
        ".",
        "\nUsually",
        "",
        "",
    ]
    assert matcher.stopped
    assert matcher.flush() == ""
