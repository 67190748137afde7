"""The jobs of a measuring process. Options and records are JSON values.

Each job imports only what it needs: with torch and the kernels alone, all jobs but saving and prompt lookup run.
"""

from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any

import torch

Records = Iterator[dict[str, Any]]


def machine(device: str, dtype: str, shrink: int = 1) -> Records:
    """One record: the machine and its measured ceilings."""
    from sala_core.bench.kernels.ceilings import measure_ceilings
    from sala_core.bench.machine import Machine

    torch_device = torch.device(device)
    ceilings = measure_ceilings(torch_device, getattr(torch, dtype), shrink=shrink)
    yield {"machine": Machine.here(torch_device).to_dict(), "ceilings": ceilings.to_dict()}


def answer(**options: Any) -> Records:
    """One row: prefill and decoding of an `AnswerJob`."""
    from sala_core.bench.models.answer_job import AnswerJob
    from sala_core.bench.models.answers import measure_answer

    yield asdict(measure_answer(AnswerJob(**options)))


def saving(**options: Any) -> Records:
    """Prefill with and without segments written to disk."""
    from sala_core.bench.models.answer_job import AnswerJob
    from sala_core.bench.models.saving import measure_saving

    yield from (asdict(row) for row in measure_saving(AnswerJob(**options)))


def speculation(**options: Any) -> Records:
    """Decoding with and without drafts: prompt lookup with the embedded model, forced drafts with random weights."""
    from sala_core.bench.models.answer_job import AnswerJob

    job = AnswerJob(**options)
    if job.size == "embedded":
        from sala_core.bench.models.prompt_lookup import measure_prompt_lookup as measure
    else:
        from sala_core.bench.models.forced_drafts import measure_forced_drafts as measure
    yield from (asdict(row) for row in measure(job))


def kernels(**options: Any) -> Records:
    """One row for every implementation of every operation."""
    from sala_core.bench.kernels.measure import measure_kernels

    yield from measure_kernels(**options)


def peer(**options: Any) -> Records:
    """One row: an engine of `bench peers` at one length."""
    from sala_core.bench.peers.jobs import PeerJob, measure_peer

    yield asdict(measure_peer(PeerJob(**options)))


JOBS: dict[str, Callable[..., Records]] = {
    "machine": machine,
    "answer": answer,
    "saving": saving,
    "speculation": speculation,
    "kernels": kernels,
    "peer": peer,
}
