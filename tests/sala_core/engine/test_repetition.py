"""Loops are found, and what only looks like one is not."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sala_core.engine.repetition import MAX_PERIOD_TOKENS, RepetitionDetector
from sala_core.text.tokenizer import Tokenizer

BLOCKS = st.lists(st.integers(0, 70_000), min_size=1, max_size=MAX_PERIOD_TOKENS)


def first_loop(ids):
    """(tokens pushed, copies among them) when a loop is noticed; None if never."""
    detector = RepetitionDetector()
    return next(((n, copied) for n, token in enumerate(ids, 1) if (copied := detector.push(token))), None)


def smallest_period(block):
    """The shortest run that `block`, repeated without end, repeats."""
    n = len(block)
    return next(p for p in range(1, n + 1) if n % p == 0 and block == block[:p] * (n // p))


def needed(period):
    return max(256 if period <= 4 else 160, 5 * period)


@given(st.lists(st.integers(70_001, 80_000), max_size=900), BLOCKS)
@settings(max_examples=40)
def test_a_loop_is_found_as_soon_as_it_is_long_enough(before, block):
    period = smallest_period(block)
    total = needed(period)
    ids = [*before, *(block * (total // len(block) + 2))]
    assert first_loop(ids) == (len(before) + total, total - period)


def run_of(text, period):
    """How many of the last tokens equal the token one period before."""
    longest = max(0, len(text) - period)
    return next((n for n in range(longest) if text[-1 - n] != text[-1 - n - period]), longest)


PIECES = st.lists(
    st.tuples(st.lists(st.integers(0, 1), min_size=1, max_size=9), st.integers(1, 60)), min_size=1, max_size=6
)


@given(PIECES)
@settings(max_examples=30)
def test_a_text_is_a_loop_exactly_where_its_end_is_periodic(pieces):
    """Against the definition, on texts of two tokens, which have many periods at once."""
    ids = [token for block, copies in pieces for token in block * copies][:700]
    found = first_loop(ids)
    ends = range(156, len(ids) + 1) if found is None else (found[0] - 1, found[0])
    for end in ends:
        runs = {period: run_of(ids[:end], period) for period in range(1, 60)}
        short = max(runs[period] for period in range(1, 5))
        loops = [p for p, run in runs.items() if run + p >= needed(p) and (p <= 4 or p > short)]
        assert bool(loops) == (found is not None and end == found[0])
    if found is not None:
        assert found[1] == runs[loops[0]]


@given(st.lists(st.integers(0, 7), min_size=200, max_size=3000, unique=False), st.integers(0, 10**6))
@settings(max_examples=30)
def test_random_text_is_no_loop(ids, seed):
    random.Random(seed).shuffle(ids)
    if len(set(ids)) > 3:
        assert first_loop(ids) is None


TABLE = "| year | ships | lost |\n|------|-------|------|\n" + "".join(
    f"| {1800 + n} | {7 * n} | 0 |\n" for n in range(60)
)
LEGITIMATE = {
    "a rule": "Before\n\n" + "-" * 120 + "\n\nAfter" + "=" * 120,
    "a wide box": "┌" + "─" * 78 + "┐\n│" + " " * 78 + "│\n└" + "─" * 78 + "┘",
    "a table": TABLE,
    "an empty table": "| name | a | b | c |\n|---|---|---|---|\n" + "| | | | |\n" * 9,
    "a list": "".join(f"- [ ] step {n}: read chapter {n}\n" for n in range(80)),
    "code": "".join(f'    if (code == {n}) {{\n        return "E{n}";\n    }}\n' for n in range(60)),
    "an identity matrix": "".join(
        "[" + ", ".join("1" if i == j else "0" for i in range(10)) + "],\n" for j in range(10)
    ),
    "a refrain": "\n\n".join(
        f"Verse {n} is about the sea.\nHeave away, haul away, we are bound for the bay." for n in range(9)
    ),
    "a quoted cry": "“No, no, no, no, no, no, no, no, no, no!” he cried. " * 3,
    "dots of a table of contents": "".join(f"Chapter {n} {'.' * 60} {n * 17}\n" for n in range(30)),
}


@pytest.fixture(scope="module")
def tokenizer():
    from sala_core.model.checkpoint import EMBEDDED, resolve_model

    return Tokenizer.from_folder(resolve_model(EMBEDDED))


@pytest.mark.parametrize("name", LEGITIMATE)
def test_repetition_with_a_purpose_is_no_loop(name, tokenizer):
    assert first_loop(tokenizer.encode_content(LEGITIMATE[name]).tolist()) is None
    assert first_loop(LEGITIMATE[name].encode()[:1500]) is None or name in ("a rule", "a wide box", "code")


@pytest.mark.parametrize(
    "text", ["y", "the same again. ", "Wait. Let me check the list once more, from the start. " * 2]
)
def test_what_models_loop_on_is_found(text, tokenizer):
    ids = tokenizer.encode_content("So it is. " + text * 400).tolist()
    found = first_loop(ids)
    assert found is not None
    assert found[0] < 270
