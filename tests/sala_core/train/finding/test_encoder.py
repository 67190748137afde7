"""Word vectors of a sentence encoder, on a small random encoder and small texts."""

import json
import subprocess
import sys
from random import Random

import numpy as np
import pytest
import torch

from sala_core.finder.related import related_words, save_related_words
from sala_core.train.finding.encoder import DIMENSIONS, Encoder, Taught, fitted_vectors, joined, sample_sentences

WORDS = ["boat", "canoe", "floats", "water", "bread", "cheese", "lies", "table", "the", "on", "a"]


@pytest.fixture(scope="module")
def encoder_folder(tmp_path_factory):
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder = tmp_path_factory.mktemp("encoder")
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    (folder / "vocab.txt").write_text("\n".join(special + WORDS), encoding="utf-8")
    BertTokenizerFast(vocab={word: i for i, word in enumerate(special + WORDS)}).save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(WORDS) + 5,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=140,
    )
    BertModel(config).save_pretrained(folder)
    return folder


@pytest.fixture
def corpus(tmp_path):
    folder = tmp_path / "corpus"
    folder.mkdir()
    lines = [f"{'The canoe' if i % 2 else 'A boat'} floats on the water of lake number {i}." for i in range(40)]
    (folder / "text.txt").write_text(" ".join(lines), encoding="utf-8")
    (folder / "left-out.txt").write_text("Nobody may ever see this secret sentence here. " * 20, encoding="utf-8")
    return folder


def test_texts_of_other_lengths_do_not_change_a_vector(encoder_folder):
    encode = Encoder(encoder_folder)

    pair = encode(["boat", "the cheese lies on the table"])
    turned = encode(["the cheese lies on the table", "boat"])

    np.testing.assert_allclose(pair, turned[::-1], atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(pair, axis=1), 1, atol=1e-5)


def test_joined_vectors_keep_what_both_tell():
    rng = np.random.default_rng(0)
    present, encoded = (each / np.linalg.norm(each, axis=1, keepdims=True) for each in rng.random((2, 60, 8)) - 0.5)

    vectors = joined(present.astype(np.float32), encoded.astype(np.float32))

    both = np.concatenate([0.5 * present, encoded], axis=1)
    both -= both.mean(0)
    both /= np.linalg.norm(both, axis=1, keepdims=True)
    assert vectors.shape[1] <= DIMENSIONS
    np.testing.assert_allclose(vectors @ vectors.T, both @ both.T, atol=1e-4)


def test_sentences_are_whole_or_short_parts_of_texts_that_are_not_left_out(corpus):
    sentences = sample_sentences(corpus, ["left-out"], Random(0))

    text = (corpus / "text.txt").read_text(encoding="utf-8")
    assert len(sentences) > 40
    assert all(each in text for each in sentences)
    assert any(each.endswith(".") for each in sentences)
    assert any(3 <= len(each.split()) < 6 for each in sentences)


def test_words_become_near_whose_sentences_the_encoder_finds_near():
    rng = np.random.default_rng(0)
    start = rng.standard_normal((4, 8)).astype(np.float32)
    start /= np.linalg.norm(start, axis=1, keepdims=True)
    rows, targets = [], []
    for i in range(240):  # the words 0 and 1 mean one thing, the words 2 and 3 another one
        rows.append(np.array([i % 4]))
        targets.append(np.eye(2, dtype=np.float32)[i % 4 // 2])
    taught = Taught(rows=tuple(rows), rarity=np.ones(4, np.float32), targets=np.stack(targets))

    vectors = start
    for _ in range(30):
        vectors = fitted_vectors(vectors, taught)

    similar = vectors @ vectors.T
    assert min(similar[0, 1], similar[2, 3]) > similar[:2, 2:].max() + 0.3


def test_the_command_changes_the_vectors_alone(encoder_folder, corpus, tmp_path):
    words, out = tmp_path / "words.safetensors", tmp_path / "better.safetensors"
    vectors = np.random.default_rng(0).standard_normal((len(WORDS), 8)).astype(np.float32)
    save_related_words(words, WORDS, vectors, [[(1, 0.8)], *([] for _ in WORDS[1:])])
    command = [sys.executable, "-m", "sala_core.train.finding", "encoder", "--encoder", encoder_folder]

    done = subprocess.run(
        [*command, "--corpus", corpus, "--skip", "left-out", "--words", words, "--out", out],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    before, after = related_words(words), related_words(out)
    assert after.words == before.words
    assert after.relations("boat") == before.relations("boat")
    assert after.steps.shape[1] == 24
    assert json.loads(json.dumps(after.relations("canoe"))) == []
