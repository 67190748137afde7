"""`python -m sala_core.doctor FILE GROUP EXAMINATION`: runs one group of checks.

`sala_core.doctor.child` starts it. GROUP and EXAMINATION are JSON objects. Each outcome is a line of JSON in FILE, so
that a crash loses none that came before it.
"""

import json
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from sala_core.doctor.groups import Group
from sala_core.doctor.records import Examination, Outcome, failed, not_possible
from sala_core.errors import MemoryBudgetError, SalaError


def main() -> int:
    """Run the group; returns the exit code."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # on Ctrl-C the parent process ends this one
    file, group, examination = Path(sys.argv[1]), *map(json.loads, sys.argv[2:])
    began = time.monotonic()
    with file.open("a", encoding="utf-8") as lines:
        for outcome in outcomes(Group.from_json(group), Examination.from_json(examination)):
            now = time.monotonic()
            lines.write(json.dumps({**outcome.to_json(), "seconds": now - began}) + "\n")
            lines.flush()
            began = now
    return 0


def outcomes(group: Group, examination: Examination) -> Iterator[Outcome]:
    """The outcomes of a group. An error of the program's own tree is the outcome of the check that raised it."""
    left = list(group.names)
    try:
        for outcome in group.run(examination):
            left.remove(outcome.name)
            yield outcome
    except (MemoryBudgetError, RuntimeError) as error:
        if not isinstance(error, MemoryBudgetError) and not _is_out_of_memory(error):
            raise
        yield from (not_possible(name, str(error).partition("\n")[0]) for name in left)
        return
    except SalaError as error:
        reason, _, step = str(error).rpartition("; ")
        yield failed(left.pop(0), reason or str(error), step if reason else "attach this report to a bug report")
    for name in left:
        yield Outcome(name=name, status="not run", reason="a check that comes before it did not succeed")


def _is_out_of_memory(error: RuntimeError) -> bool:
    from sala_core.engine.memory_plan import is_out_of_memory  # loads torch, which not all groups need

    return is_out_of_memory(error)


if __name__ == "__main__":
    sys.exit(main())
