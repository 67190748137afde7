"""Exact lengths, whatever the tokenizer merges, in few counts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sala_core.errors import EvalError
from sala_core.evals.fit import fit
from sala_core.evals.haystack import Haystack, Needle
from sala_core.evals.records import Message, Reading


class Words:
    """Counts characters in steps, so that a word more is some tokens more."""

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
def test_any_length_is_met_exactly(words, chars, length, guess):
    counter = Words(chars)
    assert counter.count(fit(build(words), counter, length, guess=guess, most=len(words))) == length


def test_a_million_words_take_few_counts():
    counter = Words(3)
    words = ["abc" * (1 + i % 5) for i in range(1_000_000)]
    calls = []

    def sized(size, padding):
        calls.append(size)
        return build(words)(size, padding)

    fit(sized, counter, 1_000_000, guess=123, most=len(words))
    assert len(calls) < 25


def test_what_is_too_long_from_the_start_is_refused():
    with pytest.raises(EvalError, match="it needs 5"):
        fit(lambda size, pad: build(["abcde"])(1, pad), Words(1), 4, guess=1)


@given(st.lists(st.floats(0, 1), max_size=6), st.integers(0, 40))
def test_plants_stand_whole_and_in_order_and_the_rest_is_the_text(depths, num_words):
    filler = Haystack("One two three. Four five six seven! Eight? Nine ten.\n\nEleven twelve. " * 4)
    plants = [Needle(text=f"[{i}]", depth=depth) for i, depth in enumerate(depths)]
    found = filler.planted(num_words, plants, "#")
    assert [found.text[a:b] for a, b in found.spans] == [plant.text for plant in plants]
    order = sorted(range(len(plants)), key=lambda i: depths[i])
    assert [found.spans[i] for i in order] == sorted(found.spans)
    rest = found.text
    for plant in plants:
        rest = rest.replace(plant.text, "")
    assert rest.removesuffix("#").split() == filler.text.split()[:num_words]
    assert rest.endswith("#")
    for a, b in found.spans:
        assert a == 0 or found.text[a - 1] in " \n"
        assert b == len(found.text) or found.text[b] in " \n#"
