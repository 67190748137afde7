"""A quotation that is found by its longest word is where the search through the whole folded text finds it."""

import random

import pytest

from sala_core.ingest.folded import FoldedText, find_by_word
from sala_core.ingest.source_map import SourceMap

WORDS = ["night", "horse", "a", "the", "morning", "Alpatych", "I", "“Oh”", "--", "it’s", "well-known", "ﬁre", "3rd"]


def text_of(seed: int) -> str:
    """Words with line breaks, double spaces and typographic marks between them."""
    rng = random.Random(seed)
    return "".join(rng.choice(WORDS) + rng.choice([" ", " ", "\n", "  ", "\u00a0", ", ", "…"]) for _ in range(400))


@pytest.mark.parametrize("seed", range(30))
def test_it_finds_what_the_whole_search_finds(seed):
    rng, text = random.Random(1000 + seed), text_of(seed)
    whole = FoldedText(text)
    for _ in range(20):
        start = rng.randrange(len(text) - 60)
        quotation = " ".join(text[start : start + rng.randrange(12, 60)].split())
        expected, found = whole.find(quotation), find_by_word(text, quotation)
        assert found in (expected, None)
        if found is None:  # only where no word could lead there
            longest = max(
                ("".join(c if c.isascii() and c.isalnum() else " " for c in quotation)).split() or [""], key=len
            )
            assert expected is None or len(longest) < 3 or "ﬁ" in text[expected[0] : expected[1]]


def test_a_match_at_the_edge_of_what_was_folded_is_not_taken_for_a_whole_word():
    text = "x" * 500 + "morning light" + "y" * 500
    assert find_by_word(text, "morning light") is None
    assert find_by_word("morning light", "morning light") == (0, 13)


def test_the_map_still_finds_ligatures_and_words_divided_at_the_end_of_a_line():
    import numpy as np

    text = "They ﬁnished the ﬁre. An extra-\nordinary evening came."
    lines = SourceMap(text, (), np.zeros(1, np.int64))
    for quotation, shown in (
        ("finished the fire", "ﬁnished the ﬁre"),
        ("extraordinary evening", "extra-\nordinary evening"),
    ):
        place = lines.find(quotation)
        assert place is not None
        assert lines.text(place) == shown
