"""What a measuring process can be asked for: by name and plain options, to plain records.

Each job imports what it needs and no more: a bare machine with torch can measure all but saving and quoting.
"""

from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any

import torch

Records = Iterator[dict[str, Any]]


def machine(device: str, dtype: str, shrink: int = 1) -> Records:
    """The machine and its ceilings."""
    from sala_core.bench.kernels.ceilings import measure_ceilings
    from sala_core.bench.machine import Machine

    place = torch.device(device)
    ceilings = measure_ceilings(place, getattr(torch, dtype), shrink=shrink)
    yield {"machine": Machine.here(place).to_dict(), "ceilings": ceilings.to_dict()}


def answer(**options: Any) -> Records:
    """One `AnswerJob`."""
    from sala_core.bench.models.answers import AnswerJob, measure_answer

    yield asdict(measure_answer(AnswerJob(**options)))


def saving(**options: Any) -> Records:
    """Reading with and without segments written to disk."""
    from sala_core.bench.models.answers import AnswerJob
    from sala_core.bench.models.saving import measure_saving

    yield from (asdict(row) for row in measure_saving(AnswerJob(**options)))


def speculation(**options: Any) -> Records:
    """Decoding with and without drafts: quoting for real at embedded size, forced with random weights."""
    from sala_core.bench.models.answers import AnswerJob

    job = AnswerJob(**options)
    if job.size == "embedded":
        from sala_core.bench.models.verbatim import measure_quoting as measure
    else:
        from sala_core.bench.models.speculation import measure_speculation as measure
    yield from (asdict(row) for row in measure(job))


def kernels(**options: Any) -> Records:
    """Operations one by one."""
    from sala_core.bench.kernels.times import kernel_records

    yield from kernel_records(**options)


JOBS: dict[str, Callable[..., Records]] = {
    "machine": machine,
    "answer": answer,
    "saving": saving,
    "speculation": speculation,
    "kernels": kernels,
}
