"""`ask --questions FILE --out FILE`: many questions, each from the same read state, with their answers in a file."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from app.commands.asking.sampling import sampling_params
from app.commands.asking.writer import open_writer
from app.commands.live_line import LiveLine
from app.commands.open_session import OpenSession, StopSignals, open_session
from app.grammar.parser import Arguments
from app.page.question_lists.table import csv_table, markdown_table
from app.wording import plural
from sala_core.errors import QuestionListError

if TYPE_CHECKING:
    from sala_core.session.remote.turn import Writer

UNFINISHED = ".rows.jsonl"
"""Added to the name of a table: its rows until all are there."""


def ask_list(arguments: Arguments, folder: Path) -> int:
    """Answer the questions that have no answer yet, each on disk before the next. Return 0, or 128 plus a signal.

    Raises SalaError: QuestionListError for a list or a file that does not fit, and what `ask` raises.
    """
    from sala_core.session.lists.answer_rows import in_order, load_rows, unanswered

    assert arguments.questions is not None
    assert arguments.out_file is not None
    questions = _questions(arguments.questions)
    table = arguments.out_file
    rows_file = rows_of(table)
    if rows_file != table and table.exists() and not rows_file.exists():
        raise QuestionListError(f"{table} is there already; choose another name, or remove it to ask again")
    if not table.absolute().parent.is_dir():
        raise QuestionListError(f"there is no folder {table.absolute().parent} for {table.name}; make it first")
    missing = unanswered(questions, load_rows(rows_file))
    if len(missing) < len(questions):
        print(f"{plural(len(questions) - len(missing), 'question')} answered already", file=sys.stderr)
    code = 0
    if missing:
        with ExitStack() as stack:
            writer = open_writer(arguments, folder, stack)
            opened = stack.enter_context(open_session(arguments, folder, create=False))
            stop = stack.enter_context(StopSignals())
            _answer(arguments, opened, missing, rows_file, stop, writer)
        code = stop.exit_code
    rows = in_order(questions, load_rows(rows_file))
    if len(rows) < len(questions):
        left = plural(len(questions) - len(rows), "question")
        print(f"Stopped; {left} left. Run the same command to continue.", file=sys.stderr)
        return code
    if rows_file != table:
        text = csv_table(rows) if table.suffix.lower() == ".csv" else markdown_table(rows, arguments.session)
        _write(table, text)
        rows_file.unlink(missing_ok=True)
    print(f"{plural(len(rows), 'answer')} in {table}")
    return code


def rows_of(table: Path) -> Path:
    """The file that holds the rows while they come: the table itself if it is `.jsonl`."""
    return table if table.suffix.lower() == ".jsonl" else table.with_name(table.name + UNFINISHED)


def _questions(path: Path) -> tuple[str, ...]:
    from sala_core.session.lists.question_file import decode_list, parse_questions

    try:
        data = path.read_bytes()
    except OSError as error:
        raise QuestionListError(f"the list {path} cannot be read: {error.strerror or error}; check its path") from error
    return parse_questions(decode_list(data, path.name), path.name)


def _answer(
    arguments: Arguments,
    opened: OpenSession,
    questions: list[str],
    rows_file: Path,
    stop: StopSignals,
    writer: Writer | None,
) -> None:
    from sala_core.events import Answer
    from sala_core.session.lists.answer_rows import answer_row, append_row

    sampling = sampling_params(arguments, opened.session.sampling_defaults)
    aside = opened.session.aside()
    with LiveLine(sys.stderr) as line:
        for progress in aside.prepare(stop.is_set):
            line.show(f"Reading {progress.tokens_done:,} of {plural(progress.tokens_total, 'token')}")
        if not aside.is_ready:
            return
        for number, question in enumerate(questions, start=1):
            if stop.is_set():
                return
            line.show(f"Question {number:,} of {len(questions):,}: {' '.join(question.split())}")
            for event in aside.ask(question, sampling, stop.is_set, writer):
                if isinstance(event, Answer) and event.finish_reason != "stopped":
                    append_row(rows_file, answer_row(question, event))


def _write(path: Path, text: str) -> None:
    """Write the table whole, or not at all. A spreadsheet knows UTF-8 by the mark at its beginning."""
    from sala_core.disk.files import READABLE_BY_ALL, write_file

    encoding = "utf-8-sig" if path.suffix.lower() == ".csv" else "utf-8"
    write_file(path, [memoryview(text.encode(encoding, "replace"))], mode=READABLE_BY_ALL)
