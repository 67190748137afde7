"""Sentences of prose, code and registers: each once, whole, without the marks around it."""

import random

import pytest

from sala_core.text.sentences import sentences, sentences_around

PROSE = (
    "It was late. Mr. Brown, who had waited since noon for J. Smith, went\n"
    "home without a word to Ann, to whom he owed so much; to Mary, Kate,\n"
    "Jane: to anyone who stood there! “Who was that?” asked\n"
    'the porter, and nobody knew.\n\n"He is gone," said Ann. The end of it\n'
)
CODE = """import sys

def parse_args(argv, *, strict=True):
    # Unknown options are kept as they are, whatever their number may be.
    options = {}
    for word in argv:
        options[word] = None
    return options


# A comment that is as long as the longest line of all that stand here
def after_a_comment(text):
"""


def texts(text):
    return [text[a:b] for a, b in sentences(text)]


def test_prose_is_split_at_ends_of_sentences_not_of_lines():
    assert texts(PROSE) == [
        "It was late.",
        "Mr. Brown, who had waited since noon for J. Smith, went\nhome without a word to Ann, "
        "to whom he owed so much; to Mary, Kate,\nJane: to anyone who stood there!",
        "Who was that?",
        "asked\nthe porter, and nobody knew.",
        'He is gone," said Ann.',
        "The end of it",
    ]


def test_code_is_split_at_lines():
    found = texts(CODE)
    assert {"import sys", "def parse_args(argv, *, strict=True):", "options = {}", "for word in argv:"} <= set(found)
    assert "def after_a_comment(text):" in found


def test_each_line_of_a_register_is_a_sentence():
    lines = [f"The key of {name} is {len(name) ** 5}." for name in ("Anna", "Bartholomew", "Cy")]
    assert texts("\n".join(lines)) == lines


@pytest.mark.parametrize("seed", range(20))
def test_sentences_are_in_order_and_omit_only_marks_and_space(seed):
    rng = random.Random(seed)
    text = "".join(
        rng.choices(["word", " ", "\n", ". ", "? ", "“", "”", '"', "Mr. ", "X. ", ";\n", "\n\n", "…"], k=200)
    )
    end = 0
    for a, b in sentences(text):
        assert not any(c.isalnum() for c in text[end:a])
        assert end <= a < b
        assert text[a:b] == text[a:b].strip()
        end = b
    assert not any(c.isalnum() for c in text[end:])


@pytest.mark.parametrize("text", ["", "\n", "   ", '"', "one"])
def test_very_short_texts_work(text):
    assert "".join(texts(text)) == text.strip().strip('"')


def test_sentences_around_a_place_are_those_that_overlap_it():
    text = " ".join(f"This is sentence number {n} of them all." for n in range(400))
    at = text.index("number 200")
    assert [text[a:b] for a, b in sentences_around(text, at, at + 50)] == [
        "This is sentence number 200 of them all.",
        "This is sentence number 201 of them all.",
    ]
    assert sentences_around(text, 0, len(text)) == list(sentences(text))
