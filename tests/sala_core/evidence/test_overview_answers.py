"""Answers about a text as a whole: counted or read off, quoted with their places, and said to be no summary."""

import numpy as np
import pytest

from sala_core.evidence.finding import NOT_FOUND, DocumentFinder
from sala_core.evidence.overview_answers import DOES_NOT_SUMMARIZE, NO_AUTHOR, READ_OFF, UNSURE
from sala_core.evidence.searched import SearchedDocument
from sala_core.ingest import SourceMap

DAY = "Osrik rowed over the river to Tavelun, and Lena waited for Osrik at the pier. " * 4
TEXT = f"""THE RIVER

By Ada Lane

CHAPTER I. The Boat

It was a long day on the river, said Osrik. {DAY}

CHAPTER II. The Oar

{DAY}

In the evening the lamps of Tavelun went out, and Lena went home alone. Nobody saw Osrik again.
"""


def document(name: str, text: str, pages: tuple[int, ...] = ()) -> SearchedDocument:
    """A document with a token for each character."""
    lines = SourceMap(text, pages, np.arange(len(text)))
    return SearchedDocument(document_id=name, name=name, num_tokens=len(text), lines=lambda: lines)


@pytest.fixture
def finder():
    return DocumentFinder([document("river.txt", TEXT)])


def test_what_it_is_about_is_no_summary_but_begins_ends_and_names(finder):
    answer = finder.answer("What is this book about?")
    assert answer.text.startswith(DOES_NOT_SUMMARIZE)
    assert not answer.text.startswith(NOT_FOUND)
    assert answer.confidence == UNSURE
    assert '`river.txt` (2 chapters) begins: "It was a long day on the river, said Osrik.' in answer.text
    assert 'It ends: "In the evening the lamps of Tavelun went out, and Lena went home alone.' in answer.text
    assert "Its headings: CHAPTER I. The Boat · CHAPTER II. The Oar" in answer.text
    assert "Osrik (" in answer.text
    assert [each.document for each in answer.quotations] == ["river.txt"] * 2
    for each in answer.quotations:
        assert each.text in answer.text


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("Who wrote this?", '"By Ada Lane"'),
        ("How many chapters are there?", '2 chapters, from "CHAPTER I. The Boat" to "CHAPTER II. The Oar".'),
        ("What are the chapters?", '1. "CHAPTER I. The Boat"\n2. "CHAPTER II. The Oar"'),
        ("How often is Waterloo mentioned?", "“Waterloo” stands nowhere here."),
    ],
)
def test_what_the_form_tells_is_the_answer(finder, question, expected):
    answer = finder.answer(question)
    assert (answer.text, answer.confidence) == (expected, READ_OFF)


def test_occurrences_are_counted_and_the_first_places_shown(finder):
    answer = finder.answer("How often is Lena mentioned?")
    assert answer.text.startswith("“Lena” stands here 9 times. The first places:\n\n1. ")
    assert len(answer.quotations) == 3
    assert answer.quotations[0].line_start == 7


def test_the_names_are_said_to_be_of_persons_and_places(finder):
    answer = finder.answer("Who are the main characters?")
    assert answer.confidence == UNSURE
    assert "of persons and places: Osrik (" in answer.text


def test_lines_words_and_pages_are_counted():
    pages = DocumentFinder([document("two.pdf", "One page.\n\fTwo words here.", (0, 11))])
    assert pages.answer("How long is it?").text == "`two.pdf`: 2 lines, 2 pages.\n\nIt has 5 words."


def test_a_text_without_an_author_or_chapters_says_so_or_is_searched():
    plain = DocumentFinder(
        [document("a.txt", "A day in June.\n\nThe story has three chapters about the sea and its ships.")]
    )
    answer = plain.answer("Who is the author?")
    assert answer.text.startswith(NO_AUTHOR)
    assert answer.confidence == UNSURE
    assert "three chapters" in plain.answer("How many chapters are there?").text


@pytest.mark.parametrize(
    ("line", "is_author"),
    [
        ("Author: Ada Lane", True),
        ("von Johann Wolfgang von Goethe", True),
        ("par\n\nMarcel Proust", True),
        ("Por Benito Pérez Galdós", True),
        ("Autore: Ada Lane", True),
        ("Von der Insel kam niemand", False),
        ("Por Dios", False),
        ("Di Roma", False),
    ],
)
def test_the_line_that_names_the_author(line, is_author):
    text = DocumentFinder([document("t.txt", f"THE RIVER\n\n{line}\n\n{DAY}")]).answer("Who is the author?").text
    assert text.startswith('"' + " ".join(line.split())) == is_author
    assert text.startswith(NO_AUTHOR) != is_author


GERMAN = """DER FLUSS

von Ada Lane

Erstes Kapitel

Es war ein langer Tag auf dem Fluss, und niemand kam vor dem Abend in das Haus. Der Tag war warm und das Haus war leer.
Die Lampen brannten nicht, und das Boot lag an der Brücke. Niemand ging über die Brücke, denn der Fluss war zu hoch.

Zweites Kapitel

Am Abend gingen die Lampen aus, und Lena ging allein nach Hause. Das Haus war leer, und der Fluss stieg bis zur Brücke.
Niemand hat das Boot wieder gesehen, und in dem Haus an der Brücke brannte von da an kein Licht und keine Lampe mehr.
"""


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("Worum geht es in diesem Buch?", '`fluss.txt` (2 chapters) begins: "Es war ein langer Tag auf dem Fluss'),
        ("Wer ist der Autor?", '"von Ada Lane"'),
        ("Wie viele Kapitel gibt es?", '2 chapters, from "Erstes Kapitel" to "Zweites Kapitel".'),
        ("Wie oft wird das Wort Brücke erwähnt?", "“Brücke” stands here 4 times."),
    ],
)
def test_other_languages(question, expected):
    answer = DocumentFinder([document("fluss.txt", GERMAN)]).answer(question).text
    assert expected in answer
    assert "Names that stand" not in answer, "German writes every noun like a name"


def test_of_many_files_those_are_shown_that_introduce_the_others():
    files = [document(f"src/m{i}.py", "def run():\n    return 1\n") for i in range(9)]
    readme = document(
        "README.md", "# Ferry\n\nFerry plans the crossings of a river, and prints a table of them.\n\n## Use\n"
    )
    answer = DocumentFinder([*files, readme]).answer("What does this project do?")
    assert '`README.md` begins: "Ferry plans the crossings of a river, and prints a table of them."' in answer.text
    assert "These are 1 of 10 documents." in answer.text
    assert "m1.py" not in answer.text


def test_what_project_gutenberg_adds_is_left_out():
    added = "The Project Gutenberg eBook of The River, which is for the use of anyone anywhere at no cost.\n\n"
    behind = (
        "\n*** END OF THE PROJECT GUTENBERG EBOOK ***\n\nUpdated editions will replace the previous one, as they may."
    )
    finder = DocumentFinder([document("r.txt", f"{added}*** START OF THE EBOOK ***\n\n{TEXT}{behind}")])
    text = finder.answer("Give me a short summary").text
    assert "anyone anywhere" not in text
    assert "Updated editions" not in text
    assert "Nobody saw Osrik again." in text


def test_an_empty_document_has_no_overview():
    assert DocumentFinder([document("a.txt", "\n")]).answer("What is it about?").confidence < 0.5
