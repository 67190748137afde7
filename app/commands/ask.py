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
from app.wording import count, duration, place, plural

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
    shown = LiveLine(sys.stderr)
    sampling = sampling_params(arguments, opened.session.sampling_defaults)
    for event in opened.session.ask(arguments.question, sampling, should_stop=stop.is_set):
        if isinstance(event, Answer):
            answer = event
        elif not isinstance(event, Token):
            _show_prefill(shown, event.tokens_done, event.tokens_total)
        elif not arguments.json and not event.thinking:
            shown.clear()
            sys.stdout.write(event.text)
            sys.stdout.flush()
    shown.clear()
    return answer


def _show_prefill(line: LiveLine, done: int, total: int) -> None:
    if sys.stderr.isatty():
        line.show(f"Reading {count(done)} of {plural(total, 'token')}")


def sampling_params(arguments: Arguments, defaults: SamplingParams) -> SamplingParams:
    """Return the model's sampling defaults, changed by the options of the command line."""
    chosen: dict[str, Any] = {
        "max_tokens": arguments.max_tokens,
        "temperature": arguments.temperature,
        "seed": arguments.seed,
        "verbatim": arguments.verbatim,
    }
    return replace(defaults, **{name: value for name, value in chosen.items() if value is not None})


def answer_object(answer: Answer, seconds_opening: float) -> dict[str, Any]:
    """Return the object that `--json` prints. Its `seconds.load` includes opening model, library and session."""
    return {
        "answer": answer.text,
        "evidence": [
            {
                "document": item.document,
                "page": item.page,
                "line_start": item.line_start,
                "line_end": item.line_end,
                "text": item.text,
                "score": item.score,
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
    """Write what follows the answer: warnings, why it ended early, evidence, verified quotations, and the cost."""
    lines = ["", *(f"Note: {warning}" for warning in answer.warnings)]
    if answer.finish_reason != "stop":
        why = {"length": "the longest length allowed was reached", "stopped": "it was stopped"}
        lines.append(f"[The answer ends here: {why.get(answer.finish_reason, answer.finish_reason)}]")
    if answer.evidence:
        lines += ["", "Evidence:"]
    for rank, item in enumerate(answer.evidence, start=1):
        where = place(item.page, item.line_start, item.line_end)
        lines += [
            f"{rank:3}. {item.document}, {where} (score {item.score:.3f})",
            f"     {_excerpt(item.text)}",
        ]
    if answer.quotations:
        lines += ["", "Quotations found word for word:"]
    for quotation in answer.quotations:
        where = place(quotation.page, quotation.line_start, quotation.line_end)
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
