"""A process for every figure: what one leaves behind, or breaks, is not in the next one's way.

On a card this costs some seconds a figure (torch's import, the context, kernels from Triton's cache on disk) and gives
each a fresh allocator, its own peak, and a device that an earlier error has not poisoned.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

from sala_core.errors import SalaError

OUT_OF_MEMORY_CODE = 3
_KILLED = -9


class BenchError(SalaError):
    """A measurement cannot be made as asked."""


class ChildOutOfMemory(Exception):
    """The measurement needs more memory than there is."""


class ChildFailed(Exception):
    """The measurement ended with an error, told on stderr."""


def records(job: str, **options: Any) -> Iterator[dict[str, Any]]:
    """Run a job of `sala_core.bench.jobs` in a process of its own and yield its records as they come.

    Raises ChildOutOfMemory, ChildFailed. Closing the iterator ends the process.
    """
    command = [sys.executable, "-m", "sala_core.bench", job, json.dumps(options)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, encoding="utf-8")
    assert process.stdout is not None
    try:
        for line in process.stdout:
            if line.startswith("{"):
                yield json.loads(line)
            else:  # of a library that talks
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
    """The single record of a job. Raises as `records`."""
    found = list(records(job, **options))
    if len(found) != 1:
        raise ChildFailed(f"{len(found)} records")
    return found[0]
