"""Rows are reproducible; an epoch has every window once; processes share no row; held-out text is in no row."""

import random
from dataclasses import replace
from itertools import chain

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sala_core.errors import TrainError
from sala_core.text.tokenizer import Tokenizer
from sala_core.train.data.batches import num_scored
from sala_core.train.data.corpus import read_texts, text_files
from sala_core.train.data.recall import RECALL_KINDS
from sala_core.train.data.rows import ROW_KINDS, Rows, check_mix
from sala_core.train.data.token_cache import TokenCache, num_windows, shuffled, window
from sala_core.train.processes import Processes
from sala_core.train.recipe import read_recipe


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


def test_an_epoch_has_every_window_once_and_epochs_differ():
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
    train, held_out = rows
    data = train.recipe.data
    assert [source.name for source in read_texts(data.texts, data.held_out, only_held_out=True)] == ["dialogue.md"]
    assert "dialogue.md" not in [source.name for source in read_texts(data.texts, data.held_out)]
    train_bytes = train.tokens.tobytes()
    assert held_out.tokens[500:560].tobytes() not in train_bytes
    assert train.tokens[500:560].tobytes() in train_bytes


@pytest.mark.parametrize("kind", ROW_KINDS)
def test_a_row_does_not_depend_on_the_rest_of_its_batch(rows, kind):
    ids, weights, positions = rows[0].batch(range(4), 128, {kind: 1.0})
    assert positions is None
    assert ids.shape == (4, 129)
    assert weights.shape == (4, 128)
    assert weights.sum() > 0
    again = rows[0].batch([2], 128, {kind: 1.0}).ids
    assert torch.equal(ids[2:3], again)
    assert not torch.equal(ids[0], ids[1])


def test_characters_that_the_tokenizer_lacks_are_replaced_in_training_text_and_counted(toy, lossy_model, tmp_path):
    (tmp_path / "texts").mkdir()
    for name, text in {"a.txt": "A bell\x07 and\x07 more.", "dialogue.md": "\x01 held out."}.items():
        (tmp_path / "texts" / name).write_text(text)
    data = replace(read_recipe(toy).data, texts=(tmp_path / "texts",), held_out=("dialogue",))
    tokenizer = Tokenizer.from_folder(lossy_model)
    for _ in range(2):  # made, then opened again
        cache = TokenCache.open(data, tokenizer, 0, tmp_path / "cache")
        assert tokenizer.decode(cache.train[1:]) == "A bell\ufffd and\ufffd more."
        assert tokenizer.decode(cache.held_out[1:]) == "\ufffd held out."
        assert cache.replaced == (
            "3 characters that the model's tokenizer cannot write are read as '\ufffd': U+0007 (2), U+0001 (1)"
        )


def test_answer_positions_and_scored_targets_do_not_depend_on_the_rest_of_the_batch(toy, tmp_path):
    recipe = read_recipe(toy)
    recipe = replace(recipe, training=replace(recipe.training, target_share=0.3))
    tokenizer = Tokenizer.from_folder(recipe.tokenizer)
    some = Rows(recipe, "sft", tokenizer, TokenCache.open(recipe.data, tokenizer, 0, tmp_path))
    mix = {"conversation": 1.0, "text": 1.0}
    whole, again = (some.batch(samples, 200, mix, with_positions=True) for samples in (range(6), [3, 4]))
    assert torch.equal(whole.weights[3:5], again.weights)
    for a, b in zip(whole.rows(slice(3, 5)).positions, again.positions, strict=True):
        assert torch.equal(a, b)
    assert whole.positions.valid.sum() > 0


def test_a_share_of_a_rows_targets_is_scored_and_answers_come_first(toy, tmp_path):
    recipe = read_recipe(toy)
    tokenizer = Tokenizer.from_folder(recipe.tokenizer)
    cache = TokenCache.open(recipe.data, tokenizer, 0, tmp_path)
    subsampled = replace(recipe, training=replace(recipe.training, target_share=0.4))
    every, some = (Rows(one, "sft", tokenizer, cache).batch(range(8), 300, {"conversation": 1.0}).weights
                   for one in (recipe, subsampled))  # fmt: skip
    assert num_scored(300, 0.4) == 120
    assert ((some > 0).sum(1) <= 120).all()
    assert (some[some > 0] == every[some > 0]).all()
    for row, kept in zip(every, some, strict=True):
        assert (kept > 0).sum() == min(120, (row > 0).sum())
        if (row >= 0.5).sum() <= 120:
            assert torch.equal(row >= 0.5, kept >= 0.5)


def test_the_python_library_can_be_read_and_its_modules_are_held_out_by_path():
    held_out = ["json/", "heapq.py"]
    names = [name for _, name, _ in text_files([], library=True)]
    train = {source.name: source for source in read_texts([], held_out, library=True)}
    unseen = {source.name for source in read_texts([], held_out, only_held_out=True, library=True)}
    assert {"json/decoder.py", "heapq.py"} <= unseen
    assert "argparse.py" in train
    assert train["argparse.py"].kind == "code"
    assert not train.keys() & unseen
    assert sorted([*train, *unseen]) == sorted(names)
    assert not [name for name in names if name.startswith("test/") or "site-packages/" in name]
    assert not list(read_texts([], held_out))


@pytest.mark.parametrize("kind", RECALL_KINDS)
@pytest.mark.parametrize("seed", range(4))
def test_weighted_tokens_of_recall_rows_follow_from_earlier_tokens(kind, seed):
    row = RECALL_KINDS[kind](random.Random(seed), 200, range(1000, 4000), np.zeros(200, np.int64))
    assert len(row.ids) > 200
    context = 3 if kind == "needle" else 1
    for position in (i for i, weight in enumerate(row.weights) if weight):
        if kind == "copy":
            period = row.weights.index(1.0)
            assert row.ids[position] == row.ids[position - period]
        elif kind == "key_value" or row.weights[position - 1] == 0:
            before = row.ids[position - context : position]
            matches = [i for i in range(position - context) if row.ids[i : i + context] == before]
            assert row.ids[matches[0] + context] == row.ids[position]


def test_unknown_kinds_of_rows_are_refused():
    with pytest.raises(TrainError, match="poems"):
        check_mix({"text": 1.0, "poems": 1.0}, "[sft] mix")
