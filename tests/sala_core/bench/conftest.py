"""Stand-ins for the measuring processes: no process is started, its records are made up."""

from collections.abc import Callable

import pytest

from sala_core.bench import child

FACTS = {
    "machine": {"hardware": "CPU test", "driver": "", "torch": "2", "triton": "", "commit": "c", "date": "d"},
    "ceilings": {"bytes_per_s": 1e9, "flops_per_s": 1e12, "dtype": "float32"},
}


@pytest.fixture
def facts() -> dict[str, dict[str, object]]:
    """A machine and its ceilings."""
    return FACTS


@pytest.fixture
def children(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list]:
    """children(answer): answer(job, options) yields a child's records. Returns the list of (job, options) started."""
    started = []

    def install(answer: Callable) -> list:
        def records(job: str, **options: object):
            started.append((job, options))
            if job == "machine":
                yield FACTS
            else:
                yield from answer(job, options)

        monkeypatch.setattr(child, "records", records)
        return started

    return install
