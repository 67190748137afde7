"""Scoring rules, on answers with known scores."""

from difflib import SequenceMatcher

import pytest

from sala_core.evals.records import Question
from sala_core.evals.scoring import (
    match_all,
    match_name,
    match_part,
    match_presence,
    match_quotation,
    match_ratio,
    normalize,
)


def question_with(*gold, **hidden):
    return Question(text="?", gold=gold, max_tokens=1, hidden=hidden)


def test_match_all_is_the_share_of_strings_found_in_any_case():
    assert match_all(question_with("Oak", "Elm", "Ash", "Fir"), "oak, ELM and pine")["score"] == 0.5
    assert match_all(question_with("12"), "it is 4123")["score"] == 1.0  # as published: substrings count


def test_match_part_takes_any_of_the_strings():
    question = question_with("12,345", "12345")
    assert match_part(question, "About 12345 people.")["score"] == 1.0
    assert match_part(question, "About 1234 people.")["score"] == 0.0


def test_a_name_counts_as_a_whole_word_without_other_names():
    question = question_with("Noor", others="Eskil Tobiah")
    assert match_name(question, "It was Noor.") == {"score": 1.0, "contains": 1.0}
    assert match_name(question, "Noor or Eskil.") == {"score": 0.0, "contains": 1.0}
    assert match_name(question, "Noora.") == {"score": 0.0, "contains": 0.0}


def test_mrcr_needs_the_prefix_and_then_scores_similarity():
    question = question_with("abc123The cat sat.", prefix="abc123")
    assert match_ratio(question, "abc123The cat sat.") == {"score": 1.0, "prefix": 1.0}
    assert match_ratio(question, "The cat sat.") == {"score": 0.0, "prefix": 0.0}
    assert match_ratio(question, " abc123The cat sat.")["score"] == 0.0
    half = match_ratio(question, "abc123The dog sat.")["score"]
    assert half == SequenceMatcher(None, "The dog sat.", "The cat sat.").ratio() < 1


def test_a_quotation_is_scored_by_its_beginning_and_by_the_whole():
    question = question_with("It was the best of times; it was late.", start="It was the best of")
    assert match_quotation(question, "“It was the BEST  of\ntimes; it was late.”") == {
        "score": 1.0,
        "whole": 1.0,
        "somewhere": 1.0,
    }
    assert match_quotation(question, "It was the best of all.") == {"score": 1.0, "whole": 0.0, "somewhere": 0.0}
    late = match_quotation(question, 'He said: "It was the best of times; it was late."')
    assert late == {"score": 0.0, "whole": 0.0, "somewhere": 1.0}
    assert match_quotation(question, "")["score"] == 0.0


@pytest.mark.parametrize(
    "answer",
    [
        "The text does not say.",
        "The document doesn't mention a horse.",
        "It is not in the text.",
        "There is no information about that.",
        "This cannot be determined.",
        "The password isn't stated.",
        "The documents do not provide it.",
    ],
)
def test_an_answer_that_the_text_does_not_say_is_recognized(answer):
    assert match_presence(question_with(kind="near"), answer) == {"score": 1.0, "near": 1.0}
    assert match_presence(question_with("Rex"), answer) == {"score": 0.0, "false_alarm": 1.0, "right": 0.0}


@pytest.mark.parametrize("answer", ["The horse is Rex.", "“The horse of the miller is Rex.”", "Not Bella but Rex."])
def test_an_answer_with_a_value_does_not_count_as_a_denial(answer):
    assert match_presence(question_with(kind="far"), answer) == {"score": 0.0, "far": 0.0}
    assert match_presence(question_with("Rex"), answer) == {"score": 1.0, "false_alarm": 0.0, "right": 1.0}


def test_normalizing_folds_quotes_dashes_space_and_case():
    assert normalize(" «Ça  va»—‘Yes’\n") == "ça va\"-'yes"
