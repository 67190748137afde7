"""A suite from its first sample to the table and the pictures; what was done before is not done again."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Literal, Protocol

from sala_core.engine.generate import PromptProgress
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
from sala_core.evals.suites.perplexity import measure, summarise_losses
from sala_core.evals.suites.quote import QUOTE
from sala_core.evals.suites.ruler import RULER
from sala_core.evals.summary import Row, summarise, write_csv
from sala_core.evals.texts import TextSource
from sala_core.text.lengths import length_name

SuiteName = Literal["ruler", "mrcr", "nolima", "quote", "absent", "ppl"]
SUITES: dict[str, tuple[Task, ...]] = {
    "ruler": RULER,
    "mrcr": MRCR,
    "nolima": NOLIMA,
    "quote": QUOTE,
    "absent": ABSENT,
    "ppl": (),
}
"""The tasks of each suite. `ppl` asks nothing."""


class EvalModel(TokenCounter, Protocol):
    """A model that can be asked."""

    name: str

    def identity(self) -> dict[str, str]:
        """What samples are bound to."""
        ...

    def answers(
        self, reading: Reading, questions: Sequence[Question], should_stop: Callable[[], bool]
    ) -> Iterator[PromptProgress | Reply]:
        """Read, then answer each question. Ends early where it is asked to stop."""
        ...


@dataclass(frozen=True, kw_only=True)
class EvalPlan:
    """What is to be measured. samples: questions of each row of the table at each length.

    shared: questions about one reading, of each row; 1 reads anew for each. tasks: () takes all of the suite.
    max_tokens: of every answer; None takes what each task gives. Raises EvalError.
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
        """The tasks, in the suite's order."""
        return [task for task in SUITES[self.suite] if not self.tasks or task.name in self.tasks]

    def settings(self, model: EvalModel) -> dict[str, Any]:
        """All that a sample depends on beside its task, length and index."""
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
    """The end: what is on disk. picture: None where no sample has a depth."""

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
    should_stop: Callable[[], bool] = lambda: False,
) -> Iterator[Event]:
    """Do what is missing of the plan and draw the table and the picture from all samples in the folder `out`.

    Each sample is on disk before the next begins; called again with the same settings, it goes on after the last one,
    also with more samples, lengths or tasks. Raises EvalError, MemoryBudgetError, DiskFullError.
    """
    if plan.suite == "ppl" and not isinstance(model, LocalModel):
        raise EvalError("ppl needs the probabilities of every token, which a chat endpoint does not give")
    with Results(out, plan.suite, plan.settings(model), restart=restart) as results:
        work = (_losses if plan.suite == "ppl" else _questions)(model, plan, results, should_stop)
        try:
            yield from work
        finally:
            done = _conclude(model.name, plan.suite, results, stopped=should_stop())
        yield done


def _questions(
    model: EvalModel, plan: EvalPlan, results: Results, should_stop: Callable[[], bool]
) -> Iterator[EvalProgress | SampleDone]:
    known = {(record["task"], record["length"], record["index"]) for record in results.records}
    wanted = [
        (task, length, index)
        for length in sorted(set(plan.lengths))
        for task in plan.chosen
        for index in range(plan.samples * max(1, len(task.labels)))
        if (task.name, length, index) not in known
    ]
    left = len(wanted)
    groups: dict[tuple[str, int, int], tuple[Task, list[int]]] = {}
    for task, length, index in wanted:
        group = index // _group_size(task, plan)
        groups.setdefault((task.name, length, group), (task, []))[1].append(index)
    for (_, length, group), (task, indices) in groups.items():
        reading = make_reading(plan, task, length, group, model)
        first = group * _group_size(task, plan)
        asked = [reading.questions[index - first] for index in indices]
        todo = iter(zip(indices, asked, strict=True))
        for event in model.answers(reading, asked, should_stop):
            if isinstance(event, PromptProgress):
                yield EvalProgress(task=task.name, tokens_done=event.tokens_done, tokens_total=event.tokens_total)
                continue
            index, question = next(todo)
            left -= 1
            record = _record(plan, task, length, index, question, event)
            results.add(record)
            yield SampleDone(record=record, left=left)
        if should_stop():
            return


def make_reading(plan: EvalPlan, task: Task, length: int, group: int, counter: TokenCounter) -> Reading:
    """The reading with the questions group * size ... of a task; the same for the same arguments. Raises EvalError."""
    size = _group_size(task, plan)
    order = SampleSpec(
        rng=Random(f"{plan.suite}/{task.name}/{length}/{group}/{plan.seed}"),
        length=length,
        first=group * size,
        num_questions=size,
        counter=counter,
        texts=plan.texts,
    )
    try:
        return task.make(order)
    except EvalError as error:
        raise EvalError(f"{task.name} at {length_name(length)}: {error}") from error


def _group_size(task: Task, plan: EvalPlan) -> int:
    return max(1, len(task.labels)) * min(plan.shared, task.max_shared)


def _record(plan: EvalPlan, task: Task, length: int, index: int, question: Question, reply: Reply) -> Mapping[str, Any]:
    seen = reply.seen if task.evidence else None
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
        "evidence": {"rank": seen.rank, "share": round(seen.share, 4)} if seen else None,
        "prompt_tokens": reply.prompt_tokens,
        "answer_tokens": reply.answer_tokens,
        "finish": reply.reason,
        "seconds": round(reply.seconds, 3),
        "read_seconds": round(reply.read_s, 3),
        "time": round(time.time()),
    }


def _losses(
    model: EvalModel, plan: EvalPlan, results: Results, should_stop: Callable[[], bool]
) -> Iterator[EvalProgress | SampleDone]:
    assert isinstance(model, LocalModel), "checked by evaluate"
    known = {(record["length"], record["index"]) for record in results.records}
    wanted = [
        (length, index)
        for length in sorted(set(plan.lengths))
        for index in range(plan.samples)
        if (length, index) not in known
    ]
    for done, (length, index) in enumerate(wanted, 1):
        rng = Random(f"ppl/{length}/{index}/{plan.seed}")
        for event in measure(model.engine, plan.texts, rng, length, should_stop):
            if isinstance(event, EvalProgress):
                yield event
                continue
            record = {"suite": "ppl", "task": "ppl", "length": length, "index": index, "seed": plan.seed, **event}
            results.add(record)
            yield SampleDone(record=record, left=len(wanted) - done)
        if should_stop():
            return


def _conclude(name: str, suite: str, results: Results, *, stopped: bool) -> EvalDone:
    """Write the table and draw the picture of all samples there are."""
    rows = summarise_losses(results.records) if suite == "ppl" else summarise(suite, results.records)
    table, picture = results.folder / f"{suite}.csv", results.folder / f"{suite}.png"
    write_csv(table, rows)
    title = f"{suite}: {Path(name).name or name}"
    drawn = draw_losses(picture, title, rows) if suite == "ppl" else draw_heat_map(picture, title, results.records)
    return EvalDone(rows=tuple(rows), table=table, picture=drawn, stopped=stopped)
