"""The answers of a question list as a table: CSV for a spreadsheet, Markdown for a document."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from app import wording

COLUMNS = ("question", "answer", "places", "evidence", "finish_reason", "model")
MAX_CELL_CHARS = 32_000
"""Most characters of a cell: spreadsheets cut longer ones."""
_FORMULA = re.compile(r"[=+\-@\t\r]")
_MARKDOWN_SIGNS = re.compile(r"([\\`*_\[\]<>|#$~])")

Row = Mapping[str, Any]


def csv_table(rows: Iterable[Row]) -> str:
    """CSV with a heading. A cell that a spreadsheet would calculate begins with an apostrophe, so that it does not."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    for row in rows:
        writer.writerow([_plain_cell(cell) for cell in table_cells(row)])
    return text.getvalue()


def markdown_table(rows: Sequence[Row], title: str) -> str:
    """A heading, a table of questions, answers and places, and below it the passages, numbered as the questions."""
    lines = [f"# {escaped(title)}", "", "| # | Question | Answer | Places |", "| --: | --- | --- | --- |"]
    for number, row in enumerate(rows, start=1):
        question, answer, places, *_ = table_cells(row)
        lines.append(f"| {number} | {_table_cell(question)} | {_table_cell(answer)} | {_table_cell(places)} |")
    for number, row in enumerate(rows, start=1):
        passages = list(row.get("evidence") or ())
        if passages:
            lines += ["", f"## {number}. {escaped(_one_line(row['question']))}", ""]
            lines += [f"- {escaped(place_of(each))}: {escaped(_one_line(each.get('text', '')))}" for each in passages]
    return "\n".join(lines) + "\n"


def table_cells(row: Row) -> list[str]:
    """The cells of a row, in the order of COLUMNS. Places are those of the quotations, then those of the evidence."""
    passages = list(row.get("evidence") or ())
    places = [f"“{_one_line(each.get('text', ''))}”: {place_of(each)}" for each in row.get("quotations") or ()]
    places += [place_of(each) for each in passages]
    texts = [f"{number}. {_one_line(each.get('text', ''))}" for number, each in enumerate(passages, start=1)]
    return [
        str(row.get("question", "")),
        str(row.get("answer", "")),
        "\n".join(dict.fromkeys(places)),
        "\n".join(texts),
        str(row.get("finish_reason", "")),
        str(row.get("model", "")),
    ]


def place_of(passage: Row) -> str:
    """Document and place of a passage, in words."""
    rows = passage.get("rows")
    document = str(passage.get("document", ""))
    first, last = int(passage.get("line_start", 1)), int(passage.get("line_end", 1))
    where = wording.place(passage.get("page"), first, last, (rows[0], rows[1]) if rows else None, document)
    return f"{document}, {where}"


def escaped(text: str) -> str:
    """Text for Markdown in which no sign has a meaning."""
    return _MARKDOWN_SIGNS.sub(r"\\\1", text)


def _table_cell(text: str) -> str:
    return "<br>".join(escaped(line.strip()) for line in text.splitlines() if line.strip())


def _one_line(text: str) -> str:
    return " ".join(str(text).split())


def _plain_cell(text: str) -> str:
    text = text if len(text) <= MAX_CELL_CHARS else text[: MAX_CELL_CHARS - 1] + "…"
    return f"'{text}" if _FORMULA.match(text) else text
