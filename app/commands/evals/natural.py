"""`eval natural`: natural questions to the finder, and to a plain word search beside it."""

from __future__ import annotations

import csv
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from app.commands.open_session import StopSignals
from app.grammar.development.eval import EvalArguments

if TYPE_CHECKING:
    from sala_core.evals.suites.natural import NaturalReply

_OUT = Path("eval-results") / "finder"


def natural(options: EvalArguments) -> int:
    """Ask, print the table, and write both into the folder of `--out`. Raises EvalError for a text that is missing."""
    from sala_core.evals.suites.natural import run_natural

    out = options.out or _OUT
    out.mkdir(parents=True, exist_ok=True)
    replies = []
    with StopSignals() as stop:
        for reply in run_natural(options.text, options.half, stop.is_set):
            replies.append(reply)
    lines = [json.dumps(asdict(reply), ensure_ascii=False) for reply in replies]
    (out / f"natural-{options.half}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    rows = table(replies)
    with (out / f"natural-{options.half}.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)
    widths = [max(len(str(row[i])) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        print("  ".join(f"{cell!s:<{width}}" for cell, width in zip(row, widths, strict=True)), flush=True)
    print(f"Written: {out / f'natural-{options.half}.jsonl'}, .csv", flush=True)
    return stop.exit_code


def table(replies: list[NaturalReply]) -> list[list[str | int]]:
    """One row a kind of text and one for all, with a head: counts of questions."""
    searches = sorted({kind for reply in replies for kind in reply.bm25})
    head: list[str | int] = ["texts", "questions", "answer in five places", *(f"BM25 {kind}" for kind in searches)]
    head += ["first place", "sentence right", "given as answer", "of these right", "false premises", "refused"]
    rows = [head]
    for group in [*dict.fromkeys(reply.group for reply in replies), "all"]:
        of_group = [reply for reply in replies if group in ("all", reply.group)]
        asked = [reply for reply in of_group if not reply.is_false]
        false = [reply for reply in of_group if reply.is_false]
        given = [reply for reply in asked if reply.is_given]
        row: list[str | int] = [group, len(asked), sum(reply.in_five for reply in asked)]
        row += [sum(reply.bm25[kind] for reply in asked) for kind in searches]
        row += [sum(reply.first for reply in asked), sum(reply.is_right for reply in asked), len(given)]
        row += [sum(reply.is_right for reply in given), len(false), sum(not reply.is_given for reply in false)]
        rows.append(row)
    return rows
