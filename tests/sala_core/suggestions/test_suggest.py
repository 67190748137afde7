"""First questions: about people and places of a story, terms and sections of a manual, symbols of code."""

import pytest

from sala_core.suggestions.names import find_names
from sala_core.suggestions.suggest import MAX_QUESTIONS, Source, is_english, suggest
from sala_core.suggestions.terms import abbreviations, defined_terms, headings, options, symbols

STORY = (
    "It rained on the day when Mr. Harding came back to Thornfield, and nobody was there. “Where is the key?” said "
    "Clara Vane to the old man. “It is in the house,” he answered. In the evening Clara Vane went with Mr. Harding to "
    "Thornfield, where the dogs were. “You are late,” said Clara Vane. The house at Thornfield was dark, and on Sunday "
    "they left it. “I know,” said Mr. Harding, and that was all of it.\n\n"
) * 6
MANUAL = (
    "# Widget handbook\n\n## Introduction\n\nA widget is a small part of the engine that is turned by hand. The widget "
    "is made of brass.\n\n## Cleaning the valves\n\nThe Central Processing Unit (CPU) is in the widget; a CPU is cold. "
    "Turn the widget with `--speed=3`, and never use `--speed` with `--dry-run`.\n\n## How do I reset it?\n\nPress the "
    "button and it is reset, and the widget is as it was in the beginning of the day.\n\n## References\n\nNone.\n"
) * 2
CODE = [
    Source(
        name="a/engine.py", text="class StateKeeper:\n    pass\n\n\ndef load_state(path):\n    return StateKeeper()\n"
    ),
    Source(
        name="a/page.py", text="from a.engine import StateKeeper, load_state\n\n\ndef main():\n    load_state('x')\n"
    ),
    Source(name="a/test_page.py", text="def test_page():\n    assert load_state and StateKeeper\n"),
]


def test_a_story_is_asked_for_its_people_and_places():
    questions = suggest([Source(name="novel.txt", text=STORY)])
    assert set(questions) == {"Who is Clara Vane?", "Who is Mr. Harding?", "What happens at Thornfield?"}


def test_words_that_begin_sentences_and_days_are_no_names():
    names = {name.text for name in find_names(STORY)}
    assert names == {"Clara Vane", "Mr. Harding", "Thornfield"}


def test_a_manual_is_asked_for_its_terms_options_and_sections():
    questions = suggest([Source(name="handbook.md", text=MANUAL)])
    assert questions[0] == "How do I reset it?"
    assert set(questions[1:]) == {
        "What is the widget?",
        "What does CPU stand for?",
        "What does the option --speed do?",
    }
    assert "Introduction" not in headings(MANUAL)
    assert "Cleaning the valves" in headings(MANUAL)
    assert options(MANUAL) == ["--speed", "--dry-run"]


def test_an_abbreviation_is_one_only_if_its_letters_begin_the_words_before_it():
    text = "the large language model (LLM) and a table (TAB); the LLM is large"
    assert abbreviations(text) == ["LLM"]


def test_a_dash_between_words_is_no_option():
    assert options("he came--and went --and came -- and --went away\n" * 3) == []


def test_code_is_asked_for_symbols_that_one_file_defines_and_others_use():
    assert symbols(source.text for source in CODE) == ["StateKeeper", "load_state"]
    assert suggest(CODE) == ["Where is StateKeeper defined?", "What does load_state do?"]


def test_terms_are_written_as_inside_of_a_sentence():
    text = "Ownership is a set of rules. We like ownership. The ownership of values. Rust is a language; Rust, in Rust."
    assert set(defined_terms(text)) == {"ownership", "Rust"}


@pytest.mark.parametrize(
    "text", ["", "1 2 3\n" * 300, "Der Hund und die Katze gingen in das Haus, und es war Nacht. " * 20]
)
def test_nothing_is_better_than_a_bad_question(text):
    assert suggest([Source(name="x.txt", text=text)]) == []
    assert not is_english(text)


def test_several_texts_take_turns():
    questions = suggest([Source(name="novel.txt", text=STORY), Source(name="handbook.md", text=MANUAL)])
    assert len(questions) == MAX_QUESTIONS
    assert any("Harding" in each or "Vane" in each for each in questions)
    assert any("widget" in each or "reset" in each for each in questions)


def test_a_novel_from_a_library_gets_its_heroes(shared):
    text = (shared / "corpus" / "books" / "pride-and-prejudice.txt").read_text(encoding="utf-8")
    questions = suggest([Source(name="pride-and-prejudice.txt", text=text[:400_000])])
    assert "Who is Elizabeth?" in questions
    assert "Who is Mr. Darcy?" in questions
