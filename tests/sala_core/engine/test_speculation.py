"""Prompt lookup against a plain search, and how the length of drafts follows their fate."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sala_core.engine.speculation as module
from sala_core.engine.speculation import MAX_DRAFT_TOKENS, DraftIndex, DraftLength


def searched(ids, limit):
    """By looking at every place: the longest agreement of at least three tokens, of equals the latest."""
    end = len(ids)

    def agreement(place):
        n = 0
        while n < min(64, place) and ids[place - 1 - n] == ids[end - 1 - n]:
            n += 1
        return n

    found = max(((agreement(place), place) for place in range(3, end)), default=(0, 0))
    if found[0] < 3:
        return []
    place = found[1]
    return [ids[place + i % (end - place)] for i in range(limit)]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.lists(st.integers(0, 2), max_size=12), max_size=5), st.integers(0, 20))
def test_it_proposes_what_followed_the_longest_agreement(pieces, limit):
    index, ids = DraftIndex(), []
    for piece in pieces:
        index.extend(piece)
        ids += piece
    assert len(index) == len(ids)
    if limit:
        assert index.propose(limit) == searched(ids, limit)


@pytest.mark.parametrize("unsorted", [1, 5, 40])
def test_sorted_and_late_tokens_are_found_alike(monkeypatch, unsorted):
    monkeypatch.setattr(module, "_UNSORTED_TOKENS", unsorted)
    rng = np.random.default_rng(unsorted)
    index, ids = DraftIndex(), []
    for _ in range(60):
        piece = rng.integers(0, 3, rng.integers(1, 6)).tolist()
        index.extend(piece)
        ids += piece
        # of more than 32 places only the latest are compared
        if len(ids) < 90:
            assert index.propose(5) == searched(ids, 5)


def test_a_text_is_continued_where_it_is_quoted():
    text = np.random.default_rng(0).integers(0, 70_000, 50_000).tolist()
    index = DraftIndex(text)
    index.extend([1, 2, 3, *text[20_000:20_004]])
    assert index.propose() == text[20_004 : 20_004 + MAX_DRAFT_TOKENS]


def test_nothing_is_proposed_for_what_is_new_or_short():
    assert DraftIndex().propose() == []
    assert DraftIndex([1, 2]).propose() == []
    assert DraftIndex([1, 2, 3, 4, 5, 6]).propose() == []
    assert DraftIndex([1, 2, 3, 9, 1, 2, 3]).propose(0) == []


def test_a_repetition_is_continued_beyond_the_end():
    assert DraftIndex([7, 8, 9, 7, 8, 9]).propose(7) == [7, 8, 9, 7, 8, 9, 7]


def test_drafts_grow_while_they_hold_and_shrink_when_they_fail():
    length = DraftLength()
    length.learn(length.tokens, length.tokens)
    assert length.tokens == MAX_DRAFT_TOKENS
    for expected in (7, 3, 3):
        length.learn(length.tokens, 1)
        assert length.tokens == expected


def test_drafts_that_always_fail_are_made_ever_more_seldom():
    length, pauses, pause = DraftLength(), [], 0
    while len(pauses) < 8:
        if length.tokens:
            pauses.append(pause)
            length.learn(length.tokens, 0)
            pause = 0
        else:
            length.learn(0, 0)
            pause += 1
    assert pauses == [0, 0, 1, 3, 7, 15, 16, 16]
    while not length.tokens:
        length.learn(0, 0)
    length.learn(length.tokens, 1)
    assert length.tokens
