"""Lists of questions in text files and tables."""

import pytest

from sala_core.errors import QuestionListError
from sala_core.session.lists.question_file import MAX_QUESTIONS, decode_list, parse_questions


@pytest.mark.parametrize(
    ("name", "text", "questions"),
    [
        ("list.txt", "Who?\n\n# a note\n  Where?  \n", ("Who?", "Where?")),
        ("list.md", "1. Who?\n2) Where?\n- When?\n* 3. of May?\n", ("Who?", "Where?", "When?", "3. of May?")),
        ("list", "Who?\r\nWhere?", ("Who?", "Where?")),
        ("list.csv", 'id,Question\n1,"Who, if anyone?"\n2,"Two\nlines?"\n', ("Who, if anyone?", "Two lines?")),
        ("list.csv", "Who?\nWhere?\n", ("Who?", "Where?")),
        ("list.csv", "question;weight\nWho?;1\nWhere, when?;2\n", ("Who?", "Where, when?")),
        ("list.TSV", "id\tquestions\n1\tWho?\n2\t\n", ("Who?",)),
    ],
)
def test_questions_are_found(name, text, questions):
    assert parse_questions(text, name) == questions


def test_encodings_with_a_mark_are_read_and_others_refused():
    for encoding in ("utf-8", "utf-8-sig", "utf-16"):
        assert decode_list("Où est-elle ?".encode(encoding), "list.txt") == "Où est-elle ?"
    with pytest.raises(QuestionListError, match=r"list.txt is not text in UTF-8 \(byte 1\); save it as UTF-8"):
        decode_list("Où?".encode("latin-1"), "list.txt")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("\n# nothing\n", "holds no question"),
        ("A?\n" * (MAX_QUESTIONS + 1), "2,001 questions"),
        ("A?\n" + "x" * 4001, "question 2 of list.txt has 4,001 characters"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_reason(text, words):
    with pytest.raises(QuestionListError, match=words):
        parse_questions(text, "list.txt")
