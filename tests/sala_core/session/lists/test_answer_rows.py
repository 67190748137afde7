"""Rows of answers are whole or absent, and tell which questions are left."""

import json
from dataclasses import replace

import pytest

from sala_core.errors import QuestionListError
from sala_core.events import Answer, Evidence, Quotation
from sala_core.session.lists.answer_rows import answer_row, append_row, in_order, load_rows, unanswered

ANSWER = Answer(
    text="“Yes”",
    thinking="",
    evidence=(Evidence(document="a.pdf", document_id="d", page=3, line_start=4, line_end=5, text="Yes", score=0.5),),
    quotations=(Quotation(text="Yes", document="a.pdf", document_id="d", page=3, line_start=4, line_end=4),),
    tokens_reused=10,
    tokens_read=2,
    tokens_generated=3,
    seconds_load=0.0,
    seconds_prefill=0.5,
    seconds_decode=0.25,
    finish_reason="stop",
    model="m",
)


def test_a_row_is_the_question_and_the_object_of_one_answer():
    row = answer_row("So?", ANSWER)
    assert list(row)[:2] == ["question", "answer"]
    assert row["quotations"] == [{"text": "Yes", "document": "a.pdf", "page": 3, "line_start": 4, "line_end": 4}]
    assert row["evidence"][0]["page"] == 3
    assert json.loads(json.dumps(row)) == row


def test_a_line_that_a_crash_has_cut_off_is_removed(tmp_path):
    path = tmp_path / "rows.jsonl"
    append_row(path, answer_row("One?", ANSWER))
    append_row(path, answer_row("Two?", ANSWER))
    whole = path.read_bytes()
    for cut in (1, len(whole) // 4, len(whole) // 2 - 1):
        path.write_bytes(whole[:-cut])
        assert [row["question"] for row in load_rows(path)] == ["One?"]
        append_row(path, answer_row("Two?", ANSWER))
        assert path.read_bytes() == whole


def test_a_file_that_holds_something_else_is_refused_and_kept(tmp_path):
    path = tmp_path / "notes.jsonl"
    for text in ("my notes", "my notes\n", '{"a": 1}\n', "[1]\n"):
        path.write_text(text)
        with pytest.raises(QuestionListError, match="choose another file"):
            load_rows(path)
        assert path.read_text() == text


def test_a_question_that_stands_twice_needs_two_rows():
    questions = ("A?", "B?", "A?")
    rows = [{"question": "A?", "answer": "1"}]
    assert unanswered(questions, rows) == ["B?", "A?"]
    rows += [{"question": "old?", "answer": "x"}, {"question": "A?", "answer": "2"}, {"question": "B?", "answer": "3"}]
    assert unanswered(questions, rows) == []
    assert [row["answer"] for row in in_order(questions, rows)] == ["1", "3", "2"]


def test_a_finders_confidence_is_in_the_object_and_nobody_elses():
    assert answer_row("So?", replace(ANSWER, confidence=0.25))["confidence"] == 0.25
    assert "confidence" not in answer_row("So?", ANSWER)
