"""Rows say what they claim; no window comes twice in an epoch, to no process twice, and none from held-out text."""

import random
from itertools import chain

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sala_core.errors import TrainError
from sala_core.tokenizer import Tokenizer
from sala_core.train.corpus import read_texts
from sala_core.train.processes import Processes
from sala_core.train.recall import RECALL_KINDS
from sala_core.train.recipe import read_recipe
from sala_core.train.rows import ROW_KINDS, Rows, check_mix
from sala_core.train.token_cache import TokenCache, num_windows, shuffled, window


@pytest.fixture(scope="module")
def rows(toy, tmp_path_factory):
    recipe = read_recipe(toy)
    tokenizer = Tokenizer.from_folder(recipe.tokenizer)
    cache = TokenCache.open(recipe.data, tokenizer, 0, tmp_path_factory.mktemp("cache"))
    return [Rows(recipe, "backbone", tokenizer, cache, held_out=held_out) for held_out in (False, True)]


@given(st.integers(1, 3000), st.text(max_size=4))
@settings(max_examples=20, deadline=None)
def test_shuffling_is_a_permutation(count, seed):
    assert sorted(shuffled(i, count, seed) for i in range(count)) == list(range(count))


def test_every_window_comes_once_an_epoch_and_epochs_differ():
    tokens = np.arange(1000)
    count = num_windows(1000 - 10, 10)
    starts = [int(window(tokens, 10, sample, "s")[0]) for sample in range(2 * count)]
    first, second = starts[:count], starts[count:]
    assert len(set(first)) == len(set(second)) == count
    assert {start % 10 for start in first} != {start % 10 for start in second}
    assert all(len(window(tokens, 10, sample, "s")) == 11 for sample in range(count))


def test_processes_share_the_rows_without_overlap():
    shares = [Processes(rank=r, count=3, device=torch.device("cpu")).share(range(6, 18)) for r in range(3)]
    assert sorted(chain(*shares)) == list(range(6, 18))
    with pytest.raises(TrainError, match="shared"):
        Processes(rank=0, count=3, device=torch.device("cpu")).share(range(4))


def test_held_out_text_is_in_no_training_row(rows):
    train, unseen = rows
    data = train.recipe.data
    assert [source.name for source in read_texts(data.texts, data.held_out, unseen=True)] == ["dialogue.md"]
    assert "dialogue.md" not in [source.name for source in read_texts(data.texts, data.held_out)]
    seen = train.tokens.tobytes()
    assert unseen.tokens[500:560].tobytes() not in seen
    assert train.tokens[500:560].tobytes() in seen


@pytest.mark.parametrize("kind", ROW_KINDS)
def test_rows_are_the_same_whenever_and_with_whatever_others_they_are_made(rows, kind):
    ids, weights = rows[0].batch(range(4), 128, {kind: 1.0})
    assert ids.shape == (4, 129)
    assert weights.shape == (4, 128)
    assert weights.sum() > 0
    again, _ = rows[0].batch([2], 128, {kind: 1.0})
    assert torch.equal(ids[2:3], again)
    assert not torch.equal(ids[0], ids[1])


@pytest.mark.parametrize("kind", RECALL_KINDS)
@pytest.mark.parametrize("seed", range(4))
def test_weighted_tokens_of_recall_rows_follow_from_the_row(kind, seed):
    row = RECALL_KINDS[kind](random.Random(seed), 200, range(1000, 4000), np.zeros(200, np.int64))
    assert len(row.ids) > 200
    context = 3 if kind == "needle" else 1
    for position in (i for i, weight in enumerate(row.weights) if weight):
        if kind == "copy":
            period = row.weights.index(1.0)
            assert row.ids[position] == row.ids[position - period]
        elif kind == "key_value" or row.weights[position - 1] == 0:
            before = row.ids[position - context : position]
            found = [i for i in range(position - context) if row.ids[i : i + context] == before]
            assert row.ids[found[0] + context] == row.ids[position]


def test_unknown_rows_are_refused():
    with pytest.raises(TrainError, match="poems"):
        check_mix({"text": 1.0, "poems": 1.0}, "[sft] mix")
