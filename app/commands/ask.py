"""`ask`: one question. The answer is streamed as text and followed by its evidence, or printed as one JSON object."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from app.commands.asking.question_list import ask_list
from app.commands.asking.sampling import sampling_params
from app.commands.asking.writer import open_writer
from app.commands.live_line import LiveLine
from app.commands.open_session import OpenSession, StopSignals, open_session
from app.grammar.parser import Arguments
from app.remote.words import answered_by
from app.wording import count, duration, place, plural, thought_for

if TYPE_CHECKING:
    from sala_core.engine.generate import Token
    from sala_core.events import Answer, PromptProgress, ReadProgress
    from sala_core.session.remote.turn import Writer
    from sala_core.session.session import Session

_EXCERPT_CHARS = 160


def ask(arguments: Arguments, folder: Path) -> int:
    """Ask the question and print the answer, or ask a list of them. Return 0, or 128 plus the signal that stopped it.

    Raises SalaError.
    """
    if arguments.questions is not None:
        return ask_list(arguments, folder)
    with ExitStack() as stack:
        writer = open_writer(arguments, folder, stack)
        opened = stack.enter_context(open_session(arguments, folder, create=False))
        stop = stack.enter_context(StopSignals())
        answer = _stream(arguments, opened, stop, writer)
    if answer is None:
        print("Stopped before a word was written; nothing was saved.", file=sys.stderr)
    elif arguments.json:
        from sala_core.session.lists.answer_rows import answer_object

        print(json.dumps(answer_object(answer, opened.seconds_load), ensure_ascii=False), flush=True)
    else:
        print(answer_notes(answer), flush=True)
    return stop.exit_code


def _stream(arguments: Arguments, opened: OpenSession, stop: StopSignals, writer: Writer | None) -> Answer | None:
    """Run the turn and write its text as it comes, unless --json is set. Return None if it stops before an answer."""
    from sala_core.engine.generate import Token
    from sala_core.events import Answer, PromptProgress

    answer = None
    shown, thinking = LiveLine(sys.stderr), _DimText()
    told = ""
    for event in _events(arguments, opened.session, stop, writer):
        if isinstance(event, Answer):
            answer = event
        elif not isinstance(event, Token):
            if isinstance(event, PromptProgress) and event.note not in ("", told):
                shown.clear()
                print(f"Note: {event.note}", file=sys.stderr, flush=True)
                told = event.note
            _show_prefill(shown, event)
        elif not arguments.json:
            shown.clear()
            if event.thinking:
                thinking.write(event.text)
            elif event.text:
                thinking.end()
                sys.stdout.write(event.text)
                sys.stdout.flush()
    shown.clear()
    thinking.end()
    return answer


def _events(
    arguments: Arguments, session: Session, stop: StopSignals, writer: Writer | None
) -> Iterator[ReadProgress | PromptProgress | Token | Answer]:
    """The events of the question, or of another version of a turn."""
    from sala_core.store.rows import AskRequest

    sampling = sampling_params(arguments, session.sampling_defaults)
    if arguments.regenerate is not None:
        turn = session.turn(arguments.regenerate).id
        request = AskRequest(instead_of=turn)
        return session.recorded(request, session.regenerate(turn, sampling, should_stop=stop.is_set, writer=writer))
    request = AskRequest(question=arguments.question)
    if arguments.edit is None:
        return session.recorded(
            request, session.ask(arguments.question, sampling, should_stop=stop.is_set, writer=writer)
        )
    turn = session.turn(arguments.edit).id
    events = session.ask(arguments.question, sampling, should_stop=stop.is_set, instead_of=turn, writer=writer)
    return session.recorded(replace(request, instead_of=turn), events)


class _DimText:
    """Writes thinking in gray to stderr where that is a terminal, apart from the answer on stdout."""

    def __init__(self) -> None:
        self._is_shown = sys.stderr.isatty()
        self._is_open = False

    def write(self, text: str) -> None:
        if text and self._is_shown:
            self._is_open = True
            sys.stderr.write(f"\x1b[2m{text}\x1b[0m")
            sys.stderr.flush()

    def end(self) -> None:
        if self._is_open:
            self._is_open = False
            sys.stderr.write("\n\n")
            sys.stderr.flush()


def _show_prefill(line: LiveLine, event: ReadProgress | PromptProgress) -> None:
    if sys.stderr.isatty():
        who = getattr(event, "reader", "")
        words = f"{count(event.tokens_done)} of {plural(event.tokens_total, 'token')}"
        line.show(f"{who} reads {words}" if who else f"Reading {words}")


def answer_notes(answer: Answer) -> str:
    """Write what follows the answer: thinking, warnings, an early end, evidence, verified quotations, and the cost."""
    lines = ["", *(f"Note: {warning}" for warning in answer.warnings)]
    if answer.tokens_thinking:
        spent = thought_for(answer.seconds_thinking, answer.thinking_end)
        lines.append(f"[{spent}, {plural(answer.tokens_thinking, 'token')}; see --json]")
    if answer.finish_reason != "stop":
        why = {
            "length": "the longest length allowed was reached",
            "stopped": "it was stopped",
            "repetition": "it only repeated itself; the session keeps it without the copies",
        }
        lines.append(f"[The answer ends here: {why.get(answer.finish_reason, answer.finish_reason)}]")
    if answer.evidence:
        lines += ["", "Evidence:"]
    for rank, item in enumerate(answer.evidence, start=1):
        where = place(item.page, item.line_start, item.line_end, item.rows, item.document)
        lines += [
            f"{rank:3}. {item.document}, {where}",
            *([f"     Columns: {item.header}"] if item.header else []),
            f"     {_excerpt(item.text)}",
        ]
    if answer.quotations:
        lines += ["", "Quotations found word for word:"]
    for quotation in answer.quotations:
        where = place(quotation.page, quotation.line_start, quotation.line_end, document=quotation.document)
        lines.append(f"  “{_excerpt(quotation.text)}” {quotation.document}, {where}")
    if answer.written_by is not None:
        lines += ["", *answered_by(answer.written_by)]
    if answer.document_tokens_read is not None:
        lines += ["", f"Another version of this turn; {plural(answer.document_tokens_read, 'document token')} re-read"]
    seconds = answer.seconds_prefill + answer.seconds_decode
    if answer.written_by is not None:
        return "\n".join(
            [*lines, f"{plural(answer.tokens_generated, 'token')} written in {duration(seconds)} ({answer.model})"]
        )
    lines += [
        "",
        f"{plural(answer.tokens_read, 'token')} read, {count(answer.tokens_reused)} reused,"
        f" {count(answer.tokens_generated)} written in {duration(seconds)} ({answer.model})",
    ]
    return "\n".join(lines)


def _excerpt(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _EXCERPT_CHARS else line[: _EXCERPT_CHARS - 1].rstrip() + "…"
