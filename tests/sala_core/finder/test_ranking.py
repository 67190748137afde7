"""The finder on texts: what it finds, what it refuses, and that a plain word search is not better."""

import json
import sysconfig
from collections import defaultdict
from pathlib import Path

import pytest

from sala_core.assets import ASSETS
from sala_core.evals.suites.natural import WINDOWS, WordSearch, occurrences, overlaps
from sala_core.finder.ranking import Finder, fitted

TEXT = """The harbour of Vela is small. Lena Orlow lives there with her brother, who is a doctor.

She bought a boat in 1903 for eleven crowns. It sank in the first winter because its planks were rotten.

Captain Brandt never trusted the lighthouse keeper. He hid his money under the stairs."""


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("Where does Lena live?", "Lena Orlow lives there"),
        ("What is the profession of Lena's brother?", "Lena Orlow lives there"),
        ("When did she purchase the boat?", "in 1903"),
        ("Why did the boat sink?", "planks were rotten"),
        ("Who did Captain Brandt not trust?", "lighthouse keeper"),
        ("Where did he hide his money?", "under the stairs"),
    ],
)
def test_the_best_sentence_answers(question: str, answer: str) -> None:
    best = Finder([TEXT]).find(question, 3).sentences[0]

    assert answer in TEXT[best.start : best.end]
    assert best.context[0] <= best.start < best.end <= best.context[1]


def test_the_place_is_counted_in_its_own_text() -> None:
    best = Finder(["Nothing here.", "", TEXT]).find("Why did the boat sink?", 1).sentences[0]

    assert best.text == 2
    assert "rotten" in TEXT[best.start : best.end]


@pytest.mark.parametrize("question", ["hello", "Qwxyz vbnmk?", ""])
def test_nothing_is_found_without_a_word(question: str) -> None:
    assert Finder([TEXT]).find(question, 5).sentences == ()


@pytest.mark.parametrize("texts", [[], [""], ["\n\n"]])
def test_a_text_without_words_has_no_sentences(texts: list[str]) -> None:
    assert Finder(texts).find("Where does Lena live?", 5).sentences == ()


def test_a_name_that_stands_nowhere_is_no_reason_to_be_sure() -> None:
    finder = Finder([TEXT])

    assert finder.find("What did Captain Brandt hide under the stairs?", 1).confidence > fitted().threshold
    assert finder.find("What did Harry Potter hide under the stairs?", 1).confidence < fitted().threshold


def test_a_text_of_three_sentences_does_not_answer_everything() -> None:
    text = "The ferry leaves at nine.\n\nThe ferryman of Tavelun is called Osrik. He never rows at night."
    finder = Finder([text])

    assert finder.find("Does anybody eat soup on mondays in Tavelun?", 1).confidence < fitted().threshold
    assert finder.find("What is the ferryman called?", 1).confidence > fitted().threshold


def test_a_pronoun_stands_for_the_names_of_the_turn_before() -> None:
    finder = Finder([TEXT])

    best = finder.find("What did he not trust?", 1, before="Who is Captain Brandt?").sentences[0]

    assert "lighthouse keeper" in TEXT[best.start : best.end]


def test_found_places_are_apart_and_few() -> None:
    found = Finder([TEXT * 3]).find("the boat of Lena in the harbour", 4).sentences

    assert len(found) == 4
    assert len({each.start for each in found}) == 4


def test_answers_are_found_at_least_as_often_as_by_a_word_search() -> None:
    """On the questions about modules of Python, which every machine has. The texts were seen when it was fitted."""
    by_text: dict[str, list[dict[str, list[str]]]] = defaultdict(list)
    for file in sorted((ASSETS / "training" / "questions").glob("development-*.jsonl")):
        for question in map(json.loads, file.read_text(encoding="utf-8").splitlines()):
            if question["text"].startswith("stdlib:"):
                by_text[question["text"].removeprefix("stdlib:")].append(question)
    found, by_words, asked = 0, dict.fromkeys(WINDOWS, 0), 0
    for name, questions in by_text.items():
        text = (Path(sysconfig.get_paths()["stdlib"]) / name).read_text(encoding="utf-8")
        finder, searches = Finder([text]), {kind: WordSearch(text, cut(text)) for kind, cut in WINDOWS.items()}
        for question in questions:
            gold = [window for passage in question["passages"] for window in occurrences(text, passage)]
            if not gold:  # another version of Python
                continue
            asked += 1
            found += any(overlaps(each.context, gold) for each in finder.find(question["question"], 5).sentences)
            for kind, search in searches.items():
                by_words[kind] += any(overlaps(each, gold) for each in search.find(question["question"], 5))
    assert asked > 20
    assert found >= max(by_words.values())


@pytest.mark.parametrize("num_sentences", [5, 50, 500])
def test_a_rare_name_and_its_fact_are_first_at_every_length(num_sentences: int) -> None:
    """What a word search does always: the one sentence with the question's words is first."""
    filler = [f"On day {i} nothing happened in the village of Orm." for i in range(num_sentences)]
    filler.insert(num_sentences // 2, "The ferryman of Tavelun is called Osrik.")
    text = " ".join(filler)

    findings = Finder([text]).find("What is the ferryman of Tavelun called?", 1)

    assert "Osrik" in text[findings.sentences[0].start : findings.sentences[0].end]
    assert findings.confidence > fitted().threshold
