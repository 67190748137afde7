"""The answers of a model that only finds: their forms, their quotations, their places."""

import numpy as np
import pytest

from sala_core.evidence.finding import (
    NEAREST,
    NO_WORDS,
    NOTHING_READ,
    WHAT_IT_CAN_DO,
    DocumentFinder,
)
from sala_core.evidence.searched import SearchedDocument
from sala_core.finder.ranking import fitted
from sala_core.ingest import SourceMap

BOOK = """Chapter I

The ferryman of Tavelun is called by all who know him
Osrik. He said: "I never row at night."

Every boat in the harbour is painted green.
The keeper of the light sleeps by day.
"""
NOTES = "Wages are paid on Friday.\nThe cellar holds ninety barrels of cider.\n"


def document(name: str, text: str, num_chars: int | None = None) -> SearchedDocument:
    """A document with a token for each character."""
    lines = SourceMap(text, (), np.arange(len(text)))
    num_tokens = len(text) if num_chars is None else num_chars
    return SearchedDocument(document_id=name, name=name, num_tokens=num_tokens, lines=lambda: lines)


def finder() -> DocumentFinder:
    return DocumentFinder([document("book.txt", BOOK), document("notes.txt", NOTES)])


def test_a_sure_answer_is_the_sentence_alone_on_one_line() -> None:
    answer = finder().answer("What is the ferryman of Tavelun called?")

    assert answer.text == '"The ferryman of Tavelun is called by all who know him Osrik."'
    assert answer.confidence >= fitted().threshold
    assert [(item.document, item.line_start, item.line_end) for item in answer.quotations] == [("book.txt", 3, 4)]
    assert answer.evidence[0].document == "book.txt"
    assert "Osrik" in answer.evidence[0].text


def test_an_unsure_answer_says_so_and_gives_the_nearest_passages() -> None:
    answer = finder().answer("Does anybody drink apple wine underground?")

    assert answer.text.startswith(f"{NEAREST}\n\n1. ")
    assert 1 <= len(answer.quotations) <= 3
    assert answer.confidence < fitted().threshold
    assert len({item.text for item in answer.quotations}) == len(answer.quotations)
    for item in answer.quotations:
        assert item.text in answer.text


def test_an_unsure_answer_has_three_passages_however_many_sentences_have_all_its_words() -> None:
    between = "The river was calm.\nNobody spoke.\nA bird sang.\n"
    text = between.join(f"{many} ledgers stood open in the hall.\n" for many in ("Some", "Five", "Most", "Few", "All"))
    answer = DocumentFinder([document("hall.txt", text)]).answer("What are ledgers?")

    assert answer.text.startswith(NEAREST)
    assert len(answer.quotations) == answer.text.count("\n") - 1 == 3


@pytest.mark.parametrize(
    ("sentence", "quoted"),
    [
        ('The ferryman of Tavelun said, he rows at noon."', '"The ferryman of Tavelun said, he rows at noon."'),
        ('"The ferryman of Tavelun rows at noon.', '"The ferryman of Tavelun rows at noon."'),
        ("The ferryman of Tavelun rows at noon.”", '"The ferryman of Tavelun rows at noon."'),
        ('"Noon," said the ferryman of Tavelun, "is late."', '“"Noon," said the ferryman of Tavelun, "is late."”'),
    ],
)
def test_half_of_a_pair_of_quotation_marks_is_left_out_at_the_ends(sentence: str, quoted: str) -> None:
    answer = DocumentFinder([document("boat.txt", f"{sentence}\n")]).answer("When does the ferryman of Tavelun row?")

    assert quoted in answer.text
    assert answer.quotations[0].text in sentence


def test_a_name_that_stands_nowhere_is_named() -> None:
    answer = finder().answer("What did the ferryman say about Harry Potter?")

    assert answer.text.startswith(
        "I did not find a sentence that answers this. Nowhere in the text: “Harry”, “Potter”. The nearest passages:"
    )


@pytest.mark.parametrize("question", ["hello", "Thanks!", "what is it?"])
def test_a_greeting_gets_one_sentence_on_what_can_be_asked(question: str) -> None:
    answer = finder().answer(question)

    assert (answer.text, answer.quotations, answer.evidence) == (WHAT_IT_CAN_DO, (), ())


def test_words_that_stand_nowhere_are_said_to() -> None:
    assert finder().answer("Qwxyz vbnmk?").text == NO_WORDS


@pytest.mark.parametrize("documents", [[], [document("empty.txt", " \n")]])
def test_without_a_text_there_is_nothing_to_quote(documents: list[SearchedDocument]) -> None:
    answer = DocumentFinder(documents).answer("What is the ferryman of Tavelun called?")

    assert answer.text in (NOTHING_READ, NO_WORDS)
    assert answer.quotations == ()


def test_a_text_is_searched_as_far_as_it_is_read() -> None:
    """Also where more of the same document was searched before."""
    finder().answer("What is the ferryman of Tavelun called?")

    part = DocumentFinder([document("book.txt", BOOK, BOOK.index("Every"))])

    assert "painted green" not in part.answer("Which colour is every boat in the harbour?").text


def test_quotations_stand_word_for_word_in_their_lines() -> None:
    for question in ("What did the ferryman say he never does at night?", "When does the keeper of the light sleep?"):
        for item in finder().answer(question).quotations:
            lines = BOOK if item.document == "book.txt" else NOTES
            inside = " ".join("\n".join(lines.splitlines()[item.line_start - 1 : item.line_end]).split())
            assert item.text in inside


def test_a_quotation_with_marks_of_its_own_gets_other_ones() -> None:
    answer = finder().answer("Quote the sentence with “never row at night”")

    assert '“He said: "I never row at night."”' in answer.text


def test_a_sentence_without_end_is_cut_at_a_word() -> None:
    text = "The register of Tavelun lists " + ", ".join(f"Osrik{i}" for i in range(300))

    item = DocumentFinder([document("list.txt", text)]).answer("What does the register of Tavelun list?").quotations[0]

    assert len(item.text) <= 800
    assert text.startswith(item.text)
    assert text[len(item.text)] in " ,"


def test_passages_are_ranked_places() -> None:
    found = finder().passages("barrels of cider", 2)

    assert found[0].document == "notes.txt"
    assert found[0].line_start <= 2 <= found[0].line_end
    assert finder().passages("Qwxyz", 2) == ()


def test_a_sentence_that_is_one_speech_is_quoted_with_one_pair_of_marks() -> None:
    text = 'The day was long.\n\n"The bridge of Tavelun is closed?"\n\nNobody knew.'

    answer = DocumentFinder([document("talk.txt", text)]).answer("Is the bridge of Tavelun closed?")

    assert '"The bridge of Tavelun is closed?"' in answer.text
    assert '""' not in answer.text
    assert "“" not in answer.text


def test_a_document_whose_text_is_lost_is_left_out() -> None:
    lost = SearchedDocument(document_id="lost", name="lost.txt", num_tokens=9, lines=lambda: None)

    answer = DocumentFinder([lost, document("notes.txt", NOTES)]).answer("How many barrels of cider has the cellar?")

    assert [item.document for item in answer.quotations[:1]] == ["notes.txt"]


def test_texts_are_loaded_once_for_the_index_and_then_only_where_something_is_found() -> None:
    loaded: list[str] = []

    def counted(name: str, text: str) -> SearchedDocument:
        made = document(name, text)
        return SearchedDocument(
            document_id=name, name=name, num_tokens=made.num_tokens, lines=lambda: loaded.append(name) or made.lines()
        )

    documents = [counted(f"{i}.txt", f"House {i} belongs to the baker.\n") for i in range(20)]
    documents.append(counted("notes.txt", NOTES))
    finder = DocumentFinder(documents)
    finder.prepare()
    assert len(loaded) == 21
    loaded.clear()

    DocumentFinder(documents).answer("How many barrels of cider does the cellar hold?")

    assert 0 < len(set(loaded)) < 10
