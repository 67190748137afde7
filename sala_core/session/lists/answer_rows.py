"""The rows of a question list: JSON objects, one a line, each on disk before the next question is asked."""

import json
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from sala_core.disk.files import storage_error
from sala_core.errors import QuestionListError
from sala_core.events import Answer

Row = dict[str, Any]


def answer_object(answer: Answer, seconds_opening: float = 0.0) -> Row:
    """The object of `ask --json`. Its `seconds.load` includes `seconds_opening`: of model, library and session.

    `confidence` is in it where a finder answered, `written_by` where an engine elsewhere did.
    """
    return {
        "answer": answer.text,
        "thinking": {
            "asked_for": answer.think,
            "budget": answer.thinking_budget,
            "tokens": answer.tokens_thinking,
            "seconds": None if answer.seconds_thinking is None else round(answer.seconds_thinking, 4),
            "ended_by": answer.thinking_end,
            "text": answer.thinking,
        },
        "evidence": [
            {
                "document": item.document,
                "page": item.page,
                "line_start": item.line_start,
                "line_end": item.line_end,
                "text": item.text,
                "score": item.score,
                **({"rows": list(item.rows), "header": item.header} if item.rows else {}),
            }
            for item in answer.evidence
        ],
        "quotations": [
            {
                "text": item.text,
                "document": item.document,
                "page": item.page,
                "line_start": item.line_start,
                "line_end": item.line_end,
            }
            for item in answer.quotations
        ],
        **({} if answer.confidence is None else {"confidence": answer.confidence}),
        **({} if answer.written_by is None else {"written_by": answer.written_by.to_json()}),
        "tokens_reused": answer.tokens_reused,
        "tokens_read": answer.tokens_read,
        "tokens_generated": answer.tokens_generated,
        "seconds": {
            "load": round(seconds_opening + answer.seconds_load, 4),
            "prefill": round(answer.seconds_prefill, 4),
            "decode": round(answer.seconds_decode, 4),
        },
        "finish_reason": answer.finish_reason,
        "model": answer.model,
    }


def answer_row(question: str, answer: Answer) -> Row:
    """A row of a list: the object of `ask --json` behind its question."""
    return {"question": question, **answer_object(answer)}


def load_rows(path: Path) -> list[Row]:
    """The whole rows of a file; [] without one. A last line that was cut off by a crash is removed from the file.

    Raises QuestionListError for a file that holds something else.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise QuestionListError(f"{path} cannot be read: {error.strerror or error}") from error
    whole = data[: data.rfind(b"\n") + 1]
    rows = []
    for number, line in enumerate(whole.splitlines(), start=1):
        try:
            row = json.loads(line)
            if not isinstance(row, dict) or not isinstance(row["question"], str) or "answer" not in row:
                raise ValueError("no question and answer")
        except (ValueError, KeyError) as error:
            raise QuestionListError(
                f"line {number} of {path} is not a row of answers ({error}); choose another file for the answers"
            ) from error
        rows.append(row)
    if len(whole) < len(data):
        if not whole and not data.lstrip().startswith(b'{"question"'):
            raise QuestionListError(f"{path} holds something else; choose another file for the answers")
        os.truncate(path, len(whole))
    return rows


def append_row(path: Path, row: Row) -> None:
    """Add a row, and wait until it is on disk. Raises LibraryError, DiskFullError."""
    line = (json.dumps(row, ensure_ascii=False) + "\n").encode("utf-8", "surrogatepass")
    try:
        with path.open("ab") as file:
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise storage_error(error, path, len(line)) from error


def unanswered(questions: Sequence[str], rows: Iterable[Row]) -> list[str]:
    """The questions without a row, in order. A question that stands twice in the list needs two rows."""
    answered = Counter(row["question"] for row in rows)
    missing = []
    for question in questions:
        if answered[question]:
            answered[question] -= 1
        else:
            missing.append(question)
    return missing


def in_order(questions: Sequence[str], rows: Iterable[Row]) -> list[Row]:
    """The rows of these questions, in the order of the list; those of other questions are left out."""
    waiting: dict[str, list[Row]] = {}
    for row in rows:
        waiting.setdefault(row["question"], []).append(row)
    return [waiting[question].pop(0) for question in questions if waiting.get(question)]
