"""`eval`: runs a long-context suite on a local model or behind an endpoint. Every sample is written at once."""

from __future__ import annotations

import os
import re
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from app.commands.load_lines import LoadLines
from app.commands.open_session import StopSignals
from app.grammar.development.eval import EvalArguments
from app.grammar.parser import Arguments
from app.wording import count

if TYPE_CHECKING:
    from sala_core.evals import Endpoint, EvalDone, EvalProgress, LocalModel, Row, SampleDone

_OUT = Path("eval-results")
_PROGRESS_S = 10.0


def evaluate(arguments: Arguments, _folder: Path) -> int:
    """Run the suite. Returns 0, or 128 plus the number of the signal that stopped it. Raises SalaError."""
    options = arguments.eval
    assert options is not None
    if options.suite == "natural":
        from app.commands.evals.natural import natural

        return natural(options)
    from sala_core.evals import EvalDone, EvalPlan, SampleDone, TextSource
    from sala_core.evals import evaluate as run

    plan = EvalPlan(
        suite=options.suite,
        lengths=options.lengths,
        samples=options.samples,
        seed=options.seed,
        shared=options.shared,
        tasks=options.tasks,
        max_tokens=options.max_tokens,
        texts=TextSource(options.text),
    )
    out = options.out or _OUT / re.sub(r"[^\w.-]+", "-", arguments.model).strip("-.")
    model = _endpoint(arguments, options) if options.endpoint else _local(arguments, options)
    progress = _Progress()
    with StopSignals() as stop:
        for event in run(model, plan, out, restart=options.restart, should_stop=stop.is_set):
            if isinstance(event, EvalDone):
                print(summary_text(event), flush=True)
            elif isinstance(event, SampleDone):
                print(sample_text(event), flush=True)
            else:
                progress.show(event)
        if stop.is_set():
            print("Stopped. Run the same command again to continue.", flush=True)
    return stop.exit_code


def _local(arguments: Arguments, options: EvalArguments) -> LocalModel:
    from sala_core import Engine
    from sala_core.evals import LocalModel

    with LoadLines() as lines:
        engine = Engine.load(
            arguments.model, arguments.device, kv=arguments.kv_kind, bos=arguments.bos_choice, report=lines.show
        )
    return LocalModel(engine, max_tokens=options.max_tokens, verbatim=options.verbatim, think=options.think)


def _endpoint(arguments: Arguments, options: EvalArguments) -> Endpoint:
    from sala_core.evals import Access, Endpoint, PeerTokens
    from sala_core.model.checkpoint import resolve_model

    access = Access(
        url=options.endpoint or "",
        model=arguments.model,
        api_key=os.environ.get(options.api_key_variable) or None,
        timeout_s=options.timeout,
    )
    name = options.tokenizer or arguments.model
    folder = Path(name) if (Path(name) / "tokenizer.json").is_file() else resolve_model(name)
    return Endpoint(access, PeerTokens(folder), max_tokens=options.max_tokens)


def sample_text(event: SampleDone) -> str:
    """One line about a sample: task, length, index, scores, depth, evidence and time."""
    from sala_core.text.lengths import length_name

    record = event.record
    parts = [f"{record.get('label') or record['task']} {length_name(record['length'])} #{record['index']}"]
    if "bins" in record:
        parts.append(f"{record['bins'][-1]['nats']:.3f} nats per token in the last bin")
    else:
        parts += [f"{name} {value:.2f}" for name, value in record["scores"].items()]
        if record["depth"] is not None:
            parts.append(f"depth {record['depth']:.0%}")
        if record["evidence"]:
            parts.append(f"evidence {record['evidence']['share']:.0%}")
    return ", ".join([*parts, f"{record['seconds']:.1f} s", f"{count(event.left)} left"])


def summary_text(done: EvalDone) -> str:
    """The table and the names of the files."""
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
    """Prints the progress of a long prefill on stderr."""

    def __init__(self) -> None:
        self._next = time.monotonic() + _PROGRESS_S

    def show(self, event: EvalProgress) -> None:
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + _PROGRESS_S
        share = f"{count(event.tokens_done)} of {count(event.tokens_total)} tokens read"
        print(f"{event.task}: {share}", file=sys.stderr, flush=True)
