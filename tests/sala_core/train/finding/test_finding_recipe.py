"""The recipe of the finder: word vectors, relations, ranking and confidence, on small texts."""

import json
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import load_file

from sala_core.finder.features import NAMES
from sala_core.train.finding.examples import answer_rows, load_examples
from sala_core.train.finding.fit import cross_validated, fit_ranking, judge, threshold
from sala_core.train.finding.word_vectors import build_words
from sala_core.train.finding.wordnet import WordNet

PEOPLE = ["Lena", "Osrik", "Marta", "Jonas", "Berta", "Klaus", "Irma", "Otto"]
THINGS = ["boat", "house", "clock", "horse", "garden", "lamp", "cellar", "bridge"]


@pytest.fixture(scope="module")
def questions(tmp_path_factory):
    """(file of questions, folder of texts): each fact stands once, among other sentences."""
    folder = tmp_path_factory.mktemp("texts")
    lines = []
    for number in range(6):
        facts = [
            f"In {1800 + 10 * i + number} the neighbor {PEOPLE[i]} painted the {THINGS[i]} by the river."
            for i in range(len(PEOPLE))
        ]
        sentences = [f"On the {i}th day nobody spoke with {PEOPLE[i % 8]} about the weather." for i in range(40)]
        for i, fact in enumerate(facts):
            sentences.insert(6 * i, fact)
        name = PEOPLE[number] + "x" * number + ".txt"
        (folder / name).write_text(" ".join(sentences), encoding="utf-8")
        for person, thing, fact in zip(PEOPLE, THINGS, facts, strict=True):
            question = f"When did {person} paint the {thing}?"
            lines.append(json.dumps({"text": name, "question": question, "passages": [fact]}))
    file = folder / "questions.jsonl"
    file.write_text("\n".join(lines), encoding="utf-8")
    return file, folder


def test_a_ranking_is_fitted_and_measured_on_other_texts(questions):
    file, folder = questions
    examples = list(load_examples([file], [folder]))

    asked = [each for each in examples if not each.is_made]
    assert len(asked) == 48
    assert all(each.answers.sum() == 1 and each.features.shape[1] == len(NAMES) for each in asked)
    judged = [each for each in cross_validated(examples) if not each.are_answers_hidden and not each.example.is_made]
    assert sum(each.is_right for each in judged) > 40
    hidden = judge(fit_ranking(examples), asked[0], hide_answers=True)
    assert hidden is not None
    assert not hidden.is_right


def test_made_questions_have_their_sentence_or_none(questions):
    file, folder = questions
    made = [each for each in load_examples([file], [folder]) if each.is_made]

    assert any(each.has_answer for each in made)
    assert any(not each.has_answer for each in made)


def test_a_passage_that_the_text_does_not_have_is_refused(questions):
    from sala_core.finder.text_index import build_index

    with pytest.raises(ValueError, match="not in its text"):
        answer_rows(build_index(["One. Two."]), "One. Two.", ["Three"])


@pytest.mark.parametrize(("precision", "expected"), [(1.0, 0.9), (0.75, 0.6), (0.5, 0.1), (1.1, 1.0)])
def test_the_threshold_is_the_lowest_with_enough_right_answers(questions, precision, expected):
    file, folder = questions
    one = judge(fit_ranking(list(load_examples([file], [folder]))), next(iter(load_examples([file], [folder]))))
    from dataclasses import replace

    right = [True, True, False, True, False, False]
    judged = [replace(one, is_right=each) for each in right]

    assert threshold(
        np.array([0.95, 0.9, 0.8, 0.6, 0.3, 0.1], np.float32), judged, precision, least=2
    ) == pytest.approx(expected)


def write_wordnet(folder):
    """Two senses of "boat" with a kind, an irregular verb, in the format of the files."""
    data = {
        "noun": "00000001 06 n 02 boat 0 vessel 0 001 ~ 00000002 n 0000 | something that floats\n"
        "00000002 06 n 01 canoe 0 001 @ 00000001 n 0000 | a narrow boat\n",
        "verb": "00000003 30 v 02 buy 0 purchase 0 000 | get for money\n",
        "adj": "",
        "adv": "",
    }
    index = {
        "noun": "boat n 1 1 ~ 1 0 00000001\nvessel n 1 1 ~ 1 0 00000001\ncanoe n 1 1 @ 1 0 00000002\n",
        "verb": "buy v 1 0 1 0 00000003\npurchase v 1 0 1 0 00000003\n",
        "adj": "",
        "adv": "",
    }
    exceptions = {"noun": "", "verb": "bought buy\n", "adj": "", "adv": ""}
    for name in data:
        (folder / f"data.{name}").write_text(data[name])
        (folder / f"index.{name}").write_text(index[name])
        (folder / f"{name}.exc").write_text(exceptions[name])


def test_relations_come_from_the_files_of_wordnet(tmp_path):
    write_wordnet(tmp_path)
    net = WordNet(tmp_path)

    assert net.related("boat") == {"vessel": pytest.approx(0.8), "canoe": pytest.approx(0.6)}
    assert net.related("bought") == {"buy": 1.0, "purchase": pytest.approx(0.8)}
    assert net.related("boats") == {"boat": 1.0, "vessel": pytest.approx(0.8), "canoe": pytest.approx(0.6)}
    assert net.related("nowhere") == {}


def test_words_that_stand_in_the_same_company_are_near(tmp_path, monkeypatch):
    monkeypatch.setattr("sala_core.train.finding.word_vectors._OWN_DIMENSIONS", 8)
    monkeypatch.setattr("sala_core.train.finding.word_vectors.DIMENSIONS", 16)
    corpus, net = tmp_path / "corpus", tmp_path / "net"
    corpus.mkdir()
    net.mkdir()
    write_wordnet(net)
    rng = np.random.default_rng(0)
    sentences = [f"the {rng.choice(['boat', 'canoe'])} floats on water" for _ in range(60)]
    sentences += [f"a {rng.choice(['bread', 'cheese'])} lies on tables" for _ in range(60)]
    (corpus / "text.txt").write_text(". ".join(sentences))
    (tmp_path / "public.json").write_text(json.dumps({"vectors": {"water": list(rng.random(100)), "the": [1.0] * 100}}))

    count = build_words(corpus, [], net, tmp_path / "public.json", tmp_path / "words.safetensors")

    tensors = load_file(tmp_path / "words.safetensors")
    words = bytes(tensors["words"]).decode().split("\n")
    assert count == len(words) == len(tensors["vectors"]) == len(tensors["relation_counts"])
    vectors = dict(zip(words, tensors["vectors"].astype(np.float32), strict=True))
    near, far = (float(vectors["boat"] @ vectors[word]) for word in ("canoe", "cheese"))
    assert near > far
    assert tensors["relation_counts"][words.index("boat")] == 1


def test_the_recipe_writes_what_the_finder_reads(questions, tmp_path):
    file, folder = questions
    out = tmp_path / "ranking.json"
    command = [sys.executable, "-m", "sala_core.train.finding", "fit", "--questions", file]

    done = subprocess.run([*command, "--texts", folder, "--out", out], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    table = json.loads(out.read_text(encoding="utf-8"))
    assert set(table["ranking"]) == set(NAMES)
    assert 0 < table["threshold"] <= 1
    assert table["figures"]["questions"] == 48
