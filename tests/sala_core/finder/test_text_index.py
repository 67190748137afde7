"""Words and sentences of texts: every character range is right, and sentences end where a reader ends them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sala_core.finder import text_index
from sala_core.finder.text_index import GAP_SENTENCES, build_index, fold

WRAPPED = "Boremgol found the door of the school open and 13\nsacks of glass gone."
LONG = "A much longer line of prose, as others are, that makes the first one short beside it."


def sentences(*texts: str) -> list[str]:
    index = build_index(texts)
    found = []
    for row in np.nonzero(index.lengths)[0].tolist():
        text, start, end = index.place(row)
        found.append(texts[text][start:end])
    return found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Lena left. She came back!", ["Lena left.", "She came back!"]),
        ("Mr. Bennet and Dr. J. Smith spoke. Nobody heard.", ["Mr. Bennet and Dr. J. Smith spoke.", "Nobody heard."]),
        ("“Go!” he said. “Now.” They went.", ["“Go!” he said.", "“Now.”", "They went."]),
        (
            "A line that was wrapped by\nits editor ends here. Next.",
            ["A line that was wrapped by\nits editor ends here.", "Next."],
        ),
        ("CHAPTER I\n\nIt was late.", ["CHAPTER I", "It was late."]),
        ("x = 1\ny = 2\nreturn x", ["x = 1", "y = 2", "return x"]),
        ("他来了。她走了。", ["他来了。", "她走了。"]),
        ("", []),
        (" \n\n ", []),
        (f"{WRAPPED}\n\n{LONG}", [WRAPPED, LONG]),
    ],
)
def test_sentences_end_where_a_reader_ends_them(text: str, expected: list[str]) -> None:
    assert sentences(text) == expected


def test_texts_are_apart() -> None:
    index = build_index(["One ends here", "and two begins."])

    rows = np.nonzero(index.lengths)[0]
    assert rows[1] - rows[0] > GAP_SENTENCES
    assert [index.place(row) for row in rows.tolist()] == [(0, 0, 13), (1, 0, 15)]


def test_words_are_folded_and_compounds_split() -> None:
    index = build_index(["Pávlovna calls readFile and read_file42"])

    words = [index.vocabulary[i] for i in index.ids.tolist()]
    assert words == ["pavlovna", "calls", "read", "file", "and", "read", "file42"]
    assert fold("Straße") == "straße"


@pytest.mark.parametrize("text", ["plain", "“wide”", "🙂 beyond 16 bits 𠀀"])
def test_words_are_told_apart_wherever_they_stand(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_index, "_HASHED_AT_ONCE", 16)
    long = "x" * 100
    index = build_index([f"{text} The cat, the CAT, the dog. {long} Cát {long}y {long}"])

    words = [index.vocabulary[i] for i in index.ids.tolist()]
    assert len(set(index.vocabulary)) == len(index.vocabulary)
    assert words[-10:] == ["the", "cat", "the", "cat", "the", "dog", long, "cat", f"{long}y", long]
    assert index.frequency[index.word_of["cat"]] == 1, "sentences count, not places"


def test_names_are_words_with_a_capital_inside_sentences() -> None:
    index = build_index(["Then Lena came. The door was open. She saw Lena there. the end of the door"])

    assert index.is_name[index.word_of["lena"]]
    assert not index.is_name[index.word_of["door"]]
    assert not index.is_name[index.word_of["then"]]


def test_a_heading_is_known_for_what_follows_it() -> None:
    index = build_index(["Installation Guide\n\nRun the program.\n\nUninstalling\n\nRemove the folder."])

    rows = np.nonzero(index.lengths)[0].tolist()
    assert index.is_heading[rows].tolist() == [True, False, True, False]
    assert index.heading[rows[3]] == rows[2]


@pytest.mark.parametrize(
    ("line", "headings"),
    [
        ("CHAPTER XV. THE VALUE OF PHILOSOPHY", [True, True]),
        ("Chapter 2. The Old House", [True, True]),
        ("IX. A Case of Identity", [True, True]),
        ("II. the small thing goes on", [False]),
        ("1. Install Python", [False, False]),  # a step of a list
        ("He is well. Yes. The King", [False, False, False]),
    ],
)
def test_a_heading_may_stand_behind_its_number(line: str, headings: list[bool]) -> None:
    index = build_index([f"Having come to the end, we ask.\n\n{line}\n\nIt was late, and nobody answered."])

    rows = np.nonzero(index.lengths)[0].tolist()
    assert index.is_heading[rows].tolist() == [False, *headings, False]


@given(st.lists(st.text(alphabet=st.sampled_from("aB é.!?\n\r“”#1北_ ไ🙂𠀀\u3000\ud800"), max_size=60), max_size=4))
@settings(max_examples=80, deadline=None)
def test_every_word_is_in_one_sentence_of_its_own_text(texts: list[str]) -> None:
    index = build_index(texts)

    assert (np.diff(index.sentence_of) >= 0).all()
    assert index.lengths.sum() == len(index.ids)
    ends = [0] * len(texts)
    for row in np.nonzero(index.lengths)[0].tolist():
        text, start, end = index.place(row)
        assert ends[text] <= start < end <= len(texts[text])
        assert texts[text][start:end].strip()
        ends[text] = end
