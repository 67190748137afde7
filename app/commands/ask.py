"""`ask`: one question. The answer is streamed as text and followed by its evidence, or printed as one JSON object."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.commands.live_line import LiveLine
from app.commands.open_session import OpenSession, StopSignals, open_session
from app.grammar.parser import Arguments
from app.wording import count, duration, place, plural, thought_for

if TYPE_CHECKING:
    from sala_core.engine.sampling import SamplingParams
    from sala_core.events import Answer

_EXCERPT_CHARS = 160


def ask(arguments: Arguments, folder: Path) -> int:
    """Ask the question and print the answer. Return 0, or 128 plus the signal that stopped it. Raises SalaError."""
    with open_session(arguments, folder, create=False) as opened, StopSignals() as stop:
        answer = _stream(arguments, opened, stop)
    if answer is None:
        print("Stopped before the question was read; nothing was saved.", file=sys.stderr)
    elif arguments.json:
        print(json.dumps(answer_object(answer, opened.seconds_load), ensure_ascii=False), flush=True)
    else:
        print(answer_notes(answer), flush=True)
    return stop.exit_code


def _stream(arguments: Arguments, opened: OpenSession, stop: StopSignals) -> Answer | None:
    """Run the turn and write its text as it comes, unless --json is set. Return None if it stops before an answer."""
    from sala_core.engine.generate import Token
    from sala_core.events import Answer

    answer = None
    shown, thinking = LiveLine(sys.stderr), _DimText()
    sampling = sampling_params(arguments, opened.session.sampling_defaults)
    for event in opened.session.ask(arguments.question, sampling, should_stop=stop.is_set):
        if isinstance(event, Answer):
            answer = event
        elif not isinstance(event, Token):
            _show_prefill(shown, event.tokens_done, event.tokens_total)
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


def _show_prefill(line: LiveLine, done: int, total: int) -> None:
    if sys.stderr.isatty():
        line.show(f"Reading {count(done)} of {plural(total, 'token')}")


def sampling_params(arguments: Arguments, defaults: SamplingParams) -> SamplingParams:
    """Return the model's sampling defaults, changed by the options of the command line."""
    chosen: dict[str, Any] = {
        "max_tokens": arguments.max_tokens,
        "think": arguments.think,
        "thinking_budget": arguments.thinking_budget,
        "temperature": arguments.temperature,
        "seed": arguments.seed,
        "verbatim": arguments.verbatim,
    }
    return replace(defaults, **{name: value for name, value in chosen.items() if value is not None})


def answer_object(answer: Answer, seconds_opening: float) -> dict[str, Any]:
    """Return the object that `--json` prints. Its `seconds.load` includes opening model, library and session."""
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
            f"{rank:3}. {item.document}, {where} (score {item.score:.3f})",
            *([f"     Columns: {item.header}"] if item.header else []),
            f"     {_excerpt(item.text)}",
        ]
    if answer.quotations:
        lines += ["", "Quotations found word for word:"]
    for quotation in answer.quotations:
        where = place(quotation.page, quotation.line_start, quotation.line_end, document=quotation.document)
        lines.append(f"  “{_excerpt(quotation.text)}” {quotation.document}, {where}")
    seconds = answer.seconds_prefill + answer.seconds_decode
    lines += [
        "",
        f"{plural(answer.tokens_read, 'token')} read, {count(answer.tokens_reused)} reused,"
        f" {count(answer.tokens_generated)} written in {duration(seconds)} ({answer.model})",
    ]
    return "\n".join(lines)


def _excerpt(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _EXCERPT_CHARS else line[: _EXCERPT_CHARS - 1].rstrip() + "…"
