"""Prompts of an exact length, in few token counts; needles in a haystack."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sala_core.errors import EvalError
from sala_core.evals.exact_length import fit_length
from sala_core.evals.haystack import Haystack, Needle
from sala_core.evals.records import Message, Reading


class CharCounter:
    """Counts a token for every few characters, so that one word more can be several tokens more."""

    def __init__(self, chars):
        self.chars, self.calls = chars, 0

    def count(self, reading):
        self.calls += 1
        return -(-len(reading.messages[0].text) // self.chars)


def build(words):
    def made(size, padding):
        text = " ".join(words[:size]) + padding
        return Reading(system="", messages=(Message(role="user", text=text),), questions=())

    return made


@given(st.lists(st.sampled_from(["a", "bcd", "efghijk", "lmnopqrstuvw"]), min_size=400, max_size=500),
       st.integers(1, 3), st.integers(0, 260), st.integers(1, 600))  # fmt: skip
def test_every_length_is_met_exactly(words, chars, length, guess):
    counter = CharCounter(chars)
    reading = fit_length(build(words), counter, length, guess=guess, max_size=len(words))
    assert counter.count(reading) == length


def test_a_million_words_need_few_counts():
    counter = CharCounter(3)
    words = ["abc" * (1 + i % 5) for i in range(1_000_000)]
    calls = []

    def counted(size, padding):
        calls.append(size)
        return build(words)(size, padding)

    fit_length(counted, counter, 1_000_000, guess=123, max_size=len(words))
    assert len(calls) < 25


def test_a_smallest_prompt_that_is_too_long_is_refused():
    with pytest.raises(EvalError, match="it needs 5"):
        fit_length(lambda size, pad: build(["abcde"])(1, pad), CharCounter(1), 4, guess=1)


@given(st.lists(st.floats(0, 1), max_size=6), st.integers(0, 40))
def test_needles_are_whole_and_ordered_by_depth_and_the_rest_is_the_haystack(depths, num_words):
    haystack = Haystack("One two three. Four five six seven! Eight? Nine ten.\n\nEleven twelve. " * 4)
    needles = [Needle(text=f"[{i}]", depth=depth) for i, depth in enumerate(depths)]
    planted = haystack.plant(num_words, needles, "#")
    assert [planted.text[a:b] for a, b in planted.spans] == [needle.text for needle in needles]
    order = sorted(range(len(needles)), key=lambda i: depths[i])
    assert [planted.spans[i] for i in order] == sorted(planted.spans)
    rest = planted.text
    for needle in needles:
        rest = rest.replace(needle.text, "")
    assert rest.removesuffix("#").split() == haystack.text.split()[:num_words]
    assert rest.endswith("#")
    for a, b in planted.spans:
        assert a == 0 or planted.text[a - 1] in " \n"
        assert b == len(planted.text) or planted.text[b] in " \n#"
