"""Questions about a text as a whole, its parts, its names and the places of words."""

from collections import Counter

import pytest

from sala_core.finder.names_and_words import most_common_names, occurrences
from sala_core.finder.overview import Overview, OverviewQuestion, overview_question
from sala_core.finder.parts import are_counted, find_parts
from sala_core.finder.text_index import build_index


@pytest.mark.parametrize(
    ("question", "kind", "what"),
    [
        ("What is this book about?", Overview.SUMMARY, ""),
        ("What’s it about", Overview.SUMMARY, ""),
        ("Can you summarize this for me, please?", Overview.SUMMARY, ""),
        ("tl;dr", Overview.SUMMARY, ""),
        ("What does this project do?", Overview.SUMMARY, ""),
        ("What are the main points of this paper?", Overview.SUMMARY, ""),
        ("How does the story end?", Overview.SUMMARY, ""),
        ("Who wrote this?", Overview.AUTHOR, ""),
        ("Who is the author of this book?", Overview.AUTHOR, ""),
        ("How many chapters does the book have?", Overview.NUMBER_OF_PARTS, "chapter"),
        ("How many acts are there?", Overview.NUMBER_OF_PARTS, "act"),
        ("What are the chapter titles?", Overview.PARTS, "chapter"),
        ("Show me the table of contents", Overview.PARTS, ""),
        ("Who are the main characters?", Overview.NAMES, ""),
        ("Who is the hero?", Overview.NAMES, ""),
        ("How often is Mr. Darcy mentioned in this book?", Overview.OCCURRENCES, "Mr Darcy"),
        ('How many times does the word "war" occur?', Overview.OCCURRENCES, "war"),
        ("How long is it?", Overview.LENGTH, ""),
        ("Worum geht es in diesem Buch?", Overview.SUMMARY, ""),
        ("Worum geht's hier?", Overview.SUMMARY, ""),
        ("Wovon handelt der Roman?", Overview.SUMMARY, ""),
        ("Bitte fasse den Text zusammen.", Overview.SUMMARY, ""),
        ("Kannst du das Dokument kurz zusammenfassen?", Overview.SUMMARY, ""),
        ("Was sind die wichtigsten Punkte in diesem Bericht?", Overview.SUMMARY, ""),
        ("Wer ist der Autor?", Overview.AUTHOR, ""),
        ("Wer hat dieses Buch geschrieben?", Overview.AUTHOR, ""),
        ("Wie viele Kapitel hat das Buch?", Overview.NUMBER_OF_PARTS, "chapter"),
        ("Wie viele Teile gibt es?", Overview.NUMBER_OF_PARTS, "part"),
        ("Welche Kapitel gibt es?", Overview.PARTS, "chapter"),
        ("Inhaltsverzeichnis", Overview.PARTS, ""),
        ("Wer sind die Hauptfiguren?", Overview.NAMES, ""),
        ("Welche Personen kommen vor?", Overview.NAMES, ""),
        ("Wie oft wird Müller in diesem Buch erwähnt?", Overview.OCCURRENCES, "Müller"),
        ("Wie lang ist der Text?", Overview.LENGTH, ""),
        ("De quoi parle ce livre ?", Overview.SUMMARY, ""),
        ("Résume ce document, s'il te plaît", Overview.SUMMARY, ""),
        ("Quel est le sujet de cet article ?", Overview.SUMMARY, ""),
        ("Qui est l’auteur ?", Overview.AUTHOR, ""),
        ("Qui a écrit ce livre ?", Overview.AUTHOR, ""),
        ("Combien de chapitres y a-t-il ?", Overview.NUMBER_OF_PARTS, "chapter"),
        ("Quels sont les titres des chapitres ?", Overview.PARTS, "chapter"),
        ("Table des matières", Overview.PARTS, ""),
        ("Qui sont les personnages principaux ?", Overview.NAMES, ""),
        ("Combien de fois le mot « mer » apparaît-il ?", Overview.OCCURRENCES, "mer"),
        ("¿De qué trata este libro?", Overview.SUMMARY, ""),
        ("¿Quién es el autor?", Overview.AUTHOR, ""),
        ("¿Quién escribió esta novela?", Overview.AUTHOR, ""),
        ("¿Cuántos capítulos tiene el libro?", Overview.NUMBER_OF_PARTS, "chapter"),
        ("¿Quiénes son los personajes principales?", Overview.NAMES, ""),
        ("¿Cuántas veces se menciona a Sancho?", Overview.OCCURRENCES, "Sancho"),
        ("Di cosa parla questo libro?", Overview.SUMMARY, ""),
        ("Fammi un riassunto", Overview.SUMMARY, ""),
        ("Chi è l'autore?", Overview.AUTHOR, ""),
        ("Chi ha scritto questo romanzo?", Overview.AUTHOR, ""),
        ("Quanti capitoli ci sono?", Overview.NUMBER_OF_PARTS, "chapter"),
        ("Quali sono i personaggi principali?", Overview.NAMES, ""),
    ],
)
def test_questions_about_a_text_as_a_whole_are_known(question, kind, what):
    assert overview_question(question) == OverviewQuestion(kind=kind, what=what)


@pytest.mark.parametrize(
    "question",
    [
        "Who wrote the letter?",
        "What is the theme of the sermon?",
        "How many letters did she write?",
        "What happens in chapter 3?",
        "Who are the people in the room?",
        "How often do editions appear?",
        "How long is the bridge?",
        "What does it say about love?",
        "What is the book on the table about?",
        "Who is the ferryman?",
        "Wer hat den Brief geschrieben?",
        "Worum geht es in dem Streit?",
        "Wie viele Briefe schrieb sie?",
        "Was passiert in Kapitel 3?",
        "Wer ist der Bruder des Autors?",
        "De quoi parle la chanson ?",
        "Qui a écrit la lettre ?",
        "Combien de lettres a-t-elle écrites ?",
        "¿Quién escribió la carta?",
        "¿Cuántas cartas recibió?",
        "Chi ha scritto la lettera?",
        "Quante lettere ha ricevuto?",
    ],
)
def test_questions_about_something_in_it_are_not(question):
    assert overview_question(question) is None


BODY = "It was a long day on the river, and nobody came to the house before the evening. " * 4 + "\n\n"


def book(*headings, contents=True, body=BODY):
    entries = "CONTENTS\n\n" + "".join(f"{heading}\n\n" for heading in headings) if contents else ""
    return f"THE RIVER\n\nBy Ada Lane\n\n{entries}" + "".join(f"{heading}\n\n{body}" for heading in headings)


def count(text):
    parts = find_parts(text)
    return {kind: number for kind, number in Counter(part.kind for part in parts).items() if are_counted(parts, kind)}


@pytest.mark.parametrize("contents", [True, False])
@pytest.mark.parametrize(
    ("headings", "expected"),
    [
        (["CHAPTER I", "CHAPTER II", "CHAPTER III"], {"chapter": 3}),
        (["Chapter 1. The Boat", "Chapter 2. The Oar"], {"chapter": 2}),
        (["CHAPTER I.", "CHAPTER II.", "CHAPTER THE LAST"], {"chapter": 3}),
        (["Letter 1", "Letter 2", "Chapter 1", "Chapter 2", "Chapter 3"], {"letter": 2, "chapter": 3}),
        ([f"CHAPTER {word}" for word in ("ONE", "TWO", "THREE")], {"chapter": 3}),
        (["Erstes Kapitel", "Zweites Kapitel", "Drittes Kapitel"], {"chapter": 3}),
        (["1. Kapitel", "2. Kapitel", "3. Kapitel"], {"chapter": 3}),
        (["ERSTER TEIL", "Kapitel 1", "Kapitel 2", "ZWEITER TEIL", "Kapitel 3"], {"part": 2, "chapter": 3}),
        (["CHAPITRE PREMIER", "CHAPITRE II", "CHAPITRE III"], {"chapter": 3}),
        (["Première partie", "Chapitre 1", "Chapitre 2", "Deuxième partie", "Chapitre 1"], {"part": 2, "chapter": 3}),
        (["Capítulo primero. El viaje", "Capítulo segundo. La vuelta"], {"chapter": 2}),
        (["CAPITOLO I", "CAPITOLO II"], {"chapter": 2}),
        (["1. Book Reviews", "2. Letter Grades", "3. Part Numbers"], {}),
        (["FIRST ACT", "SECOND ACT"], {"act": 2}),
    ],
)
def test_parts_are_counted_without_the_list_of_contents(headings, expected, contents):
    assert count(book(*headings, contents=contents)) == expected


def test_chapters_begin_again_in_each_book():
    headings = ["BOOK ONE: 1805", "CHAPTER I", "CHAPTER II", "BOOK TWO: 1806", "CHAPTER I", "CHAPTER II", "CHAPTER III"]
    text = book(*headings).replace("BOOK ONE: 1805\n\n" + BODY, "BOOK ONE: 1805\n\n")
    assert count(text.replace("BOOK TWO: 1806\n\n" + BODY, "BOOK TWO: 1806\n\n")) == {"book": 2, "chapter": 5}


def test_sentences_and_numbers_that_do_not_follow_each_other_are_no_parts():
    assert count(book("Chapter 1", "Chapter 2") + "Part of the house burnt down.\n\n" + BODY) == {"chapter": 2}
    assert count(book("CHAPTER I", "CHAPTER V", contents=False)) == {}
    assert count("CHAPTER XXIV. CONCLUSION\n\n" + BODY) == {}
    assert find_parts("The chapter ended.\n\nact one day\n") == []


def test_headings_of_markdown_are_parts_outside_of_code():
    text = "# Title\n\nWords.\n\n```\n# a comment\n```\n\n## Usage ##\n\nMore.\n"
    assert [text[part.start : part.end] for part in find_parts(text)] == ["Title", "Usage"]


def test_names_are_counted_and_spelled_as_in_the_text():
    text = "On Monday Natásha saw Mr. O'Brien. " + "There Natásha met Pierre and Pierre spoke. " * 3
    index = build_index([text])
    names = most_common_names(index, lambda row: text[index.starts[row] : index.ends[row]], 5)
    assert names[:2] == [("Pierre", 6), ("Natásha", 4)]
    assert not {"Monday", "Mr"} & {name for name, _ in names}


def test_places_of_words_are_all_found_with_any_case_and_diacritics():
    index = build_index(["The Battle of Borodinó. A battle! Of battles.", "the battle of borodino"])
    assert len(occurrences(index, "battle")) == 3
    assert len(occurrences(index, "battle of Borodino")) == 2
    assert len(occurrences(index, "Waterloo")) == 0
    assert occurrences(index, "?!") is None
    assert occurrences(build_index([""]), "a").tolist() == []


KNOWN = {
    "war-and-peace": {"book": 15, "epilogue": 2, "chapter": 365},
    "pride-and-prejudice": {"chapter": 61},
    "moby-dick-or-the-whale": {"chapter": 135},
    "emma": {"volume": 3, "chapter": 55},
    "anna-karenina": {"part": 8, "chapter": 239},
    "adventures-of-huckleberry-finn": {"chapter": 43},
    "the-brothers-karamazov": {"book": 12, "chapter": 96},
    "don-quixote": {"volume": 2, "chapter": 126},
    "the-republic": {"book": 10},
    "frankenstein": {"letter": 4, "chapter": 24},
}


@pytest.mark.parametrize("name", KNOWN)
def test_the_parts_of_well_known_books_are_counted(name, root):
    file = root.parent / "shared" / "corpus" / "books" / f"{name}.txt"
    if not file.is_file():
        pytest.skip("the books are in `shared` beside the repository, which is not here")
    assert count(file.read_text(encoding="utf-8")) == KNOWN[name]
