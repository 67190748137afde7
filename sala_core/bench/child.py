"""Runs every measurement in its own process, so that no measurement affects the next one.

Each process has a fresh allocator, its own peak memory, and a CUDA context without earlier errors. On a card this costs
some seconds per measurement: the import of torch, the context, and kernels from Triton's cache on disk.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

OUT_OF_MEMORY_CODE = 3
_KILLED = -9


class ChildOutOfMemory(Exception):
    """The measurement needs more memory than there is."""


class ChildFailed(Exception):
    """The process of the measurement failed. Its stderr, which is not captured, has the reason."""


def records(job: str, **options: Any) -> Iterator[dict[str, Any]]:
    """Run a job of `sala_core.bench.jobs` in a new process; yields its records as they are printed.

    Closing the iterator kills the process. Raises ChildOutOfMemory, ChildFailed.
    """
    command = [sys.executable, "-m", "sala_core.bench", job, json.dumps(options)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, encoding="utf-8")
    assert process.stdout is not None
    try:
        for line in process.stdout:
            if line.startswith("{"):
                yield json.loads(line)
            else:  # a library printed it
                sys.stderr.write(line)
        code = process.wait()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        process.stdout.close()
    if code in (OUT_OF_MEMORY_CODE, _KILLED):
        raise ChildOutOfMemory
    if code:
        raise ChildFailed(f"exit code {code}")


def record(job: str, **options: Any) -> dict[str, Any]:
    """The only record of a job. Raises like `records`."""
    all_records = list(records(job, **options))
    if len(all_records) != 1:
        raise ChildFailed(f"{len(all_records)} records")
    return all_records[0]
