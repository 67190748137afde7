"""A list of questions in a file: one question a line, or a table with a column for them."""

import csv
import io
import re

from sala_core.errors import QuestionListError

MAX_QUESTIONS = 2000
MAX_QUESTION_CHARS = 4000
_COLUMN_NAMES = ("question", "questions")
_BULLET = re.compile(r"(?:[-*•]|\d{1,4}[.)])\s+")
_TABLES = {".csv": ",", ".tsv": "\t"}


def decode_list(data: bytes, name: str) -> str:
    """The text of a file. Raises QuestionListError unless it is UTF-8, or UTF-16 with its mark."""
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        raise QuestionListError(f"{name} is not text in UTF-8 (byte {error.start}); save it as UTF-8") from error


def parse_questions(text: str, name: str) -> tuple[str, ...]:
    """The questions of a list, in order. Raises QuestionListError for an empty one, and beyond the limits.

    A table has them in the column "question", or in its first one. In a text each line is one; blank lines and lines
    that begin with # are passed over, and so are the marks of a bulleted or numbered list.

    Args:
        text: of the file.
        name: of the file; `.csv` and `.tsv` are tables.
    """
    suffix = name[name.rfind(".") :].lower() if "." in name else ""
    found = _of_table(text, _TABLES[suffix], name) if suffix in _TABLES else _of_lines(text)
    if not found:
        raise QuestionListError(f"{name} holds no question; write one on each line, or in a column named question")
    if len(found) > MAX_QUESTIONS:
        raise QuestionListError(f"{name} holds {len(found):,} questions; {MAX_QUESTIONS:,} fit into one list, split it")
    for number, question in enumerate(found, start=1):
        if len(question) > MAX_QUESTION_CHARS:
            raise QuestionListError(
                f"question {number} of {name} has {len(question):,} characters; the limit is {MAX_QUESTION_CHARS:,}"
            )
    return tuple(found)


def _of_lines(text: str) -> list[str]:
    lines = (line.strip() for line in text.splitlines())
    kept = (_BULLET.sub("", line, count=1) for line in lines if line and not line.startswith("#"))
    return [line for line in kept if line]


def _of_table(text: str, separator: str, name: str) -> list[str]:
    first = text.split("\n", 1)[0]
    if separator == "," and first.count(";") > first.count(","):
        separator = ";"  # spreadsheets of many countries
    try:
        rows = [row for row in csv.reader(io.StringIO(text, newline=""), delimiter=separator) if any(row)]
    except csv.Error as error:
        raise QuestionListError(f"{name} is not a table that can be read: {error}; save it as CSV again") from error
    if not rows:
        return []
    heads = [cell.strip().lower() for cell in rows[0]]
    column = next((heads.index(head) for head in _COLUMN_NAMES if head in heads), None)
    body = rows if column is None else rows[1:]
    cells = (row[column or 0] for row in body if len(row) > (column or 0))
    return [" ".join(cell.split()) for cell in cells if cell.strip()]
