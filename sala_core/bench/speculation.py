"""Placeholder."""

from collections.abc import Iterator

from sala_core.bench.answers import AnswerJob
from sala_core.bench.records import ModelRow


def measure_speculation(job: AnswerJob) -> Iterator[ModelRow]:
    yield from ()
