"""`eval`: a long-context suite on a model of ours or behind an endpoint; every sample on disk as it comes."""

from __future__ import annotations

import os
import re
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from app.commands.open_session import StopSignals
from app.grammar.eval import EvalArguments
from app.grammar.parser import Arguments
from app.wording import count

if TYPE_CHECKING:
    from sala_core.evals import Endpoint, EvalDone, EvalProgress, LocalModel, Row, SampleDone

_OUT = Path("eval-results")
_PROGRESS_S = 10.0


def evaluate(arguments: Arguments, _folder: Path) -> int:
    """Run it; 0, or 128 plus the signal that stopped it. Raises SalaError."""
    asked = arguments.eval
    assert asked is not None
    from sala_core.evals import EvalDone, EvalPlan, SampleDone, TextSource
    from sala_core.evals import evaluate as run

    plan = EvalPlan(
        suite=asked.suite,
        lengths=asked.lengths,
        samples=asked.samples,
        seed=asked.seed,
        shared=asked.shared,
        tasks=asked.tasks,
        max_tokens=asked.max_tokens,
        texts=TextSource(asked.text),
    )
    out = asked.out or _OUT / re.sub(r"[^\w.-]+", "-", arguments.model).strip("-.")
    model = _endpoint(arguments, asked) if asked.endpoint else _local(arguments, asked)
    progress = _Progress()
    with StopSignals() as stop:
        for event in run(model, plan, out, restart=asked.restart, should_stop=stop.is_set):
            if isinstance(event, EvalDone):
                print(summary_text(event), flush=True)
            elif isinstance(event, SampleDone):
                print(sample_text(event), flush=True)
            else:
                progress.show(event)
        if stop.is_set():
            print("Stopped. Run the same command again to continue.", flush=True)
    return stop.exit_code


def _local(arguments: Arguments, asked: EvalArguments) -> LocalModel:
    from sala_core import Engine
    from sala_core.evals import LocalModel

    engine = Engine.load(arguments.model, device=arguments.device, kv=arguments.kv_kind)
    return LocalModel(engine, max_tokens=asked.max_tokens, verbatim=asked.verbatim)


def _endpoint(arguments: Arguments, asked: EvalArguments) -> Endpoint:
    from sala_core.evals import Access, Endpoint, PeerTokens
    from sala_core.model.checkpoint import resolve_model

    access = Access(
        url=asked.endpoint or "",
        model=arguments.model,
        api_key=os.environ.get(asked.api_key_variable) or None,
        timeout_s=asked.timeout,
    )
    named = asked.tokenizer or arguments.model
    folder = Path(named) if (Path(named) / "tokenizer.json").is_file() else resolve_model(named)
    return Endpoint(access, PeerTokens(folder), max_tokens=asked.max_tokens)


def sample_text(event: SampleDone) -> str:
    """One line: what was asked where, and how it went."""
    from sala_core.text.lengths import length_name

    record = event.record
    parts = [f"{record.get('label') or record['task']} {length_name(record['length'])} #{record['index']}"]
    if "bins" in record:
        parts.append(f"{record['bins'][-1]['nats']:.3f} nats a token in the last bin")
    else:
        parts += [f"{name} {value:.2f}" for name, value in record["scores"].items()]
        if record["depth"] is not None:
            parts.append(f"depth {record['depth']:.0%}")
        if record["evidence"]:
            parts.append(f"evidence {record['evidence']['share']:.0%}")
    return ", ".join([*parts, f"{record['seconds']:.1f} s", f"{count(event.left)} left"])


def summary_text(done: EvalDone) -> str:
    """The table and where the files are."""
    lines = [_row_text(row) for row in done.rows]
    files = [str(done.table), *([str(done.picture)] if done.picture else [])]
    return "\n".join([*lines, f"Written: {', '.join(files)}"])


def _row_text(row: Row) -> str:
    from sala_core.text.lengths import length_name

    interval = f"({row.low:.3f} to {row.high:.3f})"
    return (
        f"{row.task:24} {length_name(row.length):>6}  {row.metric:16} {row.mean:7.3f} {interval:>19}  n {count(row.n)}"
    )


class _Progress:
    """Says on stderr how far a long reading is."""

    def __init__(self) -> None:
        self._next = time.monotonic() + _PROGRESS_S

    def show(self, event: EvalProgress) -> None:
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + _PROGRESS_S
        share = f"{count(event.tokens_done)} of {count(event.tokens_total)} tokens read"
        print(f"{event.task}: {share}", file=sys.stderr, flush=True)
