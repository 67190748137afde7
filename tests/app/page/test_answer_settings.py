"""The user's answer settings: parsed, checked, stored, and shown beside the model's own values."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.grammar.ranges import MAX_TOKENS, THINKING_BUDGET
from app.page.answer_settings import (
    FILE,
    AnswerSettings,
    load_settings,
    note_html,
    placeholders,
    quotation_choices,
    save_settings,
    thinking_choices,
)
from sala_core import SamplingParams
from sala_core.errors import SettingsError

SETTINGS = st.builds(
    AnswerSettings,
    temperature=st.none() | st.floats(0, 2),
    top_p=st.none() | st.floats(0.01, 1),
    max_tokens=st.none() | st.integers(1, MAX_TOKENS.high),
    seed=st.none() | st.integers(0, 2**63 - 1),
    verbatim=st.none() | st.booleans(),
    think=st.none() | st.booleans(),
    thinking_budget=st.none() | st.integers(1, THINKING_BUDGET.high),
)


@given(SETTINGS)
def test_every_valid_setting_is_valid_for_the_engine_and_is_stored(tmp_path_factory, settings):
    folder = tmp_path_factory.mktemp("library")
    SamplingParams(**settings.changes)
    save_settings(folder, settings)
    assert load_settings(folder) == settings
    assert [path.name for path in folder.iterdir()] == [FILE]


@pytest.mark.parametrize(
    ("typed", "changes"),
    [
        (("", " ", "", ""), {}),
        (("0", "1", "1", "0"), {"temperature": 0.0, "top_p": 1.0, "max_tokens": 1, "seed": 0}),
        ((" 0,7 ", ".9", "1,000", "42"), {"temperature": 0.7, "top_p": 0.9, "max_tokens": 1000, "seed": 42}),
        (("", "", "512 tokens", ""), {"max_tokens": 512}),
        (("", "", "", "", "", "Word for word"), {"verbatim": True}),
        (("", "", "", "", "", "In its own words"), {"verbatim": False}),
        (("", "", "", "", "16,384", "", "Answer at once"), {"think": False, "thinking_budget": 16384}),
        (("", "", "", "", "", "", "Think first"), {"think": True}),
    ],
)
def test_numbers_are_parsed_as_people_write_them(typed, changes):
    settings = AnswerSettings.from_texts(*typed)
    assert settings.changes == changes
    assert AnswerSettings.from_texts(*settings.texts()) == settings


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        (("hot", "", "", ""), "Temperature must be a number from 0 to 2; “hot” is none."),
        (("2.1", "", "", ""), "Temperature must be a number from 0 to 2, not 2.1."),
        (("-1", "", "", ""), "Temperature"),
        (("nan", "", "", ""), "Temperature"),
        (("", "0", "", ""), "Top-p must be a number from 0.01 to 1, not 0.0."),
        (("", "1.5", "", ""), "Top-p"),
        (("", "", "0", ""), "Longest answer must be a whole number from 1 to 100,000, not 0."),
        (("", "", "2.5", ""), "Longest answer must be a whole number of tokens; “2.5” is none."),
        (("", "", "", "-3"), "Seed"),
        (("", "", "", str(2**63)), "Seed must be a whole number from 0 to 2^63 - 1, or nothing"),
        (("", "", "", "", "0"), "Longest thinking must be a whole number from 1 to 1,048,576, not 0."),
        (("", "", "", "", "long"), "Longest thinking must be a whole number of tokens; “long” is none."),
        (("", "", "", "<b>"), "Seed must be a whole number, or nothing; “<b>” is none."),
    ],
)
def test_an_error_names_the_invalid_setting(typed, words):
    with pytest.raises(SettingsError) as caught:
        AnswerSettings.from_texts(*typed)
    assert str(caught.value).startswith(words)


@pytest.mark.parametrize(
    "kept",
    [
        "",
        "[]",
        "null",
        "{",
        '{"temperature": "hot"}',
        '{"max_tokens": 2.5}',
        '{"top_p": NaN}',
        '{"seed": true}',
        '{"verbatim": 1.5}',
        '{"think": "yes"}',
        '{"thinking_budget": true}',
    ],
)
def test_a_damaged_file_gives_empty_settings(kept, tmp_path):
    (tmp_path / FILE).write_text(kept)
    assert load_settings(tmp_path) == AnswerSettings()


def test_unknown_settings_of_a_later_version_are_ignored(tmp_path):
    (tmp_path / FILE).write_text(json.dumps({"temperature": 0.5, "mood": "glad"}))
    assert load_settings(tmp_path) == AnswerSettings(temperature=0.5)


def test_the_models_own_values_are_shown():
    own = SamplingParams(temperature=0.6, top_p=0.95, max_tokens=1)
    assert placeholders(own) == ["0.6", "0.95", "1 token", "random", "8,192 tokens"]
    assert len(placeholders(None)) == 5


def test_the_note_names_what_is_set_and_nothing_else():
    assert note_html(AnswerSettings()) == ""
    shown = note_html(AnswerSettings(temperature=0.0, max_tokens=2000, seed=7))
    assert "Answers with temperature 0 · at most 2,000 tokens · seed 7" in shown
    thinking = note_html(AnswerSettings(think=False, thinking_budget=9000))
    assert "Answers with no thinking · at most 9,000 tokens of thinking" in thinking
    assert "quotations word for word" in note_html(AnswerSettings(verbatim=True))


@pytest.mark.parametrize(("own", "words"), [(None, "its own"), (True, "word for word"), (False, "in its own words")])
def test_the_models_own_way_to_quote_is_named(own, words):
    defaults = None if own is None else SamplingParams(verbatim=own)
    assert quotation_choices(defaults)[0] == (f"As the model has it ({words})", "")


@pytest.mark.parametrize(("own", "words"), [(None, "its own"), (True, "think first"), (False, "answer at once")])
def test_the_models_own_way_to_think_is_named(own, words):
    assert thinking_choices(own)[0] == (f"As the model has it ({words})", "")


def test_settings_of_thinking_are_kept_but_not_applied_to_a_model_that_cannot_think():
    settings = AnswerSettings(seed=3, think=True, thinking_budget=100)
    assert settings.for_model(thinks=False) == AnswerSettings(seed=3)
    assert settings.for_model(thinks=True) == settings
