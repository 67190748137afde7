"""The readings of every suite: exact lengths, needles at their spans, the same reading for a seed."""

import re
from collections import Counter

import numpy as np
import pytest
from eval_helpers import TASKS, task_named

from sala_core.errors import EvalError
from sala_core.evals import EvalPlan, TextSource
from sala_core.evals.passages import passage, two_hops
from sala_core.evals.run import SUITES
from sala_core.evals.scoring import normalize
from sala_core.evals.suites.nolima import keywords
from sala_core.evals.suites.nolima_facts import KINDS, LINKS, NAMES
from sala_core.evals.words import keys

every_task = pytest.mark.parametrize(("suite", "task"), TASKS, ids=[task.name for _, task in TASKS])


def prompt_tokens(model, reading):
    """Counted from the token ids of the prompt."""
    chat, encode = model.engine.chat, model.engine.tokenizer.encode_content
    ids, _, _ = model._prompt(reading)
    longest = max(len(chat.message("user", encode(question.text))) for question in reading.questions)
    return len(ids) + longest + len(chat.generation_prompt())


def test_ruler_has_its_13_tasks():
    names = [task.name for task in SUITES["ruler"]]
    assert names == [
        *(f"niah_single_{i}" for i in (1, 2, 3)),
        *(f"niah_multikey_{i}" for i in (1, 2, 3)),
        "niah_multivalue",
        "niah_multiquery",
        *("vt", "cwe", "fwe", "qa_1", "qa_2"),
    ]


@every_task
@pytest.mark.parametrize(("length", "own"), [(2048, True), (3001, False), (9000, True)])
def test_the_prompt_has_exactly_the_requested_length(make, model, suite, task, length, own):
    reading = make(suite, task, length=length, own=own)
    assert prompt_tokens(model, reading) == length == model.count(reading)


@every_task
def test_a_seed_gives_the_same_reading_and_another_seed_another(make, suite, task):
    first = make(suite, task, own=False)
    assert make(suite, task, own=False) == first
    assert make(suite, task, own=False, seed=1) != first
    assert make(suite, task, own=False, group=1) != first
    assert make(suite, task, own=False, length=2304).messages != first.messages


@every_task
def test_no_question_contains_its_answer(make, suite, task):
    for question in make(suite, task).questions:
        body = question.text.replace(question.hidden.get("prefix", "\0"), "")
        assert not any(gold.lower() in body.lower() for gold in question.gold if suite != "mrcr"), question


@every_task
def test_the_gold_answer_scores_1_and_an_empty_one_0(make, suite, task):
    for question in make(suite, task).questions:
        answer = ", ".join(question.gold) or "The text does not say."
        assert task.score(question, answer)["score"] == 1.0
        if question.label != "present":
            assert task.score(question, "")["score"] == 0.0


@pytest.mark.parametrize("name", [task.name for suite, task in TASKS if task.evidence and suite != "quote"])
def test_needles_are_at_their_spans_and_depths(make, name):
    suite, task = task_named(name)
    reading = make(suite, task)
    text = reading.document.text
    for question in reading.questions:
        needles = " ".join(text[a:b] for a, b in question.needles)
        assert all(gold in needles or gold.replace(",", "") in needles for gold in question.gold[:1])
        if name.startswith("niah") or name == "vt":
            assert all(gold in needles for gold in question.gold)
        if question.depth is not None:
            assert question.depth == pytest.approx(question.needles[0][0] / len(text), abs=1e-3)


def test_depths_spread_evenly_over_the_text(make):
    suite, task = task_named("niah_single_2")
    depths = [q.depth for group in range(4) for q in make(suite, task, group=group, length=4096).questions]
    assert all(count >= 3 for count in np.histogram(depths, bins=5, range=(0, 1))[0])


def test_a_single_needle_is_the_only_one_of_its_kind(make):
    suite, task = task_named("niah_single_2")
    reading = make(suite, task)
    kinds = [question.text.split(" of ")[0].removeprefix("What is the ") for question in reading.questions]
    assert len(set(kinds)) == len(kinds) == 5
    assert all(reading.document.text.count(f"The {kind} of") == 1 for kind in kinds)


def test_the_keys_of_distractor_needles_are_all_different(make):
    suite, task = task_named("niah_multikey_2")
    found = re.findall(r"The secret number of (\S+) is", make(suite, task, length=9000).document.text)
    assert len(found) == len(set(found)) > 300


def test_there_are_enough_keys_for_a_million_tokens():
    from random import Random

    assert len(set(keys(Random(0), 90_000))) == 90_000


def test_the_assignments_of_a_chain_are_in_the_order_of_the_text(make):
    suite, task = task_named("vt")
    reading = make(suite, task)
    for question in reading.questions:
        text = [reading.document.text[a:b] for a, b in question.needles]
        value = re.search(r"\d{5}", question.text)[0]
        assert text[0] == f"VAR {question.gold[0]} = {value}."
        for before, name, line in zip(question.gold, question.gold[1:], text[1:], strict=False):
            assert line == f"VAR {name} = VAR {before}."
        starts = [start for start, _ in question.needles]
        assert starts == sorted(starts)


def test_the_common_words_are_the_most_common(make):
    suite, task = task_named("cwe")
    reading = make(suite, task, length=8192)
    counts = Counter(re.findall(r"\d+\. (\w+)", reading.document.text))
    common = counts.most_common(11)
    assert {word for word, _ in common[:10]} == set(reading.questions[0].gold)
    assert [count for _, count in common] == [30] * 10 + [3]


def test_the_frequent_words_are_the_most_frequent(make):
    suite, task = task_named("fwe")
    reading = make(suite, task, length=8192)
    counts = Counter(re.findall(r"[a-z]+|\.{4}", reading.document.text)).most_common(5)
    assert counts[0][0] == "...."
    assert tuple(word for word, _ in counts[1:4]) == reading.questions[0].gold
    assert counts[3][1] > counts[4][1]


def test_passages_contain_their_answers_and_two_hops_need_both():
    from random import Random

    for seed in range(60):
        one = passage(Random(seed))
        for question, answers in one.questions:
            assert one.subject in question
            assert any(answer in one.text for answer in answers)
            assert one.subject in one.text
        two = two_hops(Random(seed))
        assert two.answers[0] in two.second
        assert two.answers[0] not in two.first
        named = [word for word in re.findall(r"[A-Z]\w+ [A-Z]\w+|[A-Z]\w{5,}", two.question)]
        assert not any(name in two.second for name in named)
        shared = set(re.findall(r"[A-Z]\w{5,}", two.first)) & set(re.findall(r"[A-Z]\w{5,}", two.second))
        assert shared


@pytest.mark.parametrize("needles", [2, 4, 8])
def test_a_conversation_repeats_one_request_and_asks_for_one_of_its_answers(make, needles):
    suite, task = task_named(f"mrcr_{needles}")
    reading = make(suite, task, length=4096, shared=8)
    assert [message.role for message in reading.messages] == ["user", "assistant"] * (len(reading.messages) // 2)
    requests = [message.text for message in reading.messages[::2]]
    answers = [message.text for message in reading.messages[1::2]]
    repeated = [text for text, count in Counter(requests).items() if count == needles]
    assert len(set(answers)) == len(answers)
    assert len(reading.questions) == needles
    asked = set()
    for question in reading.questions:
        which = int(re.search(r"to the (\d)(st|nd|rd|th) \(1 indexed\)", question.text)[1])
        kind = re.search(r"indexed\) (.*)\. Do not", question.text)[1]
        repeated_answers = [
            a for r, a in zip(requests, answers, strict=True) if r.endswith(f" {kind}.") and r in repeated
        ]
        assert question.gold == (question.hidden["prefix"] + repeated_answers[which - 1],)
        asked.add(which)
    assert asked == set(range(1, needles + 1))


def test_nolima_questions_share_no_word_with_their_needles():
    for link in LINKS:
        kind = KINDS[link.kind]
        for form in kind.needles:
            needle = keywords(form.format(name="", thing=link.thing))
            for question in (kind.one_hop, kind.two_hop):
                shared = needle & keywords(question.format(one=link.one, two=link.two))
                assert not shared, (link, shared)


def test_nolima_questions_have_one_answer_each(make):
    suite, task = task_named("nolima")
    reading = make(suite, task, length=3000)
    assert [question.label for question in reading.questions] == ["one_hop", "two_hop"] * 5
    people = [question.gold[0] for question in reading.questions]
    assert len(set(people)) == 5
    texts = [question.text for question in reading.questions]
    assert len(set(texts)) == 10
    needles = [reading.document.text[a:b] for question in reading.questions for a, b in question.needles]
    kinds = [link.kind for needle in needles[::2] for link in LINKS if link.thing in needle]
    assert len(set(kinds)) == 5


def test_nolima_uses_no_place_or_name_that_the_text_mentions(model, make, tmp_path):
    suite, task = task_named("nolima")
    places = " ".join(f"He saw {link.one} and {link.two} in spring." for link in LINKS if link.kind == "landmark")
    file = tmp_path / "travels.txt"
    file.write_text(f"{places} {' '.join(f'{name} was there.' for name in NAMES[:20])} " * 9, encoding="utf-8")
    plan = EvalPlan(suite=suite, texts=TextSource([file]))
    from sala_core.evals.run import make_reading

    reading = make_reading(plan, task, 3000, 0, model)
    assert not any("has been to" in question.text for question in reading.questions)
    assert not {question.gold[0] for question in reading.questions} & set(NAMES[:20])


@pytest.mark.parametrize("own", [True, False], ids=["own text", "a book"])
def test_a_quoted_sentence_occurs_once_and_no_other_has_its_words(make, own):
    suite, task = task_named("quote")
    reading = make(suite, task, length=6000, own=own)
    text = reading.document.text
    flat = " ".join(text.split())
    for question in reading.questions:
        ((start, end),) = question.needles
        assert " ".join(text[start:end].split()) == question.gold[0]
        assert flat.count(question.gold[0]) == 1
        assert not re.search(r"\b(?:Mrs?|Dr|St|[A-Z])\.\s$", text[:start])  # else half a sentence
        words = re.findall(r"“(\w+)”", question.text)
        assert len(words) == 3
        holders = [s for s in re.split(r"(?<=[.!?])\s", flat) if all(re.search(rf"\b{w}\b", s) for w in words)]
        assert [s for s in holders if s == question.gold[0]] == holders
        assert len(set(re.findall(r"\w{4,}", question.gold[0].lower()))) > 3
        assert normalize(question.gold[0]).startswith(normalize(question.hidden["start"]))


def test_absent_facts_are_absent_and_half_of_them_near(make):
    suite, task = task_named("absent")
    reading = make(suite, task)
    text, near = reading.document.text, 0
    for question in reading.questions:
        thing, role, place = re.match(r"What is the (.*) of the (.*) of (\w+)\?", question.text).groups()
        if question.label == "present":
            assert f"The {thing} of the {role} of {place} is {question.gold[0]}." in text
        else:
            assert place not in text
            assert question.gold == ()
            close = f"The {thing} of the {role} of" in text
            assert close or question.hidden["kind"] == "far"
            near += close
    assert near >= 2


@every_task
def test_a_length_that_is_too_short_is_an_error_with_task_and_length(make, suite, task):
    with pytest.raises(EvalError, match=rf"{task.name} at 64: "):
        make(suite, task, length=64)
