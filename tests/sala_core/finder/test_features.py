"""The features of sentences, against plain loops over the same text."""

import math
import re

import numpy as np
import pytest

from sala_core.finder.features import NAMES, SearchedText, _window_max, _window_norms, _window_sum, sentence_features
from sala_core.finder.question import parse_question
from sala_core.finder.related import related_words
from sala_core.finder.text_index import build_index

TEXT = (
    "Lena lives in Oslo with her brother. He bought a small house there in 1903.\n\nThe harbour was empty. "
    "Nobody saw the captain leave because the fog was thick. Captain Orlow went to Bergen."
)


def searched(text: str = TEXT) -> SearchedText:
    return SearchedText.of(build_index([text]), related_words())


def feature(name: str, question: str, text: str = TEXT) -> list[float]:
    """Of every sentence with words."""
    of = searched(text)
    values = sentence_features(of, parse_question(question))[:, NAMES.index(name)]
    return [round(float(value), 4) for value in values[of.rows]]


@pytest.mark.parametrize("reach", [1, 3, 8, 25])
@pytest.mark.parametrize("size", [1, 2, 7, 60])
def test_windows_are_those_of_a_loop(reach: int, size: int) -> None:
    values = np.random.default_rng(size).random((2, size)).astype(np.float32)

    largest, sums = _window_max(values, reach), _window_sum(values[0], reach)

    for i in range(size):
        window = values[:, max(0, i - reach) : i + reach + 1]
        np.testing.assert_array_equal(largest[:, i], window.max(1))
        assert sums[i] == pytest.approx(float(window[0].sum()), rel=1e-5)


@pytest.mark.parametrize("reach", [0, 1, 3])
@pytest.mark.parametrize("size", [1, 2, 5, 40])
def test_lengths_of_window_sums_are_those_of_a_loop(reach: int, size: int) -> None:
    values = np.random.default_rng(size).standard_normal((size, 6)).astype(np.float32)

    norms = _window_norms(values, reach)

    for i in range(size):
        expected = np.linalg.norm(values[max(0, i - reach) : i + reach + 1].astype(np.float64).sum(0))
        assert norms[i] == pytest.approx(expected, rel=1e-4)


def test_own_words_count_by_their_rarity() -> None:
    own = feature("own0", "Where does Lena live?")

    assert own[0] == 1.0
    assert own[1:] == [0.0] * 4


def test_a_synonym_counts_less_than_the_word() -> None:
    near, own = feature("near0", "Who purchased a house?"), feature("own0", "Who purchased a house?")

    assert own[1] < near[1] <= 1
    assert max(near) == near[1]


def test_the_nearest_word_of_each_sentence_counts_by_its_vector() -> None:
    of, question = searched(), parse_question("Why was the dwelling abandoned?")
    words = {word: of.vectors[i] for word, i in of.index.word_of.items() if not of.index.is_name[i]}
    sought = [(word, of.related.vector(of.related.row_of[word])) for word in question.sought]
    held = [[of.index.vocabulary[i] for i in of.index.ids[of.index.sentence_of == row].tolist()] for row in of.rows]
    nearest = [
        [max([0.0, *(float(words[word] @ vector) for word in sentence if word in words)]) for _, vector in sought]
        for sentence in held
    ]

    assert [word for word, _ in sought] == ["dwelling", "abandoned"]
    assert feature("similar0", "Why was the dwelling abandoned?") == pytest.approx(
        [(a + b) / 2 for a, b in nearest], abs=2e-4
    )
    assert feature("similar0", "Why was the dwelling abandoned?")[1] > 0.25, "a house is near a dwelling"
    assert feature("similar1", "Why was the dwelling abandoned?")[0] > 0.25, "and stands in the next sentence"


@pytest.mark.parametrize(
    ("name", "question", "row"),
    [
        ("number", "When did he buy the house?", 1),
        ("reason", "Why did nobody see the captain?", 3),
        ("place_name", "Where did the captain go?", 4),
        ("is_short", "Where is the harbour?", 2),
    ],
)
def test_a_sentence_with_the_kind_of_answer_is_marked(name: str, question: str, row: int) -> None:
    assert feature(name, question)[row] == 1.0


def test_bm25_is_that_of_the_formula() -> None:
    question, text = "Which captain saw the fog?", TEXT
    of = searched(text)
    words = [[of.index.vocabulary[i] for i in of.index.ids[of.index.sentence_of == row].tolist()] for row in of.rows]
    stems = [[of.inflections.stem(word) for word in sentence] for sentence in words]
    sought = [of.inflections.stem(word) for word in parse_question(question).sought]
    lengths = [sum(len(stems[j]) for j in range(max(0, i - 1), min(len(stems), i + 2))) for i in range(len(stems))]
    mean, scores = sum(lengths) / len(lengths), []
    for i in range(len(stems)):
        near = [word for j in range(max(0, i - 1), min(len(stems), i + 2)) for word in stems[j]]
        score = 0.0
        for word in sought:
            holders = sum(word in sentence for sentence in stems)
            rarity = math.log1p(max(0.0, len(stems) - holders + 0.5) / (holders + 0.5))
            score += rarity * near.count(word) * 2.2 / (near.count(word) + 1.2 * (0.25 + 0.75 * lengths[i] / mean))
        scores.append(score)
    expected = [score / max(scores) for score in scores]

    assert feature("bm25", question) == pytest.approx(expected, abs=0.02)


def test_every_feature_has_a_name_and_is_finite() -> None:
    values = sentence_features(searched(), parse_question("Why did Captain Orlow go to Bergen in 1903?"))

    assert values.shape == (searched().index.num_sentences, len(NAMES))
    assert np.isfinite(values).all()
    assert len(set(NAMES)) == len(NAMES)
    assert all(re.fullmatch(r"[a-z0-9_]+", name) for name in NAMES)
