"""Answers as tables: nothing is calculated by a spreadsheet, and no sign of Markdown has a meaning."""

import csv
import io

from app.page.question_lists.table import COLUMNS, csv_table, markdown_table

PASSAGE = {"document": "a.pdf", "page": 3, "line_start": 7, "line_end": 8, "text": "It *is*\nso."}
ROW = {
    "question": "Is it | so?",
    "answer": "“It is so”\n\n<b>Yes</b>",
    "evidence": [PASSAGE, {**PASSAGE, "document": "b.txt", "page": None}],
    "quotations": [{"document": "a.pdf", "page": 3, "line_start": 7, "line_end": 7, "text": "It is\nso"}],
    "finish_reason": "stop",
    "model": "m",
}


def test_csv_holds_answers_places_and_passages():
    (head, cells) = csv.reader(io.StringIO(csv_table([ROW]), newline=""))
    assert tuple(head) == COLUMNS
    row = dict(zip(head, cells, strict=True))
    assert row["question"] == "Is it | so?"
    assert row["places"].split("\n") == ["“It is so”: a.pdf, page 3", "a.pdf, page 3", "b.txt, lines 7–8"]
    assert row["evidence"].split("\n") == ["1. It *is* so.", "2. It *is* so."]


def test_a_cell_that_a_spreadsheet_would_calculate_is_text():
    hostile = ["=HYPERLINK(1)", "+1", "-1", "@x", "\tx"]
    rows = [{**ROW, "answer": text, "evidence": [], "quotations": []} for text in hostile]
    cells = [row[1] for row in csv.reader(io.StringIO(csv_table(rows), newline=""))][1:]
    assert cells == [f"'{text}" for text in hostile]


def test_markdown_shows_cells_as_they_are():
    text = markdown_table([ROW], "My *list*")
    assert text.startswith("# My \\*list\\*\n")
    row = next(line for line in text.splitlines() if line.startswith("| 1 |"))
    assert "Is it \\| so?" in row
    assert "\\<b\\>Yes\\</b\\>" in row
    assert "- b.txt, lines 7–8: It \\*is\\* so." in text
