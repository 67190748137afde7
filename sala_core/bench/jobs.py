"""What a measuring process can be asked for: by name and plain options, to plain records."""

from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any

import torch

from sala_core.bench.answers import AnswerJob, measure_answer
from sala_core.bench.ceilings import measure_ceilings
from sala_core.bench.kernel_times import kernel_records
from sala_core.bench.machine import Machine
from sala_core.bench.quoting import measure_quoting
from sala_core.bench.saving import measure_saving
from sala_core.bench.speculation import measure_speculation

Records = Iterator[dict[str, Any]]


def machine(device: str, dtype: str, shrink: int = 1) -> Records:
    """The machine and its ceilings."""
    place = torch.device(device)
    ceilings = measure_ceilings(place, getattr(torch, dtype), shrink=shrink)
    yield {"machine": Machine.here(place).to_dict(), "ceilings": ceilings.to_dict()}


def answer(**options: Any) -> Records:
    """One `AnswerJob`."""
    yield asdict(measure_answer(AnswerJob(**options)))


def saving(**options: Any) -> Records:
    """Reading with and without segments written to disk."""
    yield from (asdict(row) for row in measure_saving(AnswerJob(**options)))


def speculation(**options: Any) -> Records:
    """Decoding with and without drafts: quoting for real at embedded size, forced with random weights."""
    job = AnswerJob(**options)
    measure = measure_quoting if job.size == "embedded" else measure_speculation
    yield from (asdict(row) for row in measure(job))


def kernels(**options: Any) -> Records:
    """Operations one by one."""
    yield from kernel_records(**options)


JOBS: dict[str, Callable[..., Records]] = {
    "machine": machine,
    "answer": answer,
    "saving": saving,
    "speculation": speculation,
    "kernels": kernels,
}
