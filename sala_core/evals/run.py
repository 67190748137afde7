"""Runs a suite: missing samples, then the table and the plot. Samples on disk are not made again."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Protocol

from sala_core.errors import EvalError
from sala_core.evals.local import LocalModel
from sala_core.evals.plots import draw_heat_map, draw_losses
from sala_core.evals.records import (
    EvalProgress,
    Question,
    Reading,
    Reply,
    SampleDone,
    SampleSpec,
    Task,
    TokenCounter,
)
from sala_core.evals.results import Results
from sala_core.evals.suites.absent import ABSENT
from sala_core.evals.suites.mrcr import MRCR
from sala_core.evals.suites.nolima import NOLIMA
from sala_core.evals.suites.perplexity import measure_losses, summarize_losses
from sala_core.evals.suites.quote import QUOTE
from sala_core.evals.suites.ruler import RULER
from sala_core.evals.summary import Row, summarize, write_csv
from sala_core.evals.texts import TextSource
from sala_core.events import PromptProgress
from sala_core.stopping import never
from sala_core.text.lengths import length_name

SUITES: dict[str, tuple[Task, ...]] = {
    "ruler": RULER,
    "mrcr": MRCR,
    "nolima": NOLIMA,
    "quote": QUOTE,
    "absent": ABSENT,
    "ppl": (),
}
"""The tasks of each suite. `ppl` has none: it measures the loss of a text."""


class EvalModel(TokenCounter, Protocol):
    """A model under evaluation, local or behind a server."""

    name: str

    def identity(self) -> dict[str, str]:
        """The settings that name the model. Samples of other ones are not mixed with these."""
        ...

    def answers(
        self, reading: Reading, questions: Sequence[Question], should_stop: Callable[[], bool]
    ) -> Iterator[PromptProgress | Reply]:
        """Prefill, then answer each question. Ends early once `should_stop` returns true."""
        ...


@dataclass(frozen=True, kw_only=True)
class EvalPlan:
    """What to measure. Raises EvalError for unknown names and counts below 1.

    samples: questions per row of the table and length.
    shared: questions per row that share one reading; 1 prefills for every question.
    tasks: names of tasks; () takes the whole suite.
    max_tokens: limit of every answer; None takes each task's own.
    """

    suite: str
    lengths: tuple[int, ...] = (4096,)
    samples: int = 20
    seed: int = 0
    shared: int = 5
    tasks: tuple[str, ...] = ()
    max_tokens: int | None = None
    texts: TextSource = field(default_factory=TextSource)

    def __post_init__(self) -> None:
        if self.suite not in SUITES:
            raise EvalError(f"there is no suite {self.suite!r}; choose from {', '.join(SUITES)}")
        names = [task.name for task in SUITES[self.suite]]
        unknown = sorted(set(self.tasks) - set(names))
        if unknown:
            raise EvalError(f"{self.suite} has no task {unknown[0]!r}; choose from {', '.join(names) or 'none'}")
        for name in ("samples", "shared"):
            if getattr(self, name) < 1:
                raise EvalError(f"{name} must be at least 1, found {getattr(self, name)}")

    @property
    def chosen(self) -> list[Task]:
        """The chosen tasks, in the order of the suite."""
        return [task for task in SUITES[self.suite] if not self.tasks or task.name in self.tasks]

    def settings(self, model: EvalModel) -> dict[str, Any]:
        """What a sample depends on besides its task, length and index."""
        shared = {} if self.suite == "ppl" else {"shared": self.shared, "max_tokens": self.max_tokens}
        return {
            "seed": self.seed,
            "text": self.texts.name,
            "text_hash": self.texts.digest,
            **shared,
            **model.identity(),
        }


@dataclass(frozen=True, kw_only=True)
class EvalDone:
    """The end of a run, with the files on disk. picture: None if there is nothing to plot."""

    rows: tuple[Row, ...]
    table: Path
    picture: Path | None
    stopped: bool


Event = EvalProgress | SampleDone | EvalDone


def evaluate(
    model: EvalModel,
    plan: EvalPlan,
    out: Path,
    *,
    restart: bool = False,
    should_stop: Callable[[], bool] = never,
) -> Iterator[Event]:
    """Make the missing samples of a plan, then the table and the plot of all samples in the folder.

    Each sample is on disk before the next one begins. A second call with the same settings continues after the last
    sample; it may ask for more samples, lengths or tasks. The table is also written if the iterator is closed early.

    Args:
        model: the model under evaluation.
        plan: what to measure.
        out: folder of the results.
        restart: delete the suite's samples in `out` first.
        should_stop: polled between chunks and tokens; once true, the run ends.

    Raises:
        EvalError, MemoryBudgetError, DiskFullError.
    """
    if plan.suite == "ppl" and not isinstance(model, LocalModel):
        raise EvalError("ppl needs the probabilities of every token, which a chat endpoint does not give")
    with Results(out, plan.suite, plan.settings(model), restart=restart) as results:
        run = _measure_losses if plan.suite == "ppl" else _ask_questions
        try:
            yield from run(model, plan, results, should_stop)
        finally:
            done = _summarize(model.name, plan.suite, results, stopped=should_stop())
        yield done


def _ask_questions(
    model: EvalModel, plan: EvalPlan, results: Results, should_stop: Callable[[], bool]
) -> Iterator[EvalProgress | SampleDone]:
    on_disk = {(record["task"], record["length"], record["index"]) for record in results.records}
    missing = [
        (task, length, index)
        for length in sorted(set(plan.lengths))
        for task in plan.chosen
        for index in range(plan.samples * max(1, len(task.labels)))
        if (task.name, length, index) not in on_disk
    ]
    left = len(missing)
    groups: dict[tuple[str, int, int], tuple[Task, list[int]]] = {}
    for task, length, index in missing:
        group = index // _group_size(task, plan)
        groups.setdefault((task.name, length, group), (task, []))[1].append(index)
    for (_, length, group), (task, indices) in groups.items():
        reading = make_reading(plan, task, length, group, model)
        first = group * _group_size(task, plan)
        questions = [reading.questions[index - first] for index in indices]
        unanswered = iter(zip(indices, questions, strict=True))
        for event in model.answers(reading, questions, should_stop):
            if isinstance(event, PromptProgress):
                yield EvalProgress(task=task.name, tokens_done=event.tokens_done, tokens_total=event.tokens_total)
                continue
            index, question = next(unanswered)
            left -= 1
            record = _record(plan, task, length, index, question, event)
            results.add(record)
            yield SampleDone(record=record, left=left)
        if should_stop():
            return


def make_reading(plan: EvalPlan, task: Task, length: int, group: int, counter: TokenCounter) -> Reading:
    """Build reading number `group` of a task. Equal arguments give equal readings.

    Args:
        plan: gives suite, seed, text and the number of questions that share a reading.
        task: makes the reading.
        length: tokens of the prompt.
        group: its questions are those from index `group` * (questions per reading) on.
        counter: counts tokens for the model.

    Raises:
        EvalError: the length is too short for the task, or the text does not fit it.
    """
    size = _group_size(task, plan)
    spec = SampleSpec(
        rng=Random(f"{plan.suite}/{task.name}/{length}/{group}/{plan.seed}"),
        length=length,
        first=group * size,
        num_questions=size,
        counter=counter,
        texts=plan.texts,
    )
    try:
        return task.make(spec)
    except EvalError as error:
        raise EvalError(f"{task.name} at {length_name(length)}: {error}") from error


def _group_size(task: Task, plan: EvalPlan) -> int:
    """Questions per reading."""
    return max(1, len(task.labels)) * min(plan.shared, task.max_shared)


def _record(plan: EvalPlan, task: Task, length: int, index: int, question: Question, reply: Reply) -> Mapping[str, Any]:
    evidence = reply.evidence if task.evidence else None
    return {
        "suite": plan.suite,
        "task": task.name,
        "label": question.label,
        "length": length,
        "index": index,
        "seed": plan.seed,
        "question": question.text,
        "gold": list(question.gold),
        "answer": reply.text,
        "depth": question.depth,
        "scores": {name: round(value, 5) for name, value in task.score(question, reply.text).items()},
        "evidence": {"rank": evidence.rank, "share": round(evidence.share, 4)} if evidence else None,
        "prompt_tokens": reply.prompt_tokens,
        "answer_tokens": reply.answer_tokens,
        "finish": reply.reason,
        "seconds": round(reply.seconds, 3),
        "read_seconds": round(reply.read_s, 3),
        "time": round(time.time()),
    }


def _measure_losses(
    model: EvalModel, plan: EvalPlan, results: Results, should_stop: Callable[[], bool]
) -> Iterator[EvalProgress | SampleDone]:
    assert isinstance(model, LocalModel), "checked by evaluate"
    on_disk = {(record["length"], record["index"]) for record in results.records}
    missing = [
        (length, index)
        for length in sorted(set(plan.lengths))
        for index in range(plan.samples)
        if (length, index) not in on_disk
    ]
    for done, (length, index) in enumerate(missing, 1):
        rng = Random(f"ppl/{length}/{index}/{plan.seed}")
        for event in measure_losses(model.engine, plan.texts, rng, length, should_stop):
            if isinstance(event, EvalProgress):
                yield event
                continue
            record = {"suite": "ppl", "task": "ppl", "length": length, "index": index, "seed": plan.seed, **event}
            results.add(record)
            yield SampleDone(record=record, left=len(missing) - done)
        if should_stop():
            return


def _summarize(name: str, suite: str, results: Results, *, stopped: bool) -> EvalDone:
    """Write the table and the plot of all samples on disk."""
    rows = summarize_losses(results.records) if suite == "ppl" else summarize(suite, results.records)
    table, picture = results.folder / f"{suite}.csv", results.folder / f"{suite}.png"
    write_csv(table, rows)
    title = f"{suite}: {Path(name).name or name}"
    plot = draw_losses(picture, title, rows) if suite == "ppl" else draw_heat_map(picture, title, results.records)
    return EvalDone(rows=tuple(rows), table=table, picture=plot, stopped=stopped)
