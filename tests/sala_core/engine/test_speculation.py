"""Prompt lookup against a linear search, and the draft length after acceptance and rejection."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sala_core.engine.speculation as module
from sala_core.engine.speculation import MAX_DRAFT_TOKENS, DraftIndex, DraftLength


def linear_search(ids, limit):
    """The draft by comparing every position: the longest match of at least three tokens, the latest of equal ones."""
    end = len(ids)

    def match_length(position):
        n = 0
        while n < min(64, position) and ids[position - 1 - n] == ids[end - 1 - n]:
            n += 1
        return n

    longest, position = max(((match_length(position), position) for position in range(3, end)), default=(0, 0))
    if longest < 3:
        return []
    return [ids[position + i % (end - position)] for i in range(limit)]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.lists(st.integers(0, 2), max_size=12), max_size=5), st.integers(0, 20))
def test_the_draft_follows_the_longest_match(pieces, limit):
    index, ids = DraftIndex(), []
    for piece in pieces:
        index.extend(piece)
        ids += piece
    assert len(index) == len(ids)
    if limit:
        assert index.propose(limit) == linear_search(ids, limit)


@pytest.mark.parametrize("scans", [0, 7, 1000])
@pytest.mark.parametrize("unsorted", [1, 5, 40])
def test_sorted_recent_and_unindexed_ngrams_are_found_alike(monkeypatch, unsorted, scans):
    monkeypatch.setattr(module, "_UNSORTED_TOKENS", unsorted)
    monkeypatch.setattr(module, "_MAX_SCANS", scans)
    rng = np.random.default_rng(unsorted)
    index, ids = DraftIndex(), []
    for _ in range(60):
        piece = rng.integers(0, 3, rng.integers(1, 6)).tolist()
        index.extend(piece)
        ids += piece
        # of more than 32 occurrences, only the latest are compared
        if len(ids) < 90:
            assert index.propose(5) == linear_search(ids, 5)


def test_a_quotation_is_continued_from_its_source():
    text = np.random.default_rng(0).integers(0, 70_000, 50_000).tolist()
    index = DraftIndex(text)
    index.extend([1, 2, 3, *text[20_000:20_004]])
    assert index.propose() == text[20_004 : 20_004 + MAX_DRAFT_TOKENS]


def test_no_draft_for_new_or_short_text():
    assert DraftIndex().propose() == []
    assert DraftIndex([1, 2]).propose() == []
    assert DraftIndex([1, 2, 3, 4, 5, 6]).propose() == []
    assert DraftIndex([1, 2, 3, 9, 1, 2, 3]).propose(0) == []


def test_a_repetition_continues_beyond_the_end():
    assert DraftIndex([7, 8, 9, 7, 8, 9]).propose(7) == [7, 8, 9, 7, 8, 9, 7]


def test_the_draft_length_grows_on_acceptance_and_shrinks_on_rejection():
    length = DraftLength()
    length.learn(length.tokens, length.tokens)
    assert length.tokens == MAX_DRAFT_TOKENS
    for expected in (7, 3, 3):
        length.learn(length.tokens, 1)
        assert length.tokens == expected


def test_pauses_grow_while_every_draft_is_rejected():
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
